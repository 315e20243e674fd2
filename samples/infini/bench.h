// What the kinds of benchmark share.
#pragma once

#include <algorithm>
#include <vector>

#include "ceiling.h"
#include "common.h"
#include "runs.h"

namespace cli {

struct TrainBench {
  std::string optimizer = "muon";
  int64_t segments = 16, tokens = 8192;
  double share = 1;  // of the tokens that are predicted
};

struct BenchArguments : ModelArguments {
  std::string depths = "0", folder = ".";
  int64_t runs = 5, generated = 32, batch = 0, chunk = 0;
  int threads = 0;
  bool snapshot = false, train = false;
  TrainBench training;
};

// The numbers of the model that its ceilings depend on.
struct Shape {
  int64_t layers, width, heads, kv_heads, key, value, hidden, vocabulary, segment, carry, sinks, memory_heads;
  int64_t weight_bytes;
  std::string compute, window_type;
  bool bf16;

  explicit Shape(const Json &info)
      : layers(info["layers"]), width(info["width"]), heads(info["heads"]), kv_heads(info["kv_heads"]),
        key(info["key_size"]), value(info["value_size"]), hidden(info["hidden"]), vocabulary(info["vocabulary"]),
        segment(info["segment"]), carry(info["carry"]), sinks(info["sinks"]), memory_heads(info["memory_heads"]),
        weight_bytes(info["weight_bytes"]), compute(info["compute"]), window_type(info["window_type"]),
        bf16(compute != "f32") {}

  int64_t number_bytes() const { return bf16 ? 2 : 4; }
  int64_t layer_weights() const {
    return width * (heads * key + kv_heads * (key + value)) + heads * value * width + 3 * width * hidden;
  }
  // Keys that local attention sees before position `at`, the open segment's own aside.
  int64_t seen_before(int64_t at) const {
    const int64_t start = at / segment * segment, window = std::max<int64_t>(0, start - carry);
    return start - window + std::min(sinks, window);
  }
  std::vector<ProductShape> projections(int64_t rows) const {
    return {{1, rows, width, heads * key + kv_heads * (key + value)},
            {1, rows, heads * value, width},
            {1, rows, width, 2 * hidden},
            {1, rows, hidden, width}};
  }
  // Of a token in view, of one KV head of a layer; int8 with two scales.
  int64_t window_bytes() const {
    if (window_type == "int8") return key + value + 8;
    return (key + value) * (window_type == "f32" ? 4 : 2);
  }
  // What one generated token reads, from position `at` on, on average over `count` tokens.
  double bytes_read(int64_t at, int64_t count) const {
    double seen = 0;
    for (int64_t i = at; i < at + count; ++i) seen += static_cast<double>(seen_before(i) + i % segment + 1);
    return static_cast<double>(weight_bytes + memory_heads * key * (value + 1) * 4) +
           seen / static_cast<double>(count) * static_cast<double>(layers * kv_heads * window_bytes());
  }
};

// infini bench --snapshot, at `depths` in rising order.
void bench_snapshot(const BenchArguments &arguments, const Options &of_model, const Options &options,
                    const std::vector<int64_t> &depths);

// infini bench --train: how fast a model is trained, beside what its matrix products alone would allow. Without a model
// one of 4 layers, width 256, 4 heads of 64, hidden 704, vocabulary 2048.
void bench_train(const BenchArguments &arguments, const Options &of_model, const Options &of_trainer);

}  // namespace cli
