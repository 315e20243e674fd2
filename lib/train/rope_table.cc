#include "train/rope_table.h"

#include "kernels/gradients.h"

namespace infini {

void RopeTable::prepare(const AttentionRules &rules) {
  const Rope &rope = rules.rope;
  const int64_t indices = int64_t{rules.shape.sinks} + rules.shape.carry + rules.shape.segment,
                half = rope.dimensions / 2, stride = rope.adjacent ? 2 * half : half;
  const bool same = rope.adjacent == rope_.adjacent && rope.dimensions == rope_.dimensions &&
                    rope.frequency == rope_.frequency && rope.magnitude == rope_.magnitude;
  if (same && cosine_.size() >= indices * stride) return;
  Buffer<float> cosines(indices * stride), sines(indices * stride), negatives(indices * stride);
  std::vector<float> cosine(static_cast<size_t>(half)), sine(cosine.size());
  for (int64_t i = 0; i < indices; ++i) {
    rope.angles(i, cosine.data(), sine.data());
    for (int64_t j = 0; j < stride; ++j) {
      const size_t pair = static_cast<size_t>(rope.adjacent ? j / 2 : j);
      const float sign = rope.adjacent && j % 2 == 0 ? -1.0f : 1.0f;
      cosines[i * stride + j] = cosine[pair];
      sines[i * stride + j] = sign * sine[pair];
      negatives[i * stride + j] = -sign * sine[pair];
    }
  }
  rope_ = rope;
  stride_ = stride;
  cosine_ = std::move(cosines);
  sine_ = std::move(sines);
  minus_ = std::move(negatives);
}

void RopeTable::rotate(const float *x, int64_t size, int64_t index, float scale, float *y,
                       const Buffer<float> &sine) const {
  const float *c = cosine_.data() + index * stride_, *s = sine.data() + index * stride_;
  if (rope_.adjacent) rotate_pairs(x, c, s, rope_.dimensions, scale, y);
  else infini::rotate(x, c, s, rope_.dimensions, false, scale, y);
  for (int64_t i = rope_.dimensions; i < size; ++i) y[i] = x[i] * scale;
}

}  // namespace infini
