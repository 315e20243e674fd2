// The part of graph.h that trains q and k of some layers by supervision of their retrievals alone.
#include <algorithm>
#include <cstring>

#include "train/graph.h"

namespace infini {

void TrainingGraph::choose_retrieval_layers() {
  for (size_t l = 0; l < parameters_.layers().size(); ++l) {
    if (!trained_[parameters_.layers()[l][Field::Q]]) continue;
    retrieval_layers_.push_back(l);
    retrieval_products_.push_back({{compute_, width_, queries_}, {compute_, width_, keys_}});
  }
}

Tally TrainingGraph::run_retrieval(const Threads &threads, const BatchLayout &layout, const RunRequest &request,
                                   size_t cache_key) {
  Tally tally;
  if (!request.supervision) return tally;  // where no retrieval is supervised, there is no loss
  each_retrieval_input(threads, layout, cache_key, [&](size_t layer, ConstRows normed) {
    supervise_layer(threads, layer, normed, layout, request, tally);
  });
  return tally;
}

void TrainingGraph::each_retrieval_input(const Threads &threads, const BatchLayout &layout, size_t cache_key,
                                         const NormedInput &f) {
  rows_ = layout.rows();
  if (const auto kept = retrieval_inputs_.find(cache_key); kept != retrieval_inputs_.end()) {
    for (size_t i = 0; i < retrieval_layers_.size(); ++i)
      f(retrieval_layers_[i], {compute_, kept->second[i].data(), width_});
    return;
  }
  std::vector<Buffer<char>> inputs;
  const LayerObserver observer = [&](const LayerView &view) {
    if (inputs.size() == retrieval_layers_.size() || retrieval_layers_[inputs.size()] != view.layer) return;
    inputs.emplace_back();
    if (cache_key != kUncached) {
      const int64_t bytes = rows_ * width_ * bytes_of(compute_);
      inputs.back().reserve(bytes);
      std::memcpy(inputs.back().data(), view.normed.data, static_cast<size_t>(bytes));
    }
    f(view.layer, view.normed);
  };
  reserve(layout, threads.count(), false);
  forward(threads, layout, retrieval_layers_.back() + 1, {}, kUncached, &observer);
  if (cache_key != kUncached) retrieval_inputs_[cache_key] = std::move(inputs);
}

// Keys of all rows matter, but queries only of supervised rows: one in ten.
void TrainingGraph::supervise_layer(const Threads &threads, size_t layer, ConstRows normed, const BatchLayout &layout,
                                    const RunRequest &request, Tally &tally) {
  const Features &weights =
      retrieval_products_[std::lower_bound(retrieval_layers_.begin(), retrieval_layers_.end(), layer) -
                          retrieval_layers_.begin()];
  const std::vector<int64_t> supervised = layout.supervised_rows();
  // Rows of zeros behind them, so that oneDNN makes few kernels.
  const int64_t count = static_cast<int64_t>(supervised.size()), padded = round_up(count, 64);
  const int64_t stride = round_up(queries_, kPanel), row_bytes = width_ * bytes_of(compute_);
  retrieval_rows_.reserve(rows_ * retrieval_stride_);
  retrieval_trace_.reserve(rules(layer), layout);
  retrieval_scratch_.reserve(kinds_, threads.count());
  dqkv_.reserve(rows_ * retrieval_stride_);
  supervised_normed_.reserve(padded * row_bytes);
  supervised_queries_.reserve(padded * stride);
  std::fill_n(supervised_normed_.data() + count * row_bytes, (padded - count) * row_bytes, char{0});
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(supervised_normed_.data() + i * row_bytes, normed.from(supervised[i]).data,
                static_cast<size_t>(row_bytes));
  const ConstRows asking{compute_, supervised_normed_.data(), width_};
  const auto [q, k, v] = head_parts(layer);
  if (norms_heads_) raw_queries_.reserve(padded * stride), raw_keys_.reserve(rows_ * retrieval_stride_);
  if (count > 0) gemm_.multiply(threads, asking, padded, weights.q.panels(), supervised_queries_.data(), stride, false);
  finish_heads(threads, q, count, supervised_queries_.data(), stride, raw_queries_.data(), stride);
  for (int64_t i = 0; i < count; ++i)
    std::copy_n(supervised_queries_.data() + i * stride, queries_,
                retrieval_rows_.data() + supervised[i] * retrieval_stride_);
  gemm_.multiply(threads, normed, rows_, weights.k.panels(), retrieval_rows_.data() + queries_, retrieval_stride_,
                 false);
  finish_heads(threads, k, rows_, retrieval_rows_.data() + queries_, retrieval_stride_, raw_keys_.data(),
               retrieval_stride_);

  const std::vector<float> shut(static_cast<size_t>(config_.heads));
  const LayerAttention attention{rules(layer),        layout,
                                 ropes_[kind(layer)], {retrieval_rows_.data(), retrieval_stride_},
                                 shut.data(),         static_cast<int>(layer),
                                 request.supervision, retrieval_trace_,
                                 retrieval_scratch_};
  tally.supervision.retrieval.add(supervise_streams(threads, attention, supervised, dqkv_.data()));
  if (!request.gradients) return;
  sums_.reserve(std::max(queries_, keys_));
  finish_heads_gradient(threads, k, rows_, raw_keys_.data(), retrieval_stride_, dqkv_.data() + queries_,
                        retrieval_stride_, request.gradients);
  const ConstRows dkeys =
      narrowed(threads, compute_, dqkv_.data() + queries_, retrieval_stride_, keys_, rows_, narrow_qkv_);
  gemm_.multiply_transposed(threads, dkeys, normed, rows_, keys_, width_,
                            request.gradients + parameters_[k.weight].offset, width_, true);
  if (count == 0) return;
  std::fill_n(supervised_queries_.data() + count * stride, (padded - count) * stride, 0.0f);
  for (int64_t i = 0; i < count; ++i)
    std::copy_n(dqkv_.data() + supervised[i] * retrieval_stride_, queries_, supervised_queries_.data() + i * stride);
  finish_heads_gradient(threads, q, count, raw_queries_.data(), stride, supervised_queries_.data(), stride,
                        request.gradients);
  const ConstRows dqueries =
      narrowed(threads, compute_, supervised_queries_.data(), stride, queries_, padded, narrow_qkv_);
  gemm_.multiply_transposed(threads, dqueries, asking, padded, queries_, width_,
                            request.gradients + parameters_[q.weight].offset, width_, true);
}

}  // namespace infini
