// The forward pass of graph.h: the layers of model/forward.cc, keeping what the backward pass needs.
#include <algorithm>
#include <cstring>

#include "train/graph.h"

namespace infini {

int64_t TrainingGraph::Trace::bytes() const {
  return static_cast<int64_t>(normed.bytes() + qkv.bytes() + raw.bytes() + attended.bytes() + branch.bytes() +
                              middle.bytes() + normed_again.bytes() + gate_up.bytes() + activated.bytes() +
                              fed_branch.bytes()) +
         attention.bytes();
}

// Without a weight: the rows as they are.
void TrainingGraph::norm_rows(const Threads &threads, const float *x, size_t weight, const BatchRows &rows, char *to) {
  const float *const w = weight != Parameters::kNone ? parameters_.of(weight) : nullptr;
  parallel_for(threads, rows.count, row_grain(width_), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float *const from = x + rows[r] * x_stride_;
      if (!w) store(from, width_, compute_, to + r * width_ * bytes_of(compute_));
      else
        as_numbers(compute_, to, r * width_, [&](auto *out) { rms_norm(from, w, width_, config_.norm_epsilon, out); });
    }
  });
}

void TrainingGraph::embed(const BatchLayout &layout) {
  for (int64_t t = 0; t < rows_; ++t) {
    float *const x = input(0) + t * x_stride_;
    parameters_.read(parameters_.embedding(), layout.tokens[t], 1, x);
    if (config_.embedding_scale != 1) mix(x, config_.embedding_scale, x, 0, width_, x);
  }
}

LayerAttention TrainingGraph::attention(const BatchLayout &layout, size_t layer, const RunRequest &request,
                                        Trace &trace) {
  return {rules(layer),
          layout,
          ropes_[kind(layer)],
          {trace.qkv.data(), qkv_stride_},
          gate_weights_.data() + static_cast<int64_t>(layer) * config_.heads,
          static_cast<int>(layer),
          request.supervision,
          trace.attention,
          scratch_};
}

// From the layer's input to the residual stream after attention, and its norm.
void TrainingGraph::attend(const Threads &threads, const BatchLayout &layout, size_t layer, const RunRequest &request) {
  Trace &t = trace(layer);
  const Parameters::Layer &w = parameters_.layers()[layer];
  norm_rows(threads, input(layer), w[Field::ATTENTION_NORM], {0, rows_}, t.normed.data());
  multiply(threads, products_[layer].qkv, {compute_, t.normed.data(), width_}, rows_, t.qkv.data(), qkv_stride_);
  for (const HeadPart &part : head_parts(layer))
    finish_heads(threads, part, rows_, t.qkv.data() + part.first, qkv_stride_, begin_at(t.raw, part.first),
                 raw_stride_);
  attend_streams(threads, attention(layout, layer, request, t), compute_, t.attended.data(), attended_);
  add_branch(threads, {compute_, t.attended.data(), attended_}, rows_, products_[layer].attention_output,
             w[Field::ATTENTION_OUTPUT_BIAS], w[Field::ATTENTION_POST_NORM], input(layer), t.branch.data(),
             t.middle.data());
  norm_rows(threads, t.middle.data(), w[Field::FEED_FORWARD_NORM], {0, rows_}, t.normed_again.data());
}

// Rows first .. first + rows; `out` receives the layer's output. Without it only what the backward pass needs is made.
void TrainingGraph::feed_forward(const Threads &threads, size_t layer, int64_t first, int64_t rows, float *out) {
  Trace &t = trace(layer);
  const int64_t hidden = config_.hidden, bytes = bytes_of(compute_), kept = recomputes_ ? 0 : first;
  const bool silu = config_.plans[layer].activation == Activation::SILU;
  const size_t post_norm = parameters_.layers()[layer][Field::FEED_FORWARD_POST_NORM];
  each_piece(rows, piece_, [&](int64_t begin, int64_t count) {
    float *gate_up = t.gate_up.data() + (kept + begin) * gate_up_stride_;
    char *activated = t.activated.data() + (kept + begin) * hidden * bytes;
    multiply(threads, products_[layer].gate_up,
             {compute_, t.normed_again.data() + (first + begin) * width_ * bytes, width_}, count, gate_up,
             gate_up_stride_);
    parallel_for(threads, count, row_grain(hidden), [&](int64_t from, int64_t to) {
      for (int64_t r = from; r < to; ++r) {
        const float *gate = gate_up + r * gate_up_stride_;
        as_numbers(compute_, activated, r * hidden, [&](auto *y) {
          if (silu) silu_multiply(gate, gate + hidden, hidden, y);
          else gelu_multiply(gate, gate + hidden, hidden, y);
        });
      }
    });
    const ConstRows a{compute_, activated, hidden};
    float *const branch = begin_at(t.fed_branch, (kept + begin) * x_stride_);
    const int64_t row = (first + begin) * x_stride_;
    if (out)
      add_branch(threads, a, count, products_[layer].down, Parameters::kNone, post_norm, t.middle.data() + row, branch,
                 out + row);
    else if (post_norm != Parameters::kNone) multiply(threads, products_[layer].down, a, count, branch, x_stride_);
  });
}

void TrainingGraph::forward(const Threads &threads, const BatchLayout &layout, size_t layers, const RunRequest &request,
                            size_t cache_key, const LayerObserver *observer) {
  const auto bytes = static_cast<size_t>(rows_ * x_stride_) * sizeof(float);
  Buffer<float> *const kept =
      cache_key != kUncached && lowest_ > 0 && lowest_ < layers ? &lowest_inputs_[cache_key] : nullptr;
  const bool again = kept && kept->size() > 0;
  if (again) std::memcpy(input(lowest_), kept->data(), bytes);
  else embed(layout);
  for (size_t l = again ? lowest_ : 0; l < layers; ++l) {
    if (kept && !again && l == lowest_) {
      kept->reserve(rows_ * x_stride_);
      std::memcpy(kept->data(), input(l), bytes);
    }
    attend(threads, layout, l, request);
    if (observer)
      (*observer)({l,
                   input(l),
                   x_stride_,
                   {compute_, trace(l).normed.data(), width_},
                   attention(layout, l, request, trace(l))});
    if (!feeds_forward(l, layers)) break;
    for (int64_t first = 0; first < rows_; first += kFeedForwardRows)
      feed_forward(threads, l, first, std::min(kFeedForwardRows, rows_ - first), input(l + 1));
  }
}

}  // namespace infini
