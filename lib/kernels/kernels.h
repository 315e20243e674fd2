// The innermost loops. The only place with SIMD: each is compiled for every instruction set and the
// best one that the processor has is chosen at the first call. kernels/scalar.h holds the plain references,
// against which each is tested over all remainders and misalignments.
#pragma once

#include <cstdint>

#include "kernels/panel.h"

namespace infini {

// c[r, j] (+)= sum_i a[r * a_row + i * a_column] * b[i, j] for columns [begin, end) of B, both multiples
// of 16, end at most n rounded up to 64. b points at the first panel; `panel_stride` is in elements.
// Sums run over i in order, in f32, so that a row of C depends on its row of A alone.
void panel_product(const float *a, int64_t a_row, int64_t a_column, int rows, const float *b, int64_t panel_stride,
                   int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate);
void panel_product(const float *a, int64_t a_row, int64_t a_column, int rows, const uint16_t *b, int64_t panel_stride,
                   int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate);
// How many rows of A share what is read of B.
int product_rows();

// y = x / sqrt(mean(x^2) + epsilon) * weight, as f32 or rounded to bf16.
void rms_norm(const float *x, const float *weight, int64_t n, float epsilon, float *y);
void rms_norm(const float *x, const float *weight, int64_t n, float epsilon, uint16_t *y);

// y = silu(gate) * up.
void silu_multiply(const float *gate, const float *up, int64_t n, float *y);
void silu_multiply(const float *gate, const float *up, int64_t n, uint16_t *y);

// y = gelu(gate) * up, where gelu(x) = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))).
void gelu_multiply(const float *gate, const float *up, int64_t n, float *y);
void gelu_multiply(const float *gate, const float *up, int64_t n, uint16_t *y);

// x = cap * tanh(x / cap), in place.
void soft_cap(float *x, int64_t n, float cap);

// Rotates n / 2 pairs of x by the angles whose cosines and sines are given [n / 2], times `scale`.
// adjacent: pairs are (2i, 2i+1), else (i, i + n/2). y may be x.
void rotate(const float *x, const float *cosine, const float *sine, int64_t n, bool adjacent, float scale, float *y);

// sigma(x) = ELU(x) + 1: x + 1 above 0, exp(x) below.
void elu_plus_one(const float *x, int64_t n, float *y);

// p = exp(scores - m) for the first `valid` of n scores, 0 for the rest, where m is their maximum.
// Returns m (-inf where valid is 0) and the sum of p. The f32 form may work in place.
struct SoftmaxPart {
  float maximum, sum;
};
SoftmaxPart softmax_part(const float *scores, int64_t valid, int64_t n, float *p);
SoftmaxPart softmax_part(const float *scores, int64_t valid, int64_t n, uint16_t *p);

float dot(const float *x, const float *y, int64_t n);
void add_scaled(const float *x, float scale, int64_t n, float *y);                              // y += scale * x
void mix(const float *x, float x_scale, const float *y, float y_scale, int64_t n, float *out);  // x_scale x + y_scale y
void mix(const float *x, float x_scale, const float *y, float y_scale, int64_t n, uint16_t *out);
void widen(const uint16_t *x, int64_t n, float *y);        // bf16 to f32
void widen_panel(const uint16_t *x, int64_t k, float *y);  // [k / 2][64][2] to [k][64], k even
void narrow(const float *x, int64_t n, uint16_t *y);       // f32 to bf16, ties to even
// log(sum(exp(x))), without overflow.
float log_sum_exp(const float *x, int64_t n);

}  // namespace infini
