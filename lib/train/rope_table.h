// A table of rotary position embeddings, since training rotates by the same few indices of a window again and again.
#pragma once

#include "attention/attention.h"
#include "base/buffer.h"

namespace infini {

// Rotations by every index that a key may have in the window.
class RopeTable {
 public:
  void prepare(const AttentionRules &rules);
  // A head of `size` rotated by `index`, times `scale`; y is not x.
  void rotate(const float *x, int64_t size, int64_t index, float scale, float *y) const {
    rotate(x, size, index, scale, y, sine_);
  }
  // The transpose of that, which gradients take.
  void rotate_gradient(const float *x, int64_t size, int64_t index, float scale, float *y) const {
    rotate(x, size, index, scale, y, minus_);
  }

 private:
  void rotate(const float *x, int64_t size, int64_t index, float scale, float *y, const Buffer<float> &sine) const;

  Rope rope_;
  int64_t stride_ = 0;
  Buffer<float> cosine_, sine_,
      minus_;  // [indices][stride]: of pairs, or, where they are adjacent, as rotate_pairs() has them
};

}  // namespace infini
