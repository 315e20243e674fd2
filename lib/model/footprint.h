// What methods hold for the past of a stream, by the formulas of the Infini-attention paper (section 4.1, table 1).
#pragma once

#include <cstdint>

#include "base/json.h"
#include "model/model.h"

namespace infini {

struct FootprintShape {
  int64_t layers, heads, kv_heads, key_size, value_size, width;
  int64_t segment;        // tokens; also the cache of Transformer-XL
  int64_t value_bytes;    // of a cached key, value or vector; a number of the compressive memory takes 4
  int64_t memory_layers;  // those without a window of their own, which the compressive memory is for
};

// The set-up of the paper's language models.
constexpr FootprintShape kPaperShape = {12, 8, 8, 128, 128, 1024, 2048, 4, 12};

// What each holds after so many tokens, as infini_paper_footprint_json writes it. INVALID_ARGUMENT for a number of
// tokens that is negative, or whose bytes cannot be counted.
JsonObject footprint(const FootprintShape &shape, int64_t tokens);
// The same of a model's shape, and the bytes of its windows by then.
JsonObject footprint(const Model &model, int64_t tokens);

}  // namespace infini
