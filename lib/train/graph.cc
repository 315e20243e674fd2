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

TrainingGraph::TrainingGraph(const Threads &threads, const Model &model, const Gemm &gemm, const Parameters &parameters,
                             std::vector<bool> trained, NumberType compute, int64_t activation_bytes, TrainedPart part,
                             Lora *lora)
    : gemm_(gemm), config_(model.config()), parameters_(parameters), trained_(std::move(trained)), lora_(lora),
      compute_(compute), activation_bytes_(activation_bytes), model_rules_(model.rules()), kinds_(model_rules_.kinds),
      width_(config_.width), queries_(config_.q_columns()), keys_(config_.k_columns()), qkv_(config_.qkv_columns()),
      attended_(config_.attended_columns()), x_stride_(round_up(width_, kPanel)), qkv_stride_(round_up(qkv_, kPanel)),
      raw_stride_(round_up(queries_ + keys_, kPanel)), gate_up_stride_(round_up(2 * int64_t{config_.hidden}, kPanel)),
      hidden_stride_(round_up(config_.hidden, kPanel)), attended_stride_(round_up(attended_, kPanel)),
      retrieval_stride_(round_up(queries_ + round_up(keys_, kPanel), 16)),
      products_(static_cast<size_t>(config_.layers)), ropes_(kinds_.size()) {
  const auto any = [&](Field field) {
    return std::ranges::any_of(parameters_.layers(), [&](const auto &w) { return w[field] != Parameters::kNone; });
  };
  norms_heads_ = any(Field::Q_NORM);
  keeps_branches_ = config_.residual_scale != 1 || any(Field::ATTENTION_OUTPUT_BIAS) ||
                    any(Field::ATTENTION_POST_NORM) || any(Field::FEED_FORWARD_POST_NORM);
  set_rules(model_rules_.attention);
  weigh_gates();
  // The lowest layer in which anything is trained.
  lowest_ = parameters_.layers().size();
  for (size_t l = parameters_.layers().size(); l-- > 0;) {
    bool found = std::ranges::any_of(parameters_.layers()[l].all(),
                                     [&](size_t i) { return trained_[i] || (lora_ && lora_->adapts(i)); });
    for (int h = 0; h < config_.heads; ++h)
      found |= trained_[parameters_.gates()] &&
               gate_weights_[l * static_cast<size_t>(config_.heads) + static_cast<size_t>(h)] != 0;
    if (found) lowest_ = l;
  }
  if (trained_[parameters_.embedding()]) lowest_ = 0;
  const auto make = [&](size_t first, bool backward) {
    const int64_t inputs = parameters_[first].columns;
    return parameters_[first].frozen ? MatrixProducts(parameters_.matrix_parts(first), inputs)
                                     : MatrixProducts(compute, inputs, parameters_.matrix_rows(first), backward);
  };
  for (size_t l = 0; l < products_.size(); ++l) {
    const auto of = [&](Field field) {
      const size_t first = parameters_.layers()[l][field];
      return Product{first, make(first, l >= lowest_)};
    };
    products_[l] = {of(Field::Q), of(Field::ATTENTION_OUTPUT), of(Field::FFN_GATE), of(Field::DOWN)};
    // Unpacked for each piece, weights want larger ones.
    if (products_[l].down.matrix.is_frozen()) piece_ = kFeedForwardRows;
  }
  output_ = make(parameters_.output(), true);
  if (part == TrainedPart::RETRIEVAL) choose_retrieval_layers();
  refresh(threads, true);
}

void TrainingGraph::set_rules(const AttentionRules &rules) {
  for (size_t i = 0; i < kinds_.size(); ++i) {
    AttentionRules &kind = kinds_[i];
    kind = rules;
    const AttentionRules &own = model_rules_.kinds[i];
    kind.rope = own.rope;
    kind.scale = own.scale;
    kind.soft_cap = own.soft_cap;
    if (own.shape.window == 0) continue;
    kind.shape.window = own.shape.window;
    kind.shape.carry = own.shape.carry;
    kind.shape.sinks = 0;
  }
}

bool TrainingGraph::trains_matrix(size_t first) const {
  size_t i = first;
  do
    if (trained_[i]) return true;
  while (parameters_[++i].behind);  // the gates, which are the last, are behind nothing
  return false;
}

