// The plain references of gradients.h, in f64.
#pragma once

#include <cmath>
#include <numbers>
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

inline void gelu_multiply_gradient(double gate, double up, double dy, double &dgate, double &dup) {
  const double c = std::sqrt(2 / std::numbers::pi), t = std::tanh(c * (gate + 0.044715 * gate * gate * gate));
  const double slope = (1 + t) / 2 + gate / 2 * (1 - t * t) * c * (1 + 3 * 0.044715 * gate * gate);
  dgate = dy * up * slope;
  dup = dy * gate / 2 * (1 + t);
}

inline double soft_cap_gradient(double x, double cap, double dy) {
  const double cosh = std::cosh(x / cap);
  return dy / (cosh * cosh);
}

// d loss / d logits of -log softmax(logits)[target].
inline std::vector<double> cross_entropy_gradient(const float *logits, int64_t n, int64_t target) {
  const double total = log_sum_exp(logits, n);
  std::vector<double> y;
  for (int64_t i = 0; i < n; ++i) y.push_back(std::exp(logits[i] - total) - (i == target ? 1 : 0));
  return y;
}

}  // namespace infini::scalar
