#include "model/forward.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "model/layers.h"
#include "model/worth.h"

namespace infini {
namespace {

constexpr int64_t kLogitsRows = 64;

// The left side of a product.
struct Rows {
  NumberType type;
  char *data;
  int64_t stride;
  ConstRows read() const { return {type, data, stride}; }
};

void norm(const float *x, const std::vector<float> &weight, float epsilon, const Rows &to, int64_t row) {
  const auto n = static_cast<int64_t>(weight.size());
  as_numbers(to.type, to.data, row * to.stride, [&](auto *out) { rms_norm(x, weight.data(), n, epsilon, out); });
}

void copy(const float *x, int64_t n, const Rows &to, int64_t row) {
  store(x, n, to.type, to.data + row * to.stride * bytes_of(to.type));
}

void scale(float *x, int64_t n, float by) {
  for (int64_t i = 0; i < n; ++i) x[i] *= by;
}

// Scales and caps what the output layer's product gave.
void finish_logits(const Config &config, float *logits, int64_t rows, int64_t stride) {
  if (config.logit_scale == 1 && config.logit_soft_cap == 0) return;
  for (int64_t row = 0; row < rows; ++row) {
    float *const to = logits + row * stride;
    if (config.logit_scale != 1) scale(to, config.vocabulary, config.logit_scale);
    if (config.logit_soft_cap > 0) soft_cap(to, config.vocabulary, config.logit_soft_cap);
  }
}

// One chunk on its way through the layers.
class Chunk {
 public:
  Chunk(const Threads &threads, const Model &model, std::span<const StateTokens> chunk, Workspace &workspace,
        bool exact)
      : threads_(threads), config_(model.config()), rules_(model.rules()), weights_(model.weights()),
        gemm_(model.gemm()), workspace_(workspace), chunk_(chunk), count_(count_tokens(chunk)), exact_(exact),
        width_(config_.width), x_stride_(round_up(width_, kPanel)),
        row_grain_(worth_grain(10 * width_)), normed_{weights_.rows_type(), workspace.normed.data(), width_},
        attended_{rules_.choice.floats, workspace.attended.data(), rules_.attention.shape.attended_columns()},
        activated_{weights_.rows_type(), workspace.activated.data(), config_.hidden} {}

  void run(Worth &worth) {
    lay_out_rows();
    embed();
    for (size_t l = 0; l < weights_.layers.size(); ++l) {
      const LayerWeights &layer = weights_.layers[l];
      norm_all(layer.attention_norm);
      attention(layer, l);
      add(attended_, layer.attention_output, layer.attention_output_bias, layer.attention_post_norm);
      norm_all(layer.feed_forward_norm);
      feed_forward(layer, config_.plans[l].activation);
      add(activated_, layer.down, {}, layer.feed_forward_post_norm);
      worth.of_layer(static_cast<int>(l), x(0), x_stride_);
      if (workspace_.watch) workspace_.watch(static_cast<int>(l), x(0), count_, x_stride_);
    }
    finish();
  }

  float *x(int64_t row) { return workspace_.x.data() + row * x_stride_; }
  int64_t count() const { return count_; }

 private:
  void lay_out_rows() {
    workspace_.rows.clear();
    for (int64_t row = 0; const StateTokens &one : chunk_) {
      workspace_.rows.push_back({row, {}});
      row += static_cast<int64_t>(one.tokens.size());
    }
  }

  void embed() {
    for (size_t i = 0; i < chunk_.size(); ++i) {
      const StateTokens &one = chunk_[i];
      const int64_t row = workspace_.rows[i].first;
      parallel_for(threads_, static_cast<int64_t>(one.tokens.size()), row_grain_, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          weights_.embed(one.tokens[t], x(row + t));
          if (config_.embedding_scale != 1) scale(x(row + t), width_, config_.embedding_scale);
          for (size_t r = 0; r < rules_.ropes.size(); ++r) {
            const Rope &rope = rules_.ropes[r];
            const int64_t at = workspace_.angles(config_, static_cast<int>(r)) + (row + t) * (rope.dimensions / 2);
            rope.angles(one.state->view.position + t, workspace_.cosine.data() + at, workspace_.sine.data() + at);
          }
        }
      });
    }
  }

