// What methods hold for the past of a stream, by the formulas of the Infini-attention paper (section 4.1, table 1).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace infini {

struct FootprintShape {
  int64_t layers, heads, kv_heads, key_size, value_size, width;
  int64_t segment;        // tokens; also the cache of Transformer-XL
  int64_t value_bytes;    // of a cached key, value or vector; a number of the compressive memory takes 4
  int64_t memory_layers;  // those without a window of their own, which the compressive memory is for
};

struct Footprint {
  const char *method;
  int64_t values, bytes;
};

inline std::array<Footprint, 5> footprints(const FootprintShape &s, int64_t tokens) {
  constexpr int64_t kStore = 65000, kVectors = 100;  // the paper's kNN store, in one layer, and its RMT summaries
  const int64_t token = s.key_size + s.value_size;   // of one head of one layer
  const int64_t cache = token * s.heads * std::min(tokens, s.segment) * s.layers;
  const auto held = [&](const char *method, int64_t values) -> Footprint {
    return {method, values, values * s.value_bytes};
  };
  const int64_t memory = s.key_size * (s.value_size + 1) * s.kv_heads * s.memory_layers;
  return {held("kv_cache", token * s.kv_heads * tokens * s.layers),
          held("transformer_xl", cache),
          held("memorizing_transformer", cache + token * s.heads * std::min(tokens, kStore)),
          held("rmt", s.width * kVectors * s.layers * 2),
          {"infini_attention", memory, memory * 4}};
}

// The set-up of the paper's language models.
constexpr FootprintShape kPaperShape = {12, 8, 8, 128, 128, 1024, 2048, 4, 12};

}  // namespace infini
