#include "train/graph.h"

#include <algorithm>
#include <cstring>

#include "base/number.h"

namespace infini {

void Tally::add(const Tally &other) {
  loss += other.loss;
  weight += other.weight;
  supervision.add(other.supervision);
  predictions += other.predictions;
  across += other.across;
  across_right += other.across_right;
  inside += other.inside;
  inside_right += other.inside_right;
  answers_across += other.answers_across;
  exact_across += other.exact_across;
  answers_inside += other.answers_inside;
  exact_inside += other.exact_inside;
}

namespace {

// Refuses parts of models that the backward pass does not know.
void require_trainable(const Model &model, const Parameters &parameters) {
  const Config &c = model.config();
  const char *unknown = nullptr;
  const auto refuse = [&](bool has, const char *name) {
    if (has && !unknown) unknown = name;
  };
  for (size_t l = 0; l < c.plans.size(); ++l) {
    const LayerPlan &plan = c.plans[l];
    const Parameters::Layer &w = parameters.layers()[l];
    refuse(w.q_bias != Parameters::kNone || w.k_bias != Parameters::kNone || w.v_bias != Parameters::kNone ||
               w.attention_output_bias != Parameters::kNone,
           "biases");
    refuse(plan.head_norm != HeadNorm::NONE, "norms of queries and keys");
    refuse(!plan.norm_before || plan.norm_after, "norms behind attention and feed-forward");
    refuse(plan.activation != Activation::SILU, "GELU gates");
    refuse(plan.rotation != 0 || c.ropes.size() > 1, "layers without rotation, or with one of their own");
    refuse(plan.window > 0, "layers with a window of their own");
    refuse(plan.scale > 0, "a scale of scores of its own");
    refuse(plan.soft_cap > 0, "a soft cap on scores");
  }
  refuse(c.embedding_scale != 1 || c.residual_scale != 1 || c.logit_scale != 1,
         "scaled embeddings, residuals or logits");
  refuse(c.logit_soft_cap > 0, "a soft cap on logits");
  if (unknown)
    fail(Status::UNSUPPORTED, "training does not know ", unknown, ", which architecture '", c.architecture->name,
         "' has");
}

}  // namespace

TrainingGraph::TrainingGraph(const Threads &threads, const Model &model, const Gemm &gemm, const Parameters &parameters,
                             std::vector<bool> trained, NumberType compute, int64_t keep_bytes)
    : gemm_(gemm), config_(model.config()), parameters_(parameters), trained_(std::move(trained)), compute_(compute),
      keep_bytes_(keep_bytes), rules_(model.rules().attention), width_(config_.width),
      queries_(rules_.shape.q_columns()), keys_(rules_.shape.k_columns()), qkv_(rules_.shape.qkv_columns()),
      attended_(rules_.shape.attended_columns()), x_stride_(round_up(width_, kPanel)),
      qkv_stride_(round_up(qkv_, kPanel)), gate_up_stride_(round_up(2 * int64_t{config_.hidden}, kPanel)),
      hidden_stride_(round_up(config_.hidden, kPanel)), attended_stride_(round_up(attended_, kPanel)),
      retrieval_stride_(round_up(queries_ + round_up(keys_, kPanel), 16)),
      products_(static_cast<size_t>(config_.layers)) {
  require_trainable(model, parameters);
  weigh_gates();
  // The lowest layer in which anything is trained.
  lowest_ = parameters_.layers().size();
  for (size_t l = parameters_.layers().size(); l-- > 0;) {
    const Parameters::Layer &w = parameters_.layers()[l];
    bool trains =
        any_trained({w.attention_norm, w.q, w.k, w.v, w.attention_output, w.feed_forward_norm, w.gate, w.up, w.down});
    for (int h = 0; h < config_.heads; ++h)
      trains |= trained_[parameters_.gates()] &&
                gate_weights_[l * static_cast<size_t>(config_.heads) + static_cast<size_t>(h)] != 0;
    if (trains) lowest_ = l;
  }
  if (trained_[parameters_.embedding()]) lowest_ = 0;
  const int64_t hidden = config_.hidden;
  for (size_t l = 0; l < products_.size(); ++l) {
    const auto make = [&](int64_t in, int64_t out) {
      return Product{{compute, in, out}, l < lowest_ ? PackedMatrix() : PackedMatrix(compute, out, in)};
    };
    products_[l] = {make(width_, qkv_), make(attended_, width_), make(width_, 2 * hidden), make(hidden, width_)};
  }
  output_ = {{compute, width_, config_.vocabulary}, {compute, config_.vocabulary, width_}};
  refresh(threads, true);
}

bool TrainingGraph::any_trained(std::initializer_list<size_t> indices) const {
  return std::any_of(indices.begin(), indices.end(), [&](size_t i) { return trained_[i]; });
}

void TrainingGraph::refresh(const Threads &threads, bool all) {
  for (size_t i = 0; i < retrieval_layers_.size(); ++i) {
    retrieval_products_[i].q.pack(threads, parameters_.of(parameters_.layers()[retrieval_layers_[i]].q), width_, false);
    retrieval_products_[i].k.pack(threads, parameters_.of(parameters_.layers()[retrieval_layers_[i]].k), width_, false);
  }
  if (!retrieval_layers_.empty() && !all) return;
  const auto pack = [&](Product &product, std::initializer_list<size_t> parts) {
    if (!all && !any_trained(parts)) return;
    const int64_t columns = parameters_[*parts.begin()].columns;
    product.forward.pack(threads, parameters_.of(*parts.begin()), columns, false);
    if (product.backward.n() > 0) product.backward.pack(threads, parameters_.of(*parts.begin()), columns, true);
  };
  for (size_t l = 0; l < products_.size(); ++l) {
    const Parameters::Layer &w = parameters_.layers()[l];
    pack(products_[l].qkv, {w.q, w.k, w.v});
    pack(products_[l].attention_output, {w.attention_output});
    pack(products_[l].gate_up, {w.gate, w.up});
    pack(products_[l].down, {w.down});
  }
  pack(output_, {parameters_.output()});
  weigh_gates();
}

void TrainingGraph::weigh_gates() {
  const float *beta = parameters_.of(parameters_.gates());
  gate_weights_.resize(static_cast<size_t>(count(parameters_.gates())));
  for (size_t i = 0; i < gate_weights_.size(); ++i) gate_weights_[i] = static_cast<float>(sigmoid(beta[i]));
}

template <class F>
void TrainingGraph::each_buffer(Trace &t, const BatchLayout &layout, int64_t fed, const F &f) const {
  const int64_t rows = layout.rows(), bytes = bytes_of(compute_);
  f(t.normed, rows * width_ * bytes);
  f(t.qkv, rows * qkv_stride_);
  t.attention.each_buffer(rules_, layout, f);
  f(t.attended, rows * attended_ * bytes);
  f(t.middle, rows * x_stride_);
  f(t.normed_again, rows * width_ * bytes);
  f(t.gate_up, fed * gate_up_stride_);
  f(t.activated, fed * config_.hidden * bytes);
}

int64_t TrainingGraph::bytes() const {
  int64_t total = scratch_.bytes();
  for (const auto &x : inputs_) total += static_cast<int64_t>(x.bytes());
  for (const auto &[cache_key, x] : lowest_inputs_) total += static_cast<int64_t>(x.bytes());
  for (const auto &[cache_key, inputs] : retrieval_inputs_)
    for (const auto &x : inputs) total += static_cast<int64_t>(x.bytes());
  for (const Trace &t : traces_) total += t.bytes();
  for (const Buffer<float> *b : {&dx_, &dnormed_, &dattended_, &dqkv_, &dactivated_, &norm_sums_, &logits_,
                                 &retrieval_rows_, &supervised_queries_})
    total += static_cast<int64_t>(b->bytes());
  for (const Buffer<char> *b : {&dgate_up_, &narrow_, &narrow_qkv_, &loss_normed_, &dlogits_, &supervised_normed_})
    total += static_cast<int64_t>(b->bytes());
  return total;
}

void TrainingGraph::reserve(const BatchLayout &layout, int threads, bool backward) {
  rows_ = layout.rows();
  const size_t layers = products_.size();
  const size_t traced = std::max<size_t>(1, layers - lowest_);
  int64_t trace_bytes = 0;
  Trace none;
  each_buffer(none, layout, rows_,
              [&]<class T>(const Buffer<T> &, int64_t size) { trace_bytes += size * static_cast<int64_t>(sizeof(T)); });
  recomputes_ = !backward || static_cast<int64_t>(traced) * trace_bytes > keep_bytes_;
  input_count_ = backward ? layers + 1 : 2;
  trace_count_ = recomputes_ ? 1 : traced;
  inputs_.resize(std::max(inputs_.size(), input_count_));
  traces_.resize(std::max(traces_.size(), trace_count_));
  const int64_t bytes = bytes_of(compute_);
  const int64_t fed = recomputes_ ? std::min(rows_, kChunk) : rows_, chunk = std::min(rows_, kChunk),
                piece = std::min(rows_, kPiece);
  for (size_t i = 0; i < input_count_; ++i) inputs_[i].reserve(rows_ * x_stride_);
  for (size_t i = 0; i < trace_count_; ++i)
    each_buffer(traces_[i], layout, fed, [](auto &buffer, int64_t size) { buffer.reserve(size); });
  rope_.prepare(rules_);
  scratch_.reserve(rules_, threads);
  if (!backward) return;
  dx_.reserve(rows_ * x_stride_);
  dnormed_.reserve(rows_ * x_stride_);
  dattended_.reserve(rows_ * attended_stride_);
  dqkv_.reserve(rows_ * qkv_stride_);
  dactivated_.reserve(piece * hidden_stride_);
  dgate_up_.reserve(chunk * 2 * config_.hidden * bytes);
  norm_sums_.reserve(kNormPieces * x_stride_);
}

// How many layers the forward pass takes: all, or, without a language-model loss, those up to the highest supervised
// one.
size_t TrainingGraph::layers_that_count(const BatchLayout &layout, const RunRequest &request) const {
  const size_t layers = products_.size(), heads = static_cast<size_t>(config_.heads);
  if (request.logits || request.observer ||
      std::any_of(layout.weight.begin(), layout.weight.end(), [](float weight) { return weight > 0; }))
    return layers;
  const auto supervised = [&](const float *weights, size_t layer) {
    return weights &&
           std::any_of(weights + layer * heads, weights + (layer + 1) * heads, [](float weight) { return weight > 0; });
  };
  size_t count = layers;
  while (count > 0 && !supervised(request.supervision.retrieval, count - 1) &&
         !supervised(request.supervision.local, count - 1))
    --count;
  return count;
}

Tally TrainingGraph::run(const Threads &threads, const BatchLayout &layout, const RunRequest &request,
                         size_t cache_key) {
  const bool backward = request.gradients != nullptr;
  const size_t layers = layers_that_count(layout, request);
  reserve(layout, threads.count(), backward);
  forward(threads, layout, layers, request, cache_key);
  if (request.logits) all_logits(threads, request.logits);
  Tally tally = losses(threads, layout, request);
  if (!backward) return tally;
  for (size_t l = layers; l-- > lowest_;) {
    if (recomputes_ && l + 1 < layers) attend(threads, layout, l, request);
    if (feeds_forward(l, layers)) feed_forward_backward(threads, l, request.gradients);
    attention_backward(threads, layout, l, request, tally);
  }
  if (trained_[parameters_.embedding()]) embed_backward(layout, request.gradients);
  return tally;
}

// dx += and the weight's gradient += what dnormed_, of norm(these rows of x), gives them.
void TrainingGraph::norm_backward(const Threads &threads, const float *x, size_t weight, const BatchRows &rows,
                                  float *gradients) {
  std::memset(norm_sums_.data(), 0, norm_sums_.bytes());
  const float *w = parameters_.of(weight);
  parallel_items(threads, kNormPieces, rows.count * width_ * 10, [&](int64_t piece) {
    for (int64_t r = rows.count * piece / kNormPieces; r < rows.count * (piece + 1) / kNormPieces; ++r)
      rms_norm_gradient(x + rows[r] * x_stride_, w, dnormed_.data() + r * x_stride_, width_, config_.norm_epsilon,
                        dx_.data() + rows[r] * x_stride_, norm_sums_.data() + piece * x_stride_);
  });
  if (!trained_[weight]) return;
  for (int64_t piece = 0; piece < kNormPieces; ++piece)
    add_scaled(norm_sums_.data() + piece * x_stride_, 1, width_, gradients + parameters_[weight].offset);
}

void TrainingGraph::feed_forward_backward(const Threads &threads, size_t layer, float *gradients) {
  Trace &t = trace(layer);
  const Parameters::Layer &w = parameters_.layers()[layer];
  const int64_t hidden = config_.hidden, bytes = bytes_of(compute_);
  for (int64_t first = 0; first < rows_; first += kChunk) {
    const int64_t rows = std::min(kChunk, rows_ - first), kept = recomputes_ ? 0 : first;
    if (recomputes_) feed_forward(threads, layer, first, rows, nullptr);
    const float *gate_up = t.gate_up.data() + kept * gate_up_stride_;
    const ConstRows dx = narrowed(threads, compute_, dx_.data() + first * x_stride_, x_stride_, width_, rows, narrow_);
    if (trained_[w.down])
      gemm_.multiply_transposed(threads, dx, {compute_, t.activated.data() + kept * hidden * bytes, hidden}, rows,
                                width_, hidden, gradients + parameters_[w.down].offset, hidden, true);
    const ConstRows dgate_up{compute_, dgate_up_.data(), 2 * hidden};
    each_piece(rows, [&](int64_t begin, int64_t count) {
      gemm_.multiply(threads, dx.from(begin), count, products_[layer].down.backward.panels(), dactivated_.data(),
                     hidden_stride_, false);
      parallel_for(threads, count, row_grain(2 * hidden), [&](int64_t from, int64_t to) {
        for (int64_t r = from; r < to; ++r) {
          const float *gate = gate_up + (begin + r) * gate_up_stride_, *dy = dactivated_.data() + r * hidden_stride_;
          as_numbers(compute_, dgate_up_.data(), (begin + r) * 2 * hidden,
                     [&](auto *out) { silu_multiply_gradient(gate, gate + hidden, dy, hidden, out, out + hidden); });
        }
      });
      gemm_.multiply(threads, dgate_up.from(begin), count, products_[layer].gate_up.backward.panels(), dnormed_.data(),
                     x_stride_, false);
      norm_backward(threads, t.middle.data(), w.feed_forward_norm, {first + begin, count}, gradients);
    });
    if (any_trained({w.gate, w.up}))
      gemm_.multiply_transposed(threads, dgate_up, {compute_, t.normed_again.data() + first * width_ * bytes, width_},
                                rows, 2 * hidden, width_, gradients + parameters_[w.gate].offset, width_, true);
  }
}

void TrainingGraph::attention_backward(const Threads &threads, const BatchLayout &layout, size_t layer,
                                       const RunRequest &request, Tally &tally) {
  Trace &t = trace(layer);
  const Parameters::Layer &w = parameters_.layers()[layer];
  const ConstRows dx = narrowed(threads, compute_, dx_.data(), x_stride_, width_, rows_, narrow_);
  if (trained_[w.attention_output])
    gemm_.multiply_transposed(threads, dx, {compute_, t.attended.data(), attended_}, rows_, width_, attended_,
                              request.gradients + parameters_[w.attention_output].offset, attended_, true);
  gemm_.multiply(threads, dx, rows_, products_[layer].attention_output.backward.panels(), dattended_.data(),
                 attended_stride_, false);

  std::vector<double> dbeta(static_cast<size_t>(config_.heads));
  tally.supervision.add(attend_streams_gradient(threads, attention(layout, layer, request, t), dattended_.data(),
                                                attended_stride_, dqkv_.data(), dbeta.data()));
  if (trained_[parameters_.gates()]) {
    float *gates =
        request.gradients + parameters_[parameters_.gates()].offset + static_cast<int64_t>(layer) * config_.heads;
    for (size_t h = 0; h < dbeta.size(); ++h) gates[h] += static_cast<float>(dbeta[h]);
  }

  const ConstRows dqkv = narrowed(threads, compute_, dqkv_.data(), qkv_stride_, qkv_, rows_, narrow_qkv_);
  if (any_trained({w.q, w.k, w.v}))
    gemm_.multiply_transposed(threads, dqkv, {compute_, t.normed.data(), width_}, rows_, qkv_, width_,
                              request.gradients + parameters_[w.q].offset, width_, true);
  if (layer == lowest_ && !trained_[w.attention_norm] && !trained_[parameters_.embedding()]) return;
  gemm_.multiply(threads, dqkv, rows_, products_[layer].qkv.backward.panels(), dnormed_.data(), x_stride_, false);
  norm_backward(threads, input(layer), w.attention_norm, {0, rows_}, request.gradients);
}

void TrainingGraph::embed_backward(const BatchLayout &layout, float *gradients) {
  float *table = gradients + parameters_[parameters_.embedding()].offset;
  for (int64_t t = 0; t < rows_; ++t)
    add_scaled(dx_.data() + t * x_stride_, 1, width_, table + layout.tokens[t] * width_);
}

}  // namespace infini
