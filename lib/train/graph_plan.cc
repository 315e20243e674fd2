// What layer plans add to the plain layer of graph.h: biases, norms of queries and keys, norms of what attention and
// feed-forward add to the residual stream, scales and soft caps.
#include <algorithm>
#include <cstring>

#include "train/graph.h"

namespace infini {

std::array<TrainingGraph::HeadPart, 3> TrainingGraph::head_parts(size_t layer) const {
  const Parameters::Layer &w = parameters_.layers()[layer];
  const int64_t first_value = queries_ + keys_;
  return {HeadPart{w[Field::Q], w[Field::Q_BIAS], w[Field::Q_NORM], 0, queries_},
          {w[Field::K], w[Field::K_BIAS], w[Field::K_NORM], queries_, keys_},
          {w[Field::V], w[Field::V_BIAS], Parameters::kNone, first_value, qkv_ - first_value}};
}

// x: the rows of q, of k or of v, as the product made them. Adds the bias, if there is one, and then norms each head,
// or where the norm is as wide as the row, the row. `raw` keeps the rows as they were before the norm.
void TrainingGraph::finish_heads(const Threads &threads, const HeadPart &part, int64_t rows, float *x, int64_t stride,
                                 float *raw, int64_t raw_stride) const {
  if (part.bias == Parameters::kNone && part.norm == Parameters::kNone) return;
  const float *const bias = part.bias != Parameters::kNone ? parameters_.of(part.bias) : nullptr;
  const float *const norm = part.norm != Parameters::kNone ? parameters_.of(part.norm) : nullptr;
  const int64_t n = norm ? count(part.norm) : part.columns;
  parallel_for(threads, rows, row_grain(part.columns), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float *const row = x + r * stride;
      if (bias) add_scaled(bias, 1, part.columns, row);
      if (!norm) continue;
      std::copy_n(row, part.columns, raw + r * raw_stride);
      for (int64_t i = 0; i < part.columns; i += n) rms_norm(row + i, norm, n, config_.norm_epsilon, row + i);
    }
  });
}

// d, the gradient of what finish_heads() made, becomes that of what it was given.
void TrainingGraph::finish_heads_gradient(const Threads &threads, const HeadPart &part, int64_t rows, const float *raw,
                                          int64_t raw_stride, float *d, int64_t stride, float *gradients) {
  if (part.norm != Parameters::kNone) {
    const float *const norm = parameters_.of(part.norm);
    const int64_t n = count(part.norm);
    sums_.add(threads, rows, n, 1, gradient_of(part.norm, gradients), [&](int64_t r, float *sums) {
      float *const dy = sums + n;
      for (int64_t i = 0; i < part.columns; i += n) {
        float *const dx = d + r * stride + i;
        std::copy_n(dx, n, dy);
        std::fill_n(dx, n, 0.0f);
        rms_norm_gradient(raw + r * raw_stride + i, norm, dy, n, config_.norm_epsilon, dx, sums);
      }
    });
  }
  if (float *const to = gradient_of(part.bias, gradients))
    sums_.add(threads, rows, part.columns, 1, to,
              [&](int64_t r, float *sums) { add_scaled(d + r * stride, 1, part.columns, sums); });
}

// to = x + residual_scale * norm(a b + bias), of which a plain layer has the product alone. `branch` keeps what is
// normed.
void TrainingGraph::add_branch(const Threads &threads, const ConstRows &a, int64_t rows, const Product &product,
                               size_t bias, size_t post_norm, const float *x, float *branch, float *to) const {
  const float scale = config_.residual_scale;
  if (bias == Parameters::kNone && post_norm == Parameters::kNone && scale == 1) {
    std::memcpy(to, x, static_cast<size_t>(rows * x_stride_) * sizeof(float));
    return multiply(threads, product, a, rows, to, x_stride_, true);
  }
  multiply(threads, product, a, rows, branch, x_stride_);
  parallel_for(threads, rows, row_grain(width_), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float *const row = branch + r * x_stride_, *const out = to + r * x_stride_;
      if (bias != Parameters::kNone) add_scaled(parameters_.of(bias), 1, width_, row);
      const bool norms = post_norm != Parameters::kNone;
      if (norms) rms_norm(row, parameters_.of(post_norm), width_, config_.norm_epsilon, out);
      mix(norms ? out : row, scale, x + r * x_stride_, 1, width_, out);
    }
  });
}

// What dx_ gives the product of add_branch() in these rows, as products take it.
ConstRows TrainingGraph::branch_gradient(const Threads &threads, size_t bias, size_t post_norm, const float *branch,
                                         const BatchRows &rows, float *gradients) {
  const float scale = config_.residual_scale;
  const float *d = dx_.data() + rows.first * x_stride_;
  if (post_norm != Parameters::kNone || scale != 1) {
    dbranch_.reserve(rows.count * x_stride_);
    const float *const from = d;
    float *const to = dbranch_.data();
    sums_.add(threads, rows.count, width_, scale, gradient_of(post_norm, gradients), [&](int64_t r, float *sums) {
      const float *const dy = from + r * x_stride_;
      float *const row = to + r * x_stride_;
      std::fill_n(row, width_, 0.0f);
      if (post_norm == Parameters::kNone) return add_scaled(dy, scale, width_, row);
      rms_norm_gradient(branch + r * x_stride_, parameters_.of(post_norm), dy, width_, config_.norm_epsilon, row, sums);
      if (scale != 1) mix(row, scale, row, 0, width_, row);
    });
    d = to;
  }
  if (float *const to = gradient_of(bias, gradients))
    sums_.add(threads, rows.count, width_, 1, to,
              [&](int64_t r, float *sums) { add_scaled(d + r * x_stride_, 1, width_, sums); });
  return narrowed(threads, compute_, d, x_stride_, width_, rows.count, narrow_);
}

// One row of what the output layer's product gave.
void TrainingGraph::finish_logits(float *logits) const {
  const int64_t n = config_.vocabulary;
  if (config_.logit_scale != 1) mix(logits, config_.logit_scale, logits, 0, n, logits);
  if (config_.logit_soft_cap > 0) soft_cap(logits, n, config_.logit_soft_cap);
}

}  // namespace infini