  // Without a weight: the rows as they are.
  void norm_all(const std::vector<float> &weight) {
    parallel_for(threads_, count_, row_grain_, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        if (weight.empty()) copy(x(t), width_, normed_, t);
        else norm(x(t), weight, config_.norm_epsilon, normed_, t);
      }
    });
  }

  // x += norm(a b + bias) * residual_scale, of which a plain layer has the product alone.
  void add(const Rows &a, const WeightMatrix &b, const std::vector<float> &bias, const std::vector<float> &post_norm) {
    if (bias.empty() && post_norm.empty() && config_.residual_scale == 1)
      return multiply(a, b, workspace_.x, x_stride_, true);
    multiply(a, b, workspace_.branch, x_stride_, false);
    parallel_for(threads_, count_, row_grain_, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        float *const row = workspace_.branch.data() + t * x_stride_;
        if (!bias.empty()) add_scaled(bias.data(), 1, width_, row);
        if (!post_norm.empty()) rms_norm(row, post_norm.data(), width_, config_.norm_epsilon, row);
        add_scaled(row, config_.residual_scale, width_, x(t));
      }
    });
  }

  // Biases and norms of q, k and v, where the layer has them.
  void finish_qkv(const LayerWeights &layer, int64_t stride) {
    if (layer.qkv_bias.empty() && layer.q_norm.empty()) return;
    const int64_t q = rules_.attention.shape.q_columns(), k = rules_.attention.shape.k_columns();
    const auto norm_heads = [&](float *row, int64_t size, const std::vector<float> &weight) {
      const auto n = static_cast<int64_t>(weight.size());
      for (int64_t i = 0; i < size; i += n) rms_norm(row + i, weight.data(), n, config_.norm_epsilon, row + i);
    };
    parallel_for(threads_, count_, row_grain_, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        float *const row = workspace_.qkv.data() + t * stride;
        if (!layer.qkv_bias.empty()) add_scaled(layer.qkv_bias.data(), 1, layer.qkv.n(), row);
        if (layer.q_norm.empty()) continue;
        norm_heads(row, q, layer.q_norm);
        norm_heads(row + q, k, layer.k_norm);
      }
    });
  }

  void multiply(const Rows &a, const WeightMatrix &b, Buffer<float> &c, int64_t c_stride, bool accumulate) {
    infini::multiply(threads_, gemm_, weights_.products, a.read(), count_, b, c.data(), c_stride, accumulate, exact_);
  }

  // One product for all tokens, then each state by itself. Many states with a token each are divided among the threads;
  // one state divides its own work.
  void attention(const LayerWeights &layer, size_t index) {
    const int64_t stride = round_up(layer.qkv.n(), kPanel);
    multiply(normed_, layer.qkv, workspace_.qkv, stride, false);
    finish_qkv(layer, stride);
    parallel_items(threads_, static_cast<int64_t>(chunk_.size()), count_ * width_ * width_,
                   [&](int64_t i, const Threads &here) {
      auto &[row, after] = workspace_.rows[i];
      after = attend_state(here, layer, index, chunk_[i], row);
    });
  }

  // Segment by segment. Gives the view after its last token.
  View attend_state(const Threads &threads, const LayerWeights &layer, size_t index, const StateTokens &one,
                    int64_t row) {
    const AttentionRules &rules = rules_.of(index);
    const int64_t stride = round_up(layer.qkv.n(), kPanel), half = rules.rope.dimensions / 2;
    const int64_t angles = workspace_.angles(config_, config_.plans[index].rotation);
    const int64_t end = row + static_cast<int64_t>(one.tokens.size());
    LayerState &layer_state = layers_of(*one.state)[index];
    View view = one.state->view;
    while (row < end) {
      const int64_t span = std::min(end - row, rules.shape.segment - view.open());
      const TokenSpan tokens{view,
                             span,
                             {workspace_.qkv.data() + row * stride, stride},
                             workspace_.cosine.data() + angles + row * half,
                             workspace_.sine.data() + angles + row * half,
                             layer.gate_weight.data(),
                             layer.keep_bias.empty() ? nullptr : layer.keep_bias.data(),
                             workspace_.raised[&one - chunk_.data()],
                             attended_.data + row * attended_.stride * bytes_of(attended_.type),
                             attended_.stride};
      attend(threads, rules, gemm_, layer_state, tokens, exact_, workspace_.attention);
      view.position += span;
      row += span;
      layer_state.window.settle(view);
      if (view.open() < rules.shape.segment) continue;
      Closing plain;
      if (!one.state->closes) plain.after = view.closed(rules_.attention.shape);
      const Closing &closing = one.state->closes ? one.state->closing : plain;
      close_segment(threads, rules, layer_state, view, closing, angles_of(*one.state), workspace_.attention);
      view = closing.after;
      if (one.state->most_checkpoints > 0) keep_boundary(*one.state, view, index);
    }
    return view;
  }

  // Every state's view, and the outputs of its last token and of the last one before each checkpoint.
  void finish() {
    for (size_t i = 0; i < chunk_.size(); ++i) {
      State &state = *chunk_[i].state;
      const Workspace::StateRows &rows = workspace_.rows[i];
      const auto output = [&](int64_t position, std::vector<float> &hidden) {
        hidden.resize(static_cast<size_t>(width_));
        rms_norm(x(rows.first + position - 1 - state.view.position), weights_.output_norm.data(), width_,
                 config_.norm_epsilon, hidden.data());
      };
      for (Checkpoint &checkpoint : state.checkpoints) {
        if (checkpoint.view.position <= state.view.position) continue;
        output(checkpoint.view.position, checkpoint.hidden);
        checkpoint.has_hidden = true;
      }
      output(rows.after.position, state.hidden);
      state.has_hidden = true;
      state.has_logits = false;
      state.view = rows.after;
    }
  }

  // Up to the activation: what `down` is multiplied with.
  void feed_forward(const LayerWeights &layer, Activation activation) {
    const int64_t hidden = config_.hidden, stride = round_up(layer.gate_up.n(), kPanel);
    multiply(normed_, layer.gate_up, workspace_.gate_up, stride, false);
    parallel_for(threads_, count_, row_grain_, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const float *gate = workspace_.gate_up.data() + t * stride;
        as_numbers(activated_.type, activated_.data, t * activated_.stride, [&](auto *to) {
          if (activation == Activation::SILU) silu_multiply(gate, gate + hidden, hidden, to);
          else gelu_multiply(gate, gate + hidden, hidden, to);
        });
      }
    });
  }

  const Threads &threads_;
  const Config &config_;
  const Rules &rules_;
  const Weights &weights_;
  const Gemm &gemm_;
  Workspace &workspace_;
  const std::span<const StateTokens> chunk_;
  const int64_t count_;
  const bool exact_;
  const int64_t width_, x_stride_;
  const int64_t row_grain_;  // rows of element-wise work below which a loop stays serial
  const Rows normed_, attended_, activated_;
};