void TrainingGraph::refresh(const Threads &threads, bool all) {
  for (size_t i = 0; i < retrieval_layers_.size(); ++i) {
    retrieval_products_[i].q.pack(threads, parameters_.of(parameters_.layers()[retrieval_layers_[i]][Field::Q]), width_,
                                  false);
    retrieval_products_[i].k.pack(threads, parameters_.of(parameters_.layers()[retrieval_layers_[i]][Field::K]), width_,
                                  false);
  }
  if (!retrieval_layers_.empty() && !all) return;
  const auto pack = [&](MatrixProducts &matrix, size_t first) {
    if (all || trains_matrix(first)) matrix.pack(threads, parameters_.of(first));
  };
  for (LayerProducts &layer : products_)
    for (Product *const p : {&layer.qkv, &layer.attention_output, &layer.gate_up, &layer.down})
      pack(p->matrix, p->first);
  pack(output_, parameters_.output());
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
  if (norms_heads_) f(t.raw, rows * raw_stride_);
  t.attention.each_buffer(kinds_[0], layout, f);
  f(t.attended, rows * attended_ * bytes);
  if (keeps_branches_) f(t.branch, rows * x_stride_);
  f(t.middle, rows * x_stride_);
  f(t.normed_again, rows * width_ * bytes);
  f(t.gate_up, fed * gate_up_stride_);
  f(t.activated, fed * config_.hidden * bytes);
  if (keeps_branches_) f(t.fed_branch, fed * x_stride_);
}

int64_t TrainingGraph::bytes() const {
  int64_t total = scratch_.bytes() + sums_.bytes() + output_.bytes();
  for (const LayerProducts &layer : products_)
    for (const Product *const p : {&layer.qkv, &layer.attention_output, &layer.gate_up, &layer.down})
      total += p->matrix.bytes();
  for (const auto &[q, k] : retrieval_products_) total += q.bytes() + k.bytes();
  for (const auto &x : inputs_) total += static_cast<int64_t>(x.bytes());
  for (const auto &[cache_key, x] : lowest_inputs_) total += static_cast<int64_t>(x.bytes());
  for (const auto &[cache_key, inputs] : retrieval_inputs_)
    for (const auto &x : inputs) total += static_cast<int64_t>(x.bytes());
  for (const Trace &t : traces_) total += t.bytes();
  for (const Buffer<float> *b : {&dx_, &dbranch_, &dnormed_, &dattended_, &dqkv_, &dactivated_, &logits_,
                                 &retrieval_rows_, &supervised_queries_, &raw_queries_, &raw_keys_})
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
  recomputes_ = !backward || static_cast<int64_t>(traced) * trace_bytes > activation_bytes_;
  input_count_ = backward ? layers + 1 : 2;
  trace_count_ = recomputes_ ? 1 : traced;
  inputs_.resize(std::max(inputs_.size(), input_count_));
  traces_.resize(std::max(traces_.size(), trace_count_));
  const int64_t bytes = bytes_of(compute_);
  const int64_t fed = recomputes_ ? std::min(rows_, kFeedForwardRows) : rows_,
                chunk = std::min(rows_, kFeedForwardRows), piece = std::min(rows_, piece_);
  for (size_t i = 0; i < input_count_; ++i) inputs_[i].reserve(rows_ * x_stride_);
  for (size_t i = 0; i < trace_count_; ++i)
    each_buffer(traces_[i], layout, fed, [](auto &buffer, int64_t size) { buffer.reserve(size); });
  for (size_t i = 0; i < kinds_.size(); ++i) ropes_[i].prepare(kinds_[i]);
  scratch_.reserve(kinds_, threads);
  if (!backward) return;
  dx_.reserve(rows_ * x_stride_);
  dnormed_.reserve(rows_ * x_stride_);
  dattended_.reserve(rows_ * attended_stride_);
  dqkv_.reserve(rows_ * qkv_stride_);
  dactivated_.reserve(piece * hidden_stride_);
  dgate_up_.reserve(chunk * 2 * config_.hidden * bytes);
  sums_.reserve(std::max(width_, std::max(queries_, qkv_ - queries_)));
}

