// The part of backward.h that trains q and k by supervision alone.
#include <algorithm>
#include <cstring>

#include "train/backward.h"

namespace infini {

void Backward::set_taught(const Threads &threads, std::vector<size_t> layers) {
  taught_ = std::move(layers);
  taught_features_.clear();
  const auto make = [&](int64_t heads) { return PackedMatrix(compute_, width_, heads * config_.key_size); };
  for (size_t i = 0; i < taught_.size(); ++i) taught_features_.push_back({make(config_.heads), make(config_.kv_heads)});
  refresh(threads);
}

Tally Backward::teach(const Threads &threads, const Layout &layout, const Purpose &purpose, size_t pass) {
  Tally tally;
  feed_taught(threads, layout, pass,
              [&](size_t layer, ConstRows normed) { teach_layer(threads, layer, normed, layout, purpose, tally); });
  return tally;
}

void Backward::feed_taught(const Threads &threads, const Layout &layout, size_t pass, const Fed &f) {
  rows_ = layout.rows();
  if (const auto kept = taught_inputs_.find(pass); kept != taught_inputs_.end()) {
    for (size_t i = 0; i < taught_.size(); ++i) f(taught_[i], {compute_, kept->second[i].data(), width_});
    return;
  }
  std::vector<Buffer<char>> inputs;
  const Watch watch = [&](const LayerView &view) {
    if (inputs.size() == taught_.size() || taught_[inputs.size()] != view.layer) return;
    inputs.emplace_back();
    if (pass != kNoPass) {
      const int64_t bytes = rows_ * width_ * bytes_of(compute_);
      inputs.back().reserve(bytes);
      std::memcpy(inputs.back().data(), view.normed.data, static_cast<size_t>(bytes));
    }
    f(view.layer, view.normed);
  };
  Purpose only_forward;
  only_forward.watch = &watch;
  reserve(layout, threads.count(), false);
  forward(threads, layout, taught_.back() + 1, only_forward, kNoPass);
  if (pass != kNoPass) taught_inputs_[pass] = std::move(inputs);
}

// Keys of all rows matter, but queries only of supervised rows: one in ten.
void Backward::teach_layer(const Threads &threads, size_t layer, ConstRows normed, const Layout &layout,
                           const Purpose &purpose, Tally &tally) {
  const Gemm &gemm = model_.weights().gemm;
  const Features &weights =
      taught_features_[static_cast<size_t>(std::lower_bound(taught_.begin(), taught_.end(), layer) - taught_.begin())];
  const std::vector<int64_t> told = layout.told();
  // Rows of zeros behind them, so that oneDNN makes few kernels.
  const int64_t count = static_cast<int64_t>(told.size()), padded = round_up(count, 64),
                queries = int64_t{config_.heads} * config_.key_size,
                keys = int64_t{config_.kv_heads} * config_.key_size;
  const int64_t stride = round_up(queries, kPanel), row_bytes = width_ * bytes_of(compute_);
  taught_rows_.reserve(rows_ * taught_stride_);
  taught_trace_.reserve(rules_, layout);
  taught_scratch_.reserve(rules_, threads.count());
  dqkv_.reserve(rows_ * taught_stride_);
  told_normed_.reserve(padded * row_bytes);
  told_queries_.reserve(padded * stride);
  std::fill_n(told_normed_.data() + count * row_bytes, (padded - count) * row_bytes, char{0});
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(told_normed_.data() + i * row_bytes, normed.from(told[static_cast<size_t>(i)]).data,
                static_cast<size_t>(row_bytes));
  const ConstRows asking{compute_, told_normed_.data(), width_};
  if (count > 0) gemm.multiply(threads, asking, padded, weights.q.panels(), told_queries_.data(), stride, false);
  for (int64_t i = 0; i < count; ++i)
    std::copy_n(told_queries_.data() + i * stride, queries,
                taught_rows_.data() + told[static_cast<size_t>(i)] * taught_stride_);
  gemm.multiply(threads, normed, rows_, weights.k.panels(), taught_rows_.data() + queries, taught_stride_, false);

  const std::vector<float> shut(static_cast<size_t>(config_.heads));
  const LayerAttention pass{rules_,        layout,
                            rope_,         {taught_rows_.data(), taught_stride_},
                            shut.data(),   purpose.targets.of_layer(layer, config_.heads),
                            taught_trace_, taught_scratch_};
  tally.supervision.retrieval.add(supervise_streams(threads, pass, told, dqkv_.data()));
  if (!purpose.gradients) return;
  const Parameters::Layer &of = parameters_.layers()[layer];
  const ConstRows dkeys = narrowed(threads, dqkv_.data() + queries, taught_stride_, keys, rows_, narrow_qkv_);
  gemm.multiply_transposed(threads, dkeys, normed, rows_, keys, width_, purpose.gradients + parameters_[of.k].offset,
                           width_, true);
  if (count == 0) return;
  std::fill_n(told_queries_.data() + count * stride, (padded - count) * stride, 0.0f);
  for (int64_t i = 0; i < count; ++i)
    std::copy_n(dqkv_.data() + told[static_cast<size_t>(i)] * taught_stride_, queries,
                told_queries_.data() + i * stride);
  const ConstRows dqueries = narrowed(threads, told_queries_.data(), stride, queries, padded, narrow_qkv_);
  gemm.multiply_transposed(threads, dqueries, asking, padded, queries, width_,
                           purpose.gradients + parameters_[of.q].offset, width_, true);
}

}  // namespace infini