// Logits of `rows` rows of x, after the last norm.
void output_rows(const Threads &threads, const Model &model, Workspace &workspace, const float *x, int64_t x_stride,
                 int64_t rows, float *logits, int64_t stride, bool exact) {
  const Weights &weights = model.weights();
  const Rows normed{weights.rows_type(), workspace.normed.data(), model.config().width};
  for (int64_t row = 0; row < rows; ++row)
    norm(x + row * x_stride, weights.output_norm, model.config().norm_epsilon, normed, row);
  multiply(threads, model.gemm(), weights.products, normed.read(), rows, weights.output, logits, stride, false, exact);
  finish_logits(model.config(), logits, rows, stride);
}

}  // namespace

int64_t count_tokens(std::span<const StateTokens> chunk) {
  int64_t count = 0;
  for (const StateTokens &one : chunk) count += static_cast<int64_t>(one.tokens.size());
  return count;
}

int64_t longest_chunk(const Model &model, const State &state) {
  const AttentionShape &shape = model.rules().attention.shape;
  return shape.keep > 0 ? shape.segment - state.view.open() : std::numeric_limits<int64_t>::max();
}

void Workspace::reserve(const Model &model, int64_t longest, int threads) {
  const Config &config = model.config();
  const Weights &weights = model.weights();
  const int64_t bytes = bytes_of(weights.rows_type());
  tokens = std::max(tokens, longest);
  x.reserve(tokens * round_up(config.width, kPanel));
  // The output layer norms up to kLogitsRows rows at a time.
  normed.reserve(std::max(tokens, kLogitsRows) * config.width * bytes);
  qkv.reserve(tokens * round_up(weights.layers[0].qkv.n(), kPanel));
  attended.reserve(tokens * model.rules().attention.shape.attended_columns() * bytes_of(model.rules().choice.floats));
  gate_up.reserve(tokens * round_up(weights.layers[0].gate_up.n(), kPanel));
  activated.reserve(tokens * config.hidden * bytes);
  const int64_t all_angles = angles(config, static_cast<int>(config.ropes.size()));
  cosine.reserve(all_angles);
  sine.reserve(all_angles);
  if (config.residual_scale != 1 ||
      std::any_of(weights.layers.begin(), weights.layers.end(), [](const LayerWeights &layer) {
        return !layer.attention_output_bias.empty() || !layer.attention_post_norm.empty();
      }))
    branch.reserve(tokens * round_up(config.width, kPanel));
  for (const AttentionRules &rules : model.rules().kinds) attention.reserve(rules.shape, threads, tokens);
}

