// Gradients through the memory of one (stream, KV head), which the backward pass and supervision share.
#pragma once

#include "train/stream_forward.h"

namespace infini {

// d... is the gradient of the loss with respect to what follows the d.
class StreamGradient : public StreamForward {
 public:
  StreamGradient(const Threads &here, const LayerAttention &layer, int64_t item, float *dqkv, bool without_values)
      : StreamForward(here, layer, item, without_values), dqkv_{dqkv, layer.qkv.stride} {}

 protected:
  float *dkey(int64_t row) const { return dqkv_.k(shape_, row, kv_head_); }
  float *dvalue(int64_t row) const { return dqkv_.v(shape_, row, kv_head_); }
  float *dquery(int64_t row, int64_t g) const { return dqkv_.q(shape_, row, head(g)); }

  // Gradients of the keys and values that went into the memory, and of the memory before the segment.
  void fold_backward() {
    const FoldScratch scratch{{piece_memory_, keys_, values_},
                              {sums_, keys_, values_},
                              transposed_memory_,
                              transposed_gradient_,
                              dsigma_,
                              fold_gradient_};
    fold_gradient(
        kind_, closing(), segment_.repeat_weight, memory(index_), dmemory(), scratch,
        [&](int64_t first, int64_t count) { return load_fold(first, count); },
        [&](int64_t first, const FoldRows &rows) {
      for (int64_t t = 0; t < rows.count; ++t) {
        add_row(fold_gradient_, t, 1, values_, dvalue(segment_.first + first + t));
        add_sigma_gradient(t, dkey(segment_.first + first + t));
      }
        });
  }

  // Through sigma: adds row t of dsigma_ to the gradient of a query or key.
  void add_sigma_gradient(int64_t t, float *to) {
    each_panel(keys_, [&](int64_t p, int64_t n) {
      kind_.feature_gradient(sigma_.row(p, t), dsigma_.row(p, t), n, to + p * kPanel);
    });
  }

 private:
  const QkvRowsOf<float> dqkv_;
};

}  // namespace infini
