// The innermost loops of training: gradients of what kernels.h computes, and the packing of weights that change at
// each step. Like those they have plain references, in tests/reference/gradients_scalar.h.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace infini {

// A matrix [k, n] into panels (panel.h), `panel_stride` elements from one to the next: rows of it are rows of
// `from`. Columns past n become 0, and so does row k of an odd k in bf16.
void pack_rows(const float *from, int64_t stride, int64_t k, int64_t n, float *panels, int64_t panel_stride);
void pack_rows(const float *from, int64_t stride, int64_t k, int64_t n, uint16_t *panels, int64_t panel_stride);
void pack_rows(const uint16_t *from, int64_t stride, int64_t k, int64_t n, uint16_t *panels, int64_t panel_stride);
// One panel of n columns, at most 64, back into rows.
void unpack_rows(const uint16_t *panel, int64_t k, int64_t n, uint16_t *to, int64_t stride);
// As pack_rows(), but columns of the matrix are rows of `from`: element (i, j) is from[j * stride + i].
void pack_columns(const float *from, int64_t stride, int64_t k, int64_t n, float *panels, int64_t panel_stride);
void pack_columns(const float *from, int64_t stride, int64_t k, int64_t n, uint16_t *panels, int64_t panel_stride);

// y[i] = (x[i] * cosine[i] + x[i ^ 1] * sine[i]) * scale for n numbers, n even: rotate() of adjacent pairs, where
// each cosine is given twice, and each sine twice, the first time negated. With the sines' signs changed it is the
// transpose. y is not x.
void rotate_pairs(const float *x, const float *cosine, const float *sine, int64_t n, float scale, float *y);

// y = rms_norm(x): adds to dx [n] and dweight [n] what dy [n] gives them.
void rms_norm_gradient(const float *x, const float *weight, const float *dy, int64_t n, float epsilon, float *dx,
                       float *dweight);

// y = silu(gate) * up: dgate and dup from dy.
void silu_multiply_gradient(const float *gate, const float *up, const float *dy, int64_t n, float *dgate, float *dup);
void silu_multiply_gradient(const float *gate, const float *up, const float *dy, int64_t n, uint16_t *dgate,
                            uint16_t *dup);

// y = gelu(gate) * up, as in kernels.h.
void gelu_multiply_gradient(const float *gate, const float *up, const float *dy, int64_t n, float *dgate, float *dup);
void gelu_multiply_gradient(const float *gate, const float *up, const float *dy, int64_t n, uint16_t *dgate,
                            uint16_t *dup);

// y = cap * tanh(x / cap): dy becomes the gradient of x, dy * (1 - (y / cap)^2).
void soft_cap_gradient(const float *y, int64_t n, float cap, float *dy);

// Softmax weights once more from their scores: scores becomes p = exp(scores - log_sum) for the first `valid` of n,
// 0 for the rest; dp becomes the gradient of the scores, p * (dp - mean), where mean is sum(p * dp).
void softmax_gradient(float *scores, float log_sum, float mean, int64_t valid, int64_t n, float *dp);

// sigma = ELU(x) + 1: dx += dsigma * min(sigma, 1).
void add_elu_gradient(const float *sigma, const float *dsigma, int64_t n, float *dx);

// -log softmax(logits)[target], and its gradient times `scale`: y [n].
float cross_entropy_gradient(const float *logits, int64_t n, int64_t target, float scale, float *y);
float cross_entropy_gradient(const float *logits, int64_t n, int64_t target, float scale, uint16_t *y);

double sum_of_squares(const float *x, int64_t n);

// One step of AdamW (Loshchilov, Hutter; arXiv 1711.05101) with bias-corrected rates:
// m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, x = (1 - decay) x - rate m / (sqrt(v) * v_scale + epsilon), where
// g is gradient * scale.
struct AdamStep {
  float scale, beta1, beta2, rate, v_scale, epsilon, decay;
};
void adam_update(const AdamStep &step, const float *gradient, int64_t n, float *m, float *v, float *x);

}  // namespace infini