int64_t Workspace::angles(const Config &config, int rotation) const {
  int64_t begin = 0;
  for (int r = 0; r < rotation; ++r) begin += tokens * (config.ropes[r].dimensions / 2);
  return begin;
}

int64_t Workspace::bytes() const {
  return static_cast<int64_t>(x.bytes() + normed.bytes() + qkv.bytes() + attended.bytes() + gate_up.bytes() +
                              activated.bytes() + cosine.bytes() + sine.bytes() + branch.bytes() + logits.bytes()) +
         attention.bytes();
}

void forward(const Threads &threads, const Model &model, std::span<const StateTokens> chunk, Workspace &workspace,
             bool exact, const LogitsSink &sink) {
  workspace.reserve(model, count_tokens(chunk), threads.count());
  const int64_t stride = round_up(model.config().vocabulary, kPanel), x_stride = round_up(model.config().width, kPanel);
  workspace.rows.reserve(chunk.size());

  Worth worth(threads, model, chunk, workspace);
  worth.of_first_tokens(exact);
  const Unfinished change(chunk);
  Chunk running(threads, model, chunk, workspace, exact);
  running.run(worth);
  const bool all_rows = sink || worth.wants_rows();
  if (all_rows) workspace.logits.reserve(kLogitsRows * stride);
  for (int64_t first = 0; all_rows && first < running.count(); first += kLogitsRows) {
    const int64_t rows = std::min(kLogitsRows, running.count() - first);
    output_rows(threads, model, workspace, running.x(first), x_stride, rows, workspace.logits.data(), stride, exact);
    if (sink) sink(threads, first, rows, workspace.logits.data(), stride);
    worth.of_next_tokens(first, rows, workspace.logits.data(), stride);
  }
  worth.note();
}

void close_segment(const Threads &threads, const Model &model, State &state, Workspace &workspace, bool empty) {
  if (state.view.open() == 0 && !empty) return;
  workspace.reserve(model, 1, threads.count());
  const AttentionShape &shape = model.rules().attention.shape;
  Closing &closing = state.closing;
  if (shape.keep > 0) state.keep.close(state.view, shape, closing, empty);
  else closing.after = state.view.closed(shape);
  const View &after = closing.after;
  const Unfinished change(state);
  std::vector<LayerState> &layers = layers_of(state);
  for (size_t l = 0; l < layers.size(); ++l) {
    close_segment(threads, model.rules().of(l), layers[l], state.view, closing, angles_of(state), workspace.attention);
    if (state.most_checkpoints > 0) keep_boundary(state, after, l);
  }
  state.view = after;
  state.keep.apply(closing);
  if (state.most_checkpoints > 0) {
    state.checkpoints.back().keep = state.keep;
    state.checkpoints.back().hidden = state.hidden;
    state.checkpoints.back().has_hidden = state.has_hidden;
  }
}

void compute_logits(const Threads &threads, const Model &model, std::span<State *const> states, Workspace &workspace,
                    bool exact) {
  const auto count = static_cast<int64_t>(states.size());
  workspace.reserve(model, count, threads.count());
  const Weights &weights = model.weights();
  const int64_t width = model.config().width, stride = round_up(model.config().vocabulary, kPanel);
  const Rows normed{weights.rows_type(), workspace.normed.data(), width};
  for (int64_t row = 0; row < count; ++row) copy(states[row]->hidden.data(), width, normed, row);
  const auto give = [&](int64_t row, int64_t rows, float *logits) {
    multiply(threads, model.gemm(), weights.products, normed.read().from(row), rows, weights.output, logits, stride,
             false, exact);
    finish_logits(model.config(), logits, rows, stride);
  };
  if (count == 1) {
    give(0, 1, states[0]->logits.data());
    states[0]->has_logits = true;
    return;
  }
  workspace.logits.reserve(kLogitsRows * stride);
  for (int64_t first = 0; first < count; first += kLogitsRows) {
    const int64_t rows = std::min(kLogitsRows, count - first);
    give(first, rows, workspace.logits.data());
    parallel_items(threads, rows, rows * stride, [&](int64_t row) {
      State &state = *states[first + row];
      std::memcpy(state.logits.data(), workspace.logits.data() + row * stride,
                  static_cast<size_t>(stride) * sizeof(float));
      state.has_logits = true;
    });
  }
}

}  // namespace infini
