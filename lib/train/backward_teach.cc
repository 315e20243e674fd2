// backward.h's lessons for the memory's features.
#include <algorithm>

#include "base/parallel.h"
#include "train/backward.h"

namespace infini {

void Backward::set_taught(std::vector<size_t> layers) {
  taught_ = std::move(layers);
  taught_qkv_.clear();
  for (const size_t layer : taught_) {
    const PackedMatrix &qkv = products_[layer].qkv.forward;
    taught_qkv_.emplace_back(compute_, qkv.k(), qkv.n());
  }
  refresh();
}

Tally Backward::teach(const Layout &whole, const Layout &cut, const AttentionRules &memory, const Purpose &purpose) {
  Tally tally;
  const Watch watch = [&](const LayerView &view) {
    const auto place = std::lower_bound(taught_.begin(), taught_.end(), view.layer);
    if (place != taught_.end() && *place == view.layer) teach_layer(view, static_cast<size_t>(place - taught_.begin()), cut, memory, purpose, tally);
  };
  Purpose only_forward;
  only_forward.watch = &watch;
  reserve(whole, false);
  forward(whole, taught_.back() + 1, only_forward);
  return tally;
}

void Backward::teach_layer(const LayerView &view, size_t place, const Layout &cut, const AttentionRules &memory, const Purpose &purpose, Tally &tally) {
  const Gemm &gemm = model_.weights().gemm;
  const int64_t heads = config_.heads;
  taught_rows_.reserve(rows_ * qkv_stride_);
  taught_trace_.reserve(memory, cut);
  taught_scratch_.reserve(memory, thread_count());
  dqkv_.reserve(rows_ * qkv_stride_);
  gemm.multiply(view.normed, rows_, taught_qkv_[place].panels(), taught_rows_.data(), qkv_stride_, false);
  const std::vector<float> shut(static_cast<size_t>(heads));
  const AttentionPass pass{memory, cut, rope_, {taught_rows_.data(), qkv_stride_}, shut.data(),
                           purpose.supervision + static_cast<int64_t>(view.layer) * heads, taught_trace_, taught_scratch_};
  tally.supervision.add(supervise_streams(pass, dqkv_.data()));
  if (!purpose.gradients) return;
  const int64_t features = (heads + config_.kv_heads) * config_.key_size;  // columns of q and k, which come before v's
  const ConstRows dqkv = narrowed(dqkv_.data(), qkv_stride_, features, rows_, narrow_qkv_);
  gemm.multiply_transposed(dqkv, view.normed, rows_, features, width_, purpose.gradients + parameters_[parameters_.layers()[view.layer].q].offset, width_, true);
}

}  // namespace infini
