#include "attention/rope.h"

#include <cmath>

#include "kernels/kernels.h"

namespace infini {

void Rope::angles(int64_t position, float *cosine, float *sine) const {
  for (size_t i = 0; i < frequency.size(); ++i) {
    const double angle = static_cast<double>(position) * frequency[i];
    cosine[i] = static_cast<float>(std::cos(angle) * magnitude);
    sine[i] = static_cast<float>(std::sin(angle) * magnitude);
  }
}

void Rope::apply(const float *x, int size, const float *cosine, const float *sine, float scale, float *y) const {
  rotate(x, cosine, sine, dimensions, adjacent, scale, y);
  for (int i = dimensions; i < size; ++i) y[i] = x[i] * scale;
}

}  // namespace infini