// How many layers the forward pass takes: all, or, without a language-model loss, those up to the highest supervised
// one.
size_t TrainingGraph::layers_that_count(const BatchLayout &layout, const RunRequest &request) const {
  const size_t layers = products_.size();
  if (request.logits ||
      std::any_of(layout.weight.begin(), layout.weight.end(), [](float weight) { return weight > 0; }))
    return layers;
  const auto supervised = [&](size_t layer) {
    for (int h = 0; h < config_.heads; ++h)
      if (request.supervision->supervises(static_cast<int>(layer), h) ||
          request.supervision->supervises_locally(static_cast<int>(layer), h))
        return true;
    return false;
  };
  size_t count = request.supervision ? layers : 0;
  while (count > 0 && !supervised(count - 1)) --count;
  return count;
}

Tally TrainingGraph::run(const Threads &threads, const BatchLayout &layout, const RunRequest &request,
                         size_t cache_key) {
  if (!retrieval_layers_.empty()) return run_retrieval(threads, layout, request, cache_key);
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

Tally TrainingGraph::observe(const Threads &threads, const BatchLayout &layout, const LayerObserver &observer) {
  reserve(layout, threads.count(), false);
  forward(threads, layout, products_.size(), {}, kUncached, &observer);
  return losses(threads, layout, {});
}

void TrainingGraph::multiply(const Threads &threads, const Product &product, const ConstRows &x, int64_t rows, float *y,
                             int64_t y_row, bool accumulate) const {
  product.matrix.forward(threads, gemm_, x, rows, y, y_row, accumulate);
  if (lora_) lora_->add(threads, gemm_, product.first, x, rows, y, y_row);
}

void TrainingGraph::multiply_back(const Threads &threads, const Product &product, const ConstRows &x,
                                  const ConstRows &dy, int64_t rows, float *dx, int64_t dx_row) const {
  if (dx) product.matrix.backward(threads, gemm_, dy, rows, dx, dx_row, false);
  if (lora_) lora_->add_gradients(threads, gemm_, product.first, x, dy, rows, dx, dx_row);
}

// dx += and the weight's gradient += what dnormed_, of norm(these rows of x), gives them. Without a weight the rows are
// taken as they are.
void TrainingGraph::norm_backward(const Threads &threads, const float *x, size_t weight, const BatchRows &rows,
                                  float *gradients) {
  const float *const w = weight != Parameters::kNone ? parameters_.of(weight) : nullptr;
  sums_.add(threads, rows.count, width_, 1, gradient_of(weight, gradients), [&](int64_t r, float *sums) {
    const float *const d = dnormed_.data() + r * x_stride_;
    float *const dx = dx_.data() + rows[r] * x_stride_;
    if (w) rms_norm_gradient(x + rows[r] * x_stride_, w, d, width_, config_.norm_epsilon, dx, sums);
    else add_scaled(d, 1, width_, dx);
  });
}

void TrainingGraph::feed_forward_backward(const Threads &threads, size_t layer, float *gradients) {
  Trace &t = trace(layer);
  const Parameters::Layer &w = parameters_.layers()[layer];
  const int64_t hidden = config_.hidden, bytes = bytes_of(compute_);
  const bool silu = config_.plans[layer].activation == Activation::SILU;
  for (int64_t first = 0; first < rows_; first += kFeedForwardRows) {
    const int64_t rows = std::min(kFeedForwardRows, rows_ - first), kept = recomputes_ ? 0 : first;
    if (recomputes_) feed_forward(threads, layer, first, rows, nullptr);
    const float *gate_up = t.gate_up.data() + kept * gate_up_stride_;
    const ConstRows dx = branch_gradient(threads, Parameters::kNone, w[Field::FEED_FORWARD_POST_NORM],
                                         begin_at(t.fed_branch, kept * x_stride_), {first, rows}, gradients);
    const ConstRows activated{compute_, t.activated.data() + kept * hidden * bytes, hidden},
        normed{compute_, t.normed_again.data() + first * width_ * bytes, width_},
        dgate_up{compute_, dgate_up_.data(), 2 * hidden};
    if (float *const to = gradient_of(w[Field::DOWN], gradients))
      gemm_.multiply_transposed(threads, dx, activated, rows, width_, hidden, to, hidden, true);
    each_piece(rows, piece_, [&](int64_t begin, int64_t count) {
      multiply_back(threads, products_[layer].down, activated.from(begin), dx.from(begin), count, dactivated_.data(),
                    hidden_stride_);
      parallel_for(threads, count, row_grain(2 * hidden), [&](int64_t from, int64_t to) {
        for (int64_t r = from; r < to; ++r) {
          const float *gate = gate_up + (begin + r) * gate_up_stride_, *dy = dactivated_.data() + r * hidden_stride_;
          as_numbers(compute_, dgate_up_.data(), (begin + r) * 2 * hidden, [&](auto *out) {
            if (silu) silu_multiply_gradient(gate, gate + hidden, dy, hidden, out, out + hidden);
            else gelu_multiply_gradient(gate, gate + hidden, dy, hidden, out, out + hidden);
          });
        }
      });
      multiply_back(threads, products_[layer].gate_up, normed.from(begin), dgate_up.from(begin), count, dnormed_.data(),
                    x_stride_);
      norm_backward(threads, t.middle.data(), w[Field::FEED_FORWARD_NORM], {first + begin, count}, gradients);
    });
    if (trains_matrix(w[Field::FFN_GATE]))
      gemm_.multiply_transposed(threads, dgate_up, normed, rows, 2 * hidden, width_,
                                gradients + parameters_[w[Field::FFN_GATE]].offset, width_, true);
  }
}

void TrainingGraph::attention_backward(const Threads &threads, const BatchLayout &layout, size_t layer,
                                       const RunRequest &request, Tally &tally) {
  Trace &t = trace(layer);
  const Parameters::Layer &w = parameters_.layers()[layer];
  const ConstRows dx = branch_gradient(threads, w[Field::ATTENTION_OUTPUT_BIAS], w[Field::ATTENTION_POST_NORM],
                                       t.branch.data(), {0, rows_}, request.gradients);
  const ConstRows attended{compute_, t.attended.data(), attended_}, normed{compute_, t.normed.data(), width_};
  if (float *const to = gradient_of(w[Field::ATTENTION_OUTPUT], request.gradients))
    gemm_.multiply_transposed(threads, dx, attended, rows_, width_, attended_, to, attended_, true);
  multiply_back(threads, products_[layer].attention_output, attended, dx, rows_, dattended_.data(), attended_stride_);

  std::vector<double> dbeta(static_cast<size_t>(config_.heads));
  tally.supervision.add(attend_streams_gradient(threads, attention(layout, layer, request, t), dattended_.data(),
                                                attended_stride_, dqkv_.data(), dbeta.data()));
  if (trained_[parameters_.gates()]) {
    float *gates =
        request.gradients + parameters_[parameters_.gates()].offset + static_cast<int64_t>(layer) * config_.heads;
    for (size_t h = 0; h < dbeta.size(); ++h) gates[h] += static_cast<float>(dbeta[h]);
  }

  for (const HeadPart &part : head_parts(layer))
    finish_heads_gradient(threads, part, rows_, begin_at(t.raw, part.first), raw_stride_, dqkv_.data() + part.first,
                          qkv_stride_, request.gradients);
  const ConstRows dqkv = narrowed(threads, compute_, dqkv_.data(), qkv_stride_, qkv_, rows_, narrow_qkv_);
  if (trains_matrix(w[Field::Q]))
    gemm_.multiply_transposed(threads, dqkv, normed, rows_, qkv_, width_,
                              request.gradients + parameters_[w[Field::Q]].offset, width_, true);
  const bool ends = layer == lowest_ && !trains(w[Field::ATTENTION_NORM]) && !trained_[parameters_.embedding()];
  multiply_back(threads, products_[layer].qkv, normed, dqkv, rows_, ends ? nullptr : dnormed_.data(), x_stride_);
  if (ends) return;
  norm_backward(threads, input(layer), w[Field::ATTENTION_NORM], {0, rows_}, request.gradients);
}

void TrainingGraph::embed_backward(const BatchLayout &layout, float *gradients) {
  float *table = gradients + parameters_[parameters_.embedding()].offset;
  for (int64_t t = 0; t < rows_; ++t)
    add_scaled(dx_.data() + t * x_stride_, config_.embedding_scale, width_, table + layout.tokens[t] * width_);
}

}  // namespace infini
