// The plain references of kernels.h: what each kernel means, one line at a time.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>

#include "base/number.h"
#include "kernels/kernels.h"

namespace infini::scalar {

inline void store(float value, float *to) { *to = value; }
inline void store(float value, uint16_t *to) { *to = float_to_bf16(value); }

// Element (i, j) of a matrix in panels, by a formula that is not that of panel.h.
inline float panel_element(const float *b, int64_t panel_stride, int64_t i, int64_t j) {
  return b[j / kPanel * panel_stride + i * kPanel + j % kPanel];
}
inline float panel_element(const uint16_t *b, int64_t panel_stride, int64_t i, int64_t j) {
  return bf16_to_float(b[j / kPanel * panel_stride + i / 2 * (2 * kPanel) + j % kPanel * 2 + i % 2]);
}
inline float panel_element(const int8_t *b, int64_t panel_stride, int64_t i, int64_t j) {
  return b[j / kPanel * panel_stride + i / 4 * (4 * kPanel) + j % kPanel * 4 + i % 4];
}

template <class Number>
void panel_product(const float *a, int64_t a_row, int64_t a_column, int rows, const Number *b, int64_t panel_stride,
                   int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = begin; j < end; ++j) {
      double sum = accumulate ? c[r * c_row + j] : 0.0;
      for (int64_t i = 0; i < k; ++i)
        sum += static_cast<double>(a[r * a_row + i * a_column]) * panel_element(b, panel_stride, i, j);
      c[r * c_row + j] = static_cast<float>(sum);
    }
  }
}

template <class Number>
void rms_norm(const float *x, const float *weight, int64_t n, float epsilon, Number *y) {
  double squares = 0;
  for (int64_t i = 0; i < n; ++i) squares += static_cast<double>(x[i]) * x[i];
  const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + epsilon);
  for (int64_t i = 0; i < n; ++i) store(static_cast<float>(x[i] * scale) * weight[i], y + i);
}

template <class Number>
void silu_multiply(const float *gate, const float *up, int64_t n, Number *y) {
  for (int64_t i = 0; i < n; ++i) store(gate[i] / (1 + std::exp(-gate[i])) * up[i], y + i);
}

template <class Number>
void gelu_multiply(const float *gate, const float *up, int64_t n, Number *y) {
  for (int64_t i = 0; i < n; ++i) {
    const double x = gate[i];
    const double gelu = x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    store(static_cast<float>(gelu * up[i]), y + i);
  }
}

inline void soft_cap(float *x, int64_t n, float cap) {
  for (int64_t i = 0; i < n; ++i) x[i] = cap * std::tanh(x[i] / cap);
}

inline void rotate(const float *x, const float *cosine, const float *sine, int64_t n, bool adjacent, float scale,
                   float *y) {
  for (int64_t i = 0; i < n / 2; ++i) {
    const int64_t first = adjacent ? 2 * i : i, second = adjacent ? 2 * i + 1 : i + n / 2;
    const float x0 = x[first] * scale, x1 = x[second] * scale;
    y[first] = x0 * cosine[i] - x1 * sine[i];
    y[second] = x0 * sine[i] + x1 * cosine[i];
  }
}

inline float elu_plus_one(float x) { return x > 0 ? x + 1 : std::exp(x); }

template <class Number>
SoftmaxPart softmax_part(const float *scores, int64_t valid, int64_t n, Number *p) {
  SoftmaxPart part{-std::numeric_limits<float>::infinity(), 0};
  for (int64_t i = 0; i < valid; ++i) part.maximum = std::fmax(part.maximum, scores[i]);
  for (int64_t i = 0; i < n; ++i) {
    const float value = i < valid ? std::exp(scores[i] - part.maximum) : 0.0f;
    part.sum += value;
    store(value, p + i);
  }
  return part;
}

inline double log_sum_exp(const float *x, int64_t n) {
  double maximum = x[0], sum = 0;
  for (int64_t i = 1; i < n; ++i) maximum = std::fmax(maximum, x[i]);
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - maximum);
  return maximum + std::log(sum);
}

}  // namespace infini::scalar
