// Heads of the memory are initialised by ridge regression. A group of heads with an offset retrieves one digit of a
// value, that of the offset. Features of its keys are near 0 except at digits with that offset, where they encode the
// name of the value; features of its queries are near 0 except where such a digit is asked for, where they encode the
// name that is asked for. Both are linear functions of the residual stream once heads below have carried names to
// digits (local_supervision). Regression finds these functions; gradients from random weights do not.
//
//   W = argmin sum over rows r of w_r |W x_r - y_r|^2 + lambda |W|^2
//   sigma(q) = sigma(kName * (W x)[name] + kOffset * (W x)[offset] - kBias * (W x)[one])
//
// x_r is the input of the layer, and y_r has a column for every name, which is 1 in rows of that name, one for every
// digit, one for the offset, and one that is 1 in all rows. Columns of names are fitted to rows with the offset alone
// (w is 0 elsewhere); the column of the offset separates those from the others. Each is nearly 1 or 0, and a feature is
// near 0 unless both are 1. v is the columns of digits, and o raises the logit of the digit: it is the rows of the
// output layer that belong to digits, less their mean.
//
// Carrier heads copy names to digits. What a plain model holds at the token of a name hardly tells it from other names
// in the layers above, so v and o of carriers are fitted too: v is the columns of names, fitted as above to rows that
// hold a name, and o writes a random direction for each, which is that name's alone.
#include "adapt/fit_heads.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <span>
#include <tuple>

#include "adapt/regression.h"
#include "base/random.h"
#include "kernels/gradients.h"

namespace infini {
namespace {

constexpr double kName = 20, kOffset = 20, kBias = 30;

// Root mean square of the input of the last layer, in rows that predict a digit of an answer.
double size_before_output(Trainer::Drawn &drawn, const BatchLayout &layout, const Config &config) {
  double squares = 0;
  int64_t rows = 0;
  const int64_t width = config.width;
  const LayerObserver observer = [&](const LayerView &view) {
    if (view.layer + 1 < static_cast<size_t>(config.layers)) return;
    for (int64_t row = 0; row < layout.rows(); ++row)
      if (asked_offset(layout, row) >= 0)
        squares += static_cast<double>(dot(view.x + row * view.x_stride, view.x + row * view.x_stride, width)), ++rows;
  };
  drawn.forward(observer);
  return rows > 0 ? std::sqrt(squares / static_cast<double>(rows * width)) : 0;
}

// INVALID_ARGUMENT where no head can be fitted: none has an offset, or heads that share keys or values differ.
void check_fitting(const RecallTrainer &trainer) {
  const Config &config = trainer.model().config();
  if (!heads_can_be_fitted(config))
    fail(Status::UNSUPPORTED, "heads can't be fitted in a model of architecture '", config.architecture->name,
         "', whose heads share norms, or whose layers have windows of their own");
  const RecallSupervisor &supervisor = trainer.supervisor();
  const int heads = config.heads, group = config.group();
  const bool carriers = trainer.supervisor().fitted_norm() > 0;
  bool any = false;
  for (int l = 0; l < config.layers; ++l)
    for (int h = 0; h < heads; ++h) any |= supervisor.fits(l, h);
  if (!any)
    fail(Status::INVALID_ARGUMENT,
         "heads are fitted where \"retrieval\" is trained and train.supervised gives them the digit of a value that "
         "they retrieve, [layer, head, digit]; or where train.hand_on is above 0");
  for (int l = 0; l < config.layers; ++l)
    for (int h = 0; h < heads; ++h) {
      const int first = h - h % group;
      if (!carriers && supervisor.offset(l, h) != supervisor.offset(l, first))
        fail(Status::INVALID_ARGUMENT, "train.supervised: heads ", first, " and ", h, " of layer ", l,
             " read the same keys, and must retrieve the same digit");
      if (carriers && supervisor.fits(l, h) != supervisor.fits(l, first))
        fail(Status::INVALID_ARGUMENT, "train.local_supervised: heads ", first, " and ", h, " of layer ", l,
             " read the same values: with hand_on both or none");
    }
}

bool carries(const RecallTrainer &trainer, size_t layer, int64_t head) {
  return trainer.supervisor().fits(static_cast<int>(layer), static_cast<int>(head));
}

// What a layer of carriers is fed, over all that was drawn.
struct CarrierInput {
  explicit CarrierInput(const RecallTrainer &trainer)
      : regression(trainer.gemm(), trainer.compute(), trainer.model().config(), {}) {}
  Regression regression;
  double length = 0;  // of the stream, in rows of digits, summed
  int64_t rows = 0;   // of digits

