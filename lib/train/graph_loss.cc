// The output layer of graph.h: cross-entropy of the rows that have a weight, and the gradient of the last layer's
// output.
#include <algorithm>
#include <cstring>

#include "train/graph.h"

namespace infini {
namespace {

constexpr int64_t kLogitsBytes = 8 << 20;  // logits of some rows at a time

int64_t chunk_rows(int64_t stride) { return std::clamp<int64_t>(kLogitsBytes / (4 * stride) / 64 * 64, 64, 1024); }

}  // namespace

Tally TrainingGraph::losses(const Threads &threads, const BatchLayout &layout, const RunRequest &request) {
  loss_rows_.clear();
  for (int64_t t = 0; t < rows_; ++t)
    if (layout.weight[t] > 0) loss_rows_.push_back(t);
  if (request.gradients) std::memset(dx_.data(), 0, static_cast<size_t>(rows_ * x_stride_) * sizeof(float));
  row_right_.resize(loss_rows_.size());
  Tally tally;
  const int64_t count = static_cast<int64_t>(loss_rows_.size()),
                chunk = chunk_rows(round_up(config_.vocabulary, kPanel));
  for (int64_t first = 0; first < count; first += chunk)
    chunk_losses(threads, layout, request, first, std::min(chunk, count - first), tally);
  count_answers(layout, tally);
  return tally;
}

// An answer is a run of consecutive rows that predict its tokens.
void TrainingGraph::count_answers(const BatchLayout &layout, Tally &tally) const {
  const auto kind = [&](size_t r) { return layout.answer[loss_rows_[r]]; };
  for (size_t r = 0; r < loss_rows_.size();) {
    const size_t first = r++;
    if (kind(first) == 0) continue;
    while (r < loss_rows_.size() && kind(r) != 0 && loss_rows_[r] == loss_rows_[r - 1] + 1) ++r;
    const bool exact =
        std::all_of(row_right_.begin() + static_cast<ptrdiff_t>(first), row_right_.begin() + static_cast<ptrdiff_t>(r),
                    [](uint8_t right) { return right != 0; });
    if (kind(first) == kAnswerAcross) ++tally.answers_across, tally.exact_across += exact;
    else ++tally.answers_inside, tally.exact_inside += exact;
  }
}

void TrainingGraph::chunk_losses(const Threads &threads, const BatchLayout &layout, const RunRequest &request,
                                 int64_t first, int64_t rows, Tally &tally) {
  const int64_t vocabulary = config_.vocabulary, stride = round_up(vocabulary, kPanel), bytes = bytes_of(compute_);
  const float *x = input(products_.size());
  const size_t output = parameters_.output(), norm = parameters_.output_norm();
  const float cap = config_.logit_soft_cap;
  const BatchRows of{0, rows, loss_rows_.data() + first};
  loss_normed_.reserve(rows * width_ * bytes);
  logits_.reserve(rows * stride);
  dlogits_.reserve(rows * stride * bytes);
  row_losses_.resize(static_cast<size_t>(rows));
  norm_rows(threads, x, norm, of, loss_normed_.data());
  const ConstRows normed{compute_, loss_normed_.data(), width_};
  output_.forward(threads, gemm_, normed, rows, logits_.data(), stride, false);
  parallel_for(threads, rows, row_grain(2 * vocabulary), [&](int64_t begin, int64_t end) {
    std::vector<float> capped(static_cast<size_t>(cap > 0 ? vocabulary : 0));  // gradient of a row's capped logits
    for (int64_t r = begin; r < end; ++r) {
      const size_t row = static_cast<size_t>(of[r]);
      float *logits = logits_.data() + r * stride;
      finish_logits(logits);
      const int32_t target = layout.target[row];
      const auto scale = static_cast<float>(request.loss_scale * static_cast<double>(layout.weight[row]) *
                                            static_cast<double>(config_.logit_scale));
      if (layout.answer[row]) row_right_[first + r] = *std::max_element(logits, logits + vocabulary) == logits[target];
      if (cap > 0) {
        row_losses_[r] = cross_entropy_gradient(logits, vocabulary, target, scale, capped.data());
        soft_cap_gradient(logits, vocabulary, cap, capped.data());
        store(capped.data(), vocabulary, compute_, dlogits_.data() + r * vocabulary * bytes);
        continue;
      }
      row_losses_[r] = as_numbers(compute_, dlogits_.data(), r * vocabulary, [&](auto *to) {
        return cross_entropy_gradient(logits, vocabulary, target, scale, to);
      });
    }
  });
  for (int64_t r = 0; r < rows; ++r) {
    const size_t row = static_cast<size_t>(of[r]);
    const bool right = row_right_[first + r] != 0;
    tally.loss += static_cast<double>(layout.weight[row]) * row_losses_[r];
    tally.weight += layout.weight[row];
    ++tally.predictions;
    if (layout.answer[row] == kAnswerAcross) ++tally.across, tally.across_right += right;
    if (layout.answer[row] == kAnswerInside) ++tally.inside, tally.inside_right += right;
  }
  if (!request.gradients) return;
  const ConstRows dlogits{compute_, dlogits_.data(), vocabulary};
  if (trained_[output])
    gemm_.multiply_transposed(threads, dlogits, normed, rows, vocabulary, width_,
                              request.gradients + parameters_[output].offset, width_, true);
  output_.backward(threads, gemm_, dlogits, rows, dnormed_.data(), x_stride_, false);
  norm_backward(threads, x, norm, of, request.gradients);
}

void TrainingGraph::all_logits(const Threads &threads, float *logits) {
  const int64_t vocabulary = config_.vocabulary, stride = round_up(vocabulary, kPanel);
  const size_t norm = parameters_.output_norm();
  for (int64_t first = 0; first < rows_; first += 64) {
    const int64_t rows = std::min<int64_t>(64, rows_ - first);
    loss_normed_.reserve(rows * width_ * bytes_of(compute_));
    logits_.reserve(rows * stride);
    norm_rows(threads, input(products_.size()), norm, {first, rows}, loss_normed_.data());
    output_.forward(threads, gemm_, {compute_, loss_normed_.data(), width_}, rows, logits_.data(), stride, false);
    for (int64_t r = 0; r < rows; ++r) {
      finish_logits(logits_.data() + r * stride);
      std::copy_n(logits_.data() + r * stride, vocabulary, logits + (first + r) * vocabulary);
    }
  }
}

}  // namespace infini
