// The plain references of gradients.h, in f64.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/gradients.h"
#include "kernels/scalar.h"

namespace infini::scalar {

inline void rms_norm_gradient(const float *x, const float *weight, const float *dy, int64_t n, double epsilon,
                              double *dx, double *dweight) {
  double squares = 0, along = 0;
  for (int64_t i = 0; i < n; ++i) {
    squares += static_cast<double>(x[i]) * x[i];
    along += static_cast<double>(weight[i]) * dy[i] * x[i];
  }
  const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + epsilon);
  for (int64_t i = 0; i < n; ++i) {
    dx[i] += scale * weight[i] * dy[i] - x[i] * scale * scale * scale * along / static_cast<double>(n);
    dweight[i] += dy[i] * x[i] * scale;
  }
}

inline void silu_multiply_gradient(double gate, double up, double dy, double &dgate, double &dup) {
  const double sigmoid = 1 / (1 + std::exp(-gate));
  dgate = dy * up * sigmoid * (1 + gate * (1 - sigmoid));
  dup = dy * gate * sigmoid;
}

// d loss / d logits of -log softmax(logits)[target].
inline std::vector<double> cross_entropy_gradient(const float *logits, int64_t n, int64_t target) {
  const double total = log_sum_exp(logits, n);
  std::vector<double> y;
  for (int64_t i = 0; i < n; ++i) y.push_back(std::exp(logits[i] - total) - (i == target ? 1 : 0));
  return y;
}

}  // namespace infini::scalar