  void add(const Threads &threads, const BatchLayout &layout, const LayerView &view, int64_t width) {
    regression.add_names(threads, layout, view.normed);
    for (int64_t row = 0; row < layout.rows(); ++row)
      if (const float *x = view.x + row * view.x_stride; layout.tags[row].label >= 0)
        length += std::sqrt(static_cast<double>(dot(x, x, width))), ++rows;
  }
};

// By layer.
std::map<size_t, CarrierInput> read_carrier_inputs(const RecallTrainer &trainer, Trainer::Drawn &drawn) {
  const Config &config = trainer.model().config();
  std::map<size_t, CarrierInput> inputs;
  drawn.each_layout([&](const BatchLayout &layout) {
    drawn.forward([&](const LayerView &view) {
      bool any = false;
      for (int64_t h = 0; h < config.heads; ++h) any |= carries(trainer, view.layer, h);
      if (!any) return;
      inputs.try_emplace(view.layer, trainer).first->second.add(drawn.threads(), layout, view, config.width);
    });
  });
  return inputs;
}

// [count][width]: directions that no other name has.
std::vector<double> draw_directions(Random &random, int64_t count, int64_t width, double size) {
  std::vector<double> directions(static_cast<size_t>(count * width));
  for (int64_t j = 0; j < count; ++j) {
    double squares = 0;
    const auto direction = std::span(directions).subspan(static_cast<size_t>(j * width), static_cast<size_t>(width));
    for (double &x : direction) x = random.normal(), squares += x * x;
    for (double &x : direction) x *= size / std::sqrt(squares);
  }
  return directions;
}

// What was fitted has no bias. `index` may be that of none.
void clear_bias(Parameters &parameters, size_t index, int64_t head, int64_t size) {
  if (index != Parameters::kNone) std::fill_n(parameters.of(index) + head * size, size, 0.0f);
}

// Sets v of a layer's carriers from W of names, and o from `directions`.
void make_carriers(const RecallTrainer &trainer, Parameters &parameters, size_t layer, const std::vector<double> &w,
                   const std::vector<double> &directions) {
  const Config &config = trainer.model().config();
  const int64_t width = config.width, values = config.value_size, heads = config.heads;
  const Parameters::Layer &of = parameters.layers()[layer];
  for (int64_t h = 0; h < heads; ++h) {
    if (!carries(trainer, layer, h)) continue;
    clear_bias(parameters, of[Field::V_BIAS], h / config.group(), values);
    std::transform(w.begin(), w.begin() + values * width,
                   parameters.of(of[Field::V]) + h / config.group() * values * width,
                   [](double x) { return static_cast<float>(x); });
    for (int64_t i = 0; i < width; ++i)
      for (int64_t j = 0; j < values; ++j)
        parameters.of(of[Field::ATTENTION_OUTPUT])[(i * heads + h) * values + j] =
            static_cast<float>(directions[j * width + i]);
  }
}

void fit_carriers(const RecallTrainer &trainer, Trainer::Drawn &drawn, Parameters &parameters) {
  const Config &config = trainer.model().config();
  const std::map<size_t, CarrierInput> inputs = read_carrier_inputs(trainer, drawn);
  std::map<size_t, std::vector<double>> fitted;  // all, before any weight is set
  for (const auto &[layer, input] : inputs) fitted[layer] = input.regression.solve_names();
  Random random(trainer.config().seed);
  for (const auto &[layer, w] : fitted) {
    const CarrierInput &input = inputs.at(layer);
    const double size = trainer.supervisor().fitted_norm() * input.length / static_cast<double>(input.rows) /
                        static_cast<double>(config.group());
    make_carriers(trainer, parameters, layer, w, draw_directions(random, config.value_size, config.width, size));
  }
}

// Sets the weights of one group: q and k from W of queries and keys, v from W of keys, o from `directions`, as
// digit_directions() gives them; each head of the group adds an equal share.
void make_heads(Parameters &parameters, const Config &config, int layer, int kv_head, const std::vector<double> &keys,
                const std::vector<double> &queries, const std::vector<float> &directions) {
  const Parameters::Layer &w = parameters.layers()[layer];
  const int64_t width = config.width, key_size = config.key_size, value_size = config.value_size,
                group = config.group();
  const auto features = [&](size_t index, int64_t head, const std::vector<double> &from) {
    float *to = parameters.of(index) + head * key_size * width;
    const double *one = from.data() + (key_size + value_size) * width, *offset = one + width;
    for (int64_t i = 0; i < key_size * width; ++i)
      to[i] = static_cast<float>(kName * from[i] + kOffset * offset[i % width] - kBias * one[i % width]);
  };
  features(w[Field::K], kv_head, keys);
  clear_bias(parameters, w[Field::K_BIAS], kv_head, key_size);
  clear_bias(parameters, w[Field::V_BIAS], kv_head, value_size);
  std::transform(keys.begin() + key_size * width, keys.begin() + (key_size + value_size) * width,
                 parameters.of(w[Field::V]) + kv_head * value_size * width,
                 [](double value) { return static_cast<float>(value); });
  for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
    features(w[Field::Q], h, queries);
    clear_bias(parameters, w[Field::Q_BIAS], h, key_size);
    float *o = parameters.of(w[Field::ATTENTION_OUTPUT]) + h * value_size;
    for (int64_t i = 0; i < width; ++i)
      for (int64_t j = 0; j < value_size; ++j)
        o[i * config.heads * value_size + j] = directions[j * width + i] / static_cast<float>(group);
  }
}

// The tokens that are digits of values, ascending.
std::vector<int32_t> digits_of(std::span<const Sequence> sequences) {
  std::set<int32_t> digits;
  for (const Sequence &sequence : sequences)
    for (size_t t = 0; t < sequence.tags.size(); ++t)
      if (sequence.tags[t].label >= 0) digits.insert(sequence.tokens[t]);
  return {digits.begin(), digits.end()};
}

// [value_size][width]: what a group adds to the residual stream for the digit of each column of v, so that the logit of
// the digit rises, against the mean of all digits, by `amount` over the root mean square of the stream.
std::vector<float> digit_directions(const Parameters &parameters, const Config &config,
                                    const std::vector<int32_t> &digits, double amount) {
  const int64_t width = config.width, values = config.value_size;
  const float *norm = parameters.of(parameters.output_norm()), *output = parameters.of(parameters.output());
  std::vector<std::vector<double>> rows;
  std::vector<double> mean(static_cast<size_t>(width));
  for (const int32_t digit : digits) {
    rows.emplace_back();
    for (int64_t i = 0; i < width; ++i) {
      rows.back().push_back(static_cast<double>(norm[i]) * static_cast<double>(output[digit * width + i]));
      mean[i] += rows.back().back() / static_cast<double>(digits.size());
    }
  }
  double squares = 0;  // of a row's length
  for (std::vector<double> &row : rows)
    for (size_t i = 0; i < row.size(); ++i)
      row[i] -= mean[i], squares += row[i] * row[i] / static_cast<double>(rows.size());
  std::vector<float> directions(static_cast<size_t>(values * width));
  for (size_t r = 0; r < rows.size(); ++r) {
    float *of_column = directions.data() + static_cast<int64_t>(r) % values * width;
    for (size_t i = 0; i < rows[r].size(); ++i)
      of_column[i] += static_cast<float>(amount * rows[r][i] / std::max(squares, 1e-30));
  }
  return directions;
}

void fit_retrieval(RecallTrainer &trainer, Trainer::Drawn &drawn, Parameters &parameters, double nats) {
  const Config &config = trainer.model().config();
  std::map<size_t, Regression> regressions;  // by layer
  const std::vector<int32_t> digits = digits_of(drawn.sequences());
  double size = 0;
  drawn.each_layout([&](const BatchLayout &layout) {
    if (size == 0) size = size_before_output(drawn, layout, config);
    drawn.each_retrieval_input([&](size_t layer, ConstRows normed) {
      regressions.try_emplace(layer, trainer.gemm(), trainer.compute(), config, digits)
          .first->second.add(drawn.threads(), layout, normed);
    });
  });
  if (size == 0) fail(Status::INVALID_ARGUMENT, "what was drawn asks for no digit");

  // Layer, KV head, W of keys and of queries.
  using Fitted = std::tuple<int, int, std::vector<double>, std::vector<double>>;
  std::vector<Fitted> fitted;
  for (const auto &[layer, regression] : regressions)
    for (int kv_head = 0; kv_head < config.kv_heads; ++kv_head)
      if (const int32_t offset = trainer.supervisor().offset(static_cast<int>(layer), kv_head * config.group());
          offset >= 0)
        fitted.emplace_back(static_cast<int>(layer), kv_head, regression.solve(offset, false),
                            regression.solve(offset, true));
  const std::vector<float> directions = digit_directions(
      parameters, config, digits, nats * size / static_cast<double>(config.residual_scale * config.logit_scale));
  for (const auto &[layer, kv_head, keys, queries] : fitted)
    make_heads(parameters, config, layer, kv_head, keys, queries, directions);
}

}  // namespace

bool heads_can_be_fitted(const Config &model) {
  return std::ranges::all_of(model.plans, [](const LayerPlan &plan) {
    return plan.head_norm == HeadNorm::NONE && !plan.norm_after && plan.has_memory();
  });
}

void fit_heads(RecallTrainer &trainer, double nats, Task *task) {
  if (!(nats > 0 && nats <= 1e6))
    fail(Status::INVALID_ARGUMENT, "nats is ", nats, ", but must be above 0 and at most 1,000,000");
  check_fitting(trainer);
  trainer.initialise("fit heads", task, [&](Trainer::Drawn &drawn, Parameters &parameters) {
    if (trainer.supervisor().fitted_norm() > 0) fit_carriers(trainer, drawn, parameters);
    else fit_retrieval(trainer, drawn, parameters, nats);
  });
}

}  // namespace infini
