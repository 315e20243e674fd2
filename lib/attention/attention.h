// Infini-attention of one layer over a span of tokens that lie in one segment: retrieve, attend locally,
// mix, and, when the segment closes, update. The equations stand in equations.h; this is their fast path.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "attention/rope.h"
#include "attention/window.h"
#include "gemm/gemm.h"
#include "memory/memory.h"

namespace infini {

// What one layer does. A layer with a window of its own (shape.window) has a carry of as many tokens less one, no sinks
// and no memory.
struct AttentionRules {
  AttentionShape shape;
  Rope rope;
  const MemoryKind *memory = &default_memory();
  bool first_gated = true;  // an empty memory counts as A_mem = 0; else the gate is skipped
  float epsilon = kMemoryEpsilon;
  float scale = 0;     // of scores; 0: 1 / sqrt(key_size)
  float soft_cap = 0;  // scores become cap * tanh(score / cap); 0: they stay
  float score_scale() const { return scale > 0 ? scale : 1 / std::sqrt(static_cast<float>(shape.key_size)); }
};

// One layer's part of a session.
struct LayerState {
  LayerState(const AttentionRules &rules, const float *gate_weight);
  LayerState(Window w, std::vector<Memory> m) : window(std::move(w)), memory(std::move(m)) {}
  LayerState copy(const View &view) const;
  Window window;
  std::vector<Memory> memory;  // [kv_heads]; empty where no query head reads it
};

// One token's q [heads][key_size], k [kv_heads][key_size], v [kv_heads][value_size] in a row, f32; or their gradients.
template <class Float>
struct QkvRowsOf {
  Float *data;
  int64_t stride;

  Float *q(const AttentionShape &shape, int64_t row, int head) const { return at(row, head * shape.key_size); }
  Float *k(const AttentionShape &shape, int64_t row, int kv_head) const {
    return at(row, shape.q_columns() + kv_head * shape.key_size);
  }
  Float *v(const AttentionShape &shape, int64_t row, int kv_head) const {
    return at(row, shape.q_columns() + shape.k_columns() + kv_head * shape.value_size);
  }

 private:
  Float *at(int64_t row, int64_t column) const { return data + row * stride + column; }
};
using QkvRows = QkvRowsOf<const float>;

// What attend() and close_segment() compute in: numbers for a tile of queries, once for each thread.
class AttentionScratch {
 public:
  // Enough for `threads` threads and spans of `tokens` tokens.
  void reserve(const AttentionShape &shape, int threads, int64_t tokens);
  int64_t bytes() const { return static_cast<int64_t>(numbers_.bytes() + partial_.bytes()); }
  float *of_thread(int thread) { return numbers_.data() + thread * per_thread_; }
  static int64_t fold_size(const AttentionShape &shape);  // numbers that close_segment() wants of a thread

 private:
  friend class AttentionSpan;
  Buffer<float> numbers_;  // [threads][per_thread_]
  Buffer<float> partial_;  // softmaxes over tiles of keys, where several threads share the keys of one query
  int64_t per_thread_ = 0;
};

// Tokens that all lie in the open segment of `view`, the first at view.position, and where what is read of them goes.
struct TokenSpan {
  const View &view;
  int64_t tokens;
  QkvRows qkv;
  const float *cosine, *sine;          // [tokens][rope.dimensions / 2]
  const float *gate_weight;            // [heads], sigmoid(beta)
  const float *keep_bias;              // [heads]: KeepProbe::bias; may be null
  std::span<const RaisedSpan> raised;  // what keep_bias raises: see Keep::raised()
  void *out;                           // [tokens][heads * value_size], of shape.type: A of (10), heads concatenated
  int64_t out_stride;                  // numbers between rows of `out`
};
// exact: a token's numbers do not depend on what else is in the span.
void attend(const Threads &threads, const AttentionRules &rules, const Gemm &gemm, LayerState &layer,
            const TokenSpan &span, bool exact, AttentionScratch &scratch);

// Folds the open segment of `view` into the layer's memories and moves its window on, to where `closing` says.
void close_segment(const Threads &threads, const AttentionRules &rules, LayerState &layer, const View &view,
                   const Closing &closing, FrontAngles &angles, AttentionScratch &scratch);

}  // namespace infini
