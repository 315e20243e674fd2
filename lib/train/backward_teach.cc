// backward.h's lessons for the memory's features.
#include <algorithm>
#include <cstring>

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

Tally Backward::teach(const Layout &layout, const Purpose &purpose, size_t pass) {
  Tally tally;
  feed_taught(layout, pass, [&](size_t layer, ConstRows normed) { teach_layer(layer, normed, layout, purpose, tally); });
  return tally;
}

void Backward::feed_taught(const Layout &layout, size_t pass, const Fed &f) {
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
  reserve(layout, false);
  forward(layout, taught_.back() + 1, only_forward, kNoPass);
  if (pass != kNoPass) taught_inputs_[pass] = std::move(inputs);
}

void Backward::teach_layer(size_t layer, ConstRows normed, const Layout &layout, const Purpose &purpose, Tally &tally) {
  const Gemm &gemm = model_.weights().gemm;
  const auto place = static_cast<size_t>(std::lower_bound(taught_.begin(), taught_.end(), layer) - taught_.begin());
  taught_rows_.reserve(rows_ * qkv_stride_);
  taught_trace_.reserve(rules_, layout);
  taught_scratch_.reserve(rules_, thread_count());
  dqkv_.reserve(rows_ * qkv_stride_);
  gemm.multiply(normed, rows_, taught_qkv_[place].panels(), taught_rows_.data(), qkv_stride_, false);
  const std::vector<float> shut(static_cast<size_t>(config_.heads));
  const AttentionPass pass{rules_, layout, rope_, {taught_rows_.data(), qkv_stride_}, shut.data(), purpose.targets.of_layer(layer, config_.heads),
                           taught_trace_, taught_scratch_};
  tally.supervision.retrieval.add(supervise_streams(pass, dqkv_.data()));
  if (!purpose.gradients) return;
  const int64_t features = (int64_t{config_.heads} + config_.kv_heads) * config_.key_size;  // columns of q and k, which come before v's
  const ConstRows dqkv = narrowed(dqkv_.data(), qkv_stride_, features, rows_, narrow_qkv_);
  gemm.multiply_transposed(dqkv, normed, rows_, features, width_, purpose.gradients + parameters_[parameters_.layers()[layer].q].offset, width_, true);
}

}  // namespace infini
