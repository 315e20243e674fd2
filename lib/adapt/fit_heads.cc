// A group of heads with an offset retrieves one token of a value, that at the offset. Features of its keys are near 0
// except at tokens with that offset, where they encode the name of the value; features of its queries are near 0 except
// where such a token is asked for, where they encode the name that is asked for. Both are linear functions of the
// residual stream once heads below have carried names to values (fit_carriers.h). Regression finds these functions;
// gradients from random weights do not.
//
//   sigma(q) = sigma(kName * (W x)[name] + kOffset * (W x)[offset] - kBias * (W x)[one])
//
// W is that of regression.h, where rows of the offset are chosen. Each column is nearly 1 or 0, and a feature is near 0
// unless those of the name and of the offset are 1. v is the columns of tokens, and o raises the logit of the token: it
// is the rows of the output layer that belong to tokens of values, less their mean.
#include "adapt/fit_heads.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "adapt/fit_carriers.h"
#include "adapt/fitted_layer.h"
#include "adapt/regression.h"
#include "kernels/kernels.h"

namespace infini {
namespace {

constexpr double kName = 20, kOffset = 20, kBias = 30;

// INVALID_ARGUMENT where heads that share keys or values have not the same to do.
void check_groups(const RecallTrainer &trainer) {
  const RecallSupervisor &supervisor = trainer.supervisor();
  const Config &config = trainer.model().config();
  for (int l = 0; l < config.layers; ++l)
    for (int h = 0; h < config.heads; ++h) {
      const int first = h - h % config.group();
      if (supervisor.fitted_norm() > 0) {
        if (supervisor.fits(l, h) != supervisor.fits(l, first))
          fail(Status::INVALID_ARGUMENT, "train.local_supervised: heads ", first, " and ", h, " of layer ", l,
               " read the same values: with hand_on both or none");
      } else if (supervisor.offset(l, h) != supervisor.offset(l, first)) {
        fail(Status::INVALID_ARGUMENT, "train.supervised: heads ", first, " and ", h, " of layer ", l,
             " read the same keys, and must have the same offset");
      }
    }
}

// Errors: no head can be fitted.
void check_fitting(const RecallTrainer &trainer) {
  const Config &config = trainer.model().config();
  if (!heads_can_be_fitted(config))
    fail(Status::UNSUPPORTED, "heads can't be fitted in a model of architecture '", config.architecture->name,
         "', whose heads share norms, or whose layers have windows of their own");
  bool any = false;
  for (int l = 0; l < config.layers; ++l) any |= trainer.supervisor().initialises(l);
  if (!any)
    fail(Status::INVALID_ARGUMENT,
         "heads are fitted where \"retrieval\" is trained and train.supervised gives them the offset of the token of a "
         "value that they retrieve, [layer, head, offset]; or where train.hand_on is above 0");
  check_groups(trainer);
}

// Tokens that stand in values, ascending.
std::vector<int32_t> value_tokens(std::span<const Sequence> sequences) {
  std::set<int32_t> tokens;
  for (const Sequence &sequence : sequences)
    for (size_t t = 0; t < sequence.tags.size(); ++t)
      if (sequence.tags[t].label >= 0) tokens.insert(sequence.tokens[t]);
  return {tokens.begin(), tokens.end()};
}

// What a layer is fed, over all that was drawn.
class GroupInput {
 public:
  // `tokens`: of values, ascending.
  GroupInput(const RecallTrainer &trainer, const std::vector<int32_t> &tokens)
      : tokens_(tokens), regression_(trainer, trainer.model().config().key_size, trainer.model().config().value_size) {}

  void add(const Threads &threads, const BatchLayout &layout, ConstRows x) {
    std::map<int32_t, std::vector<int64_t>> held, asked;  // rows by offset
    for (int64_t row = 0; row < layout.rows(); ++row) {
      if (layout.tags[row].label >= 0) held[layout.tags[row].offset].push_back(row);
      if (const int32_t offset = asked_offset(layout, row); offset >= 0 && layout.tags[row + 1].label >= 0)
        asked[offset].push_back(row);
    }
    regression_.add_all(threads, layout.rows(), x);
    add(threads, held, x, keys_, [&](int64_t row, auto &y) {
      y[regression_.name(layout.tags[row].label)] = y[value_column(layout.tokens[row])] = true;
    });
    add(threads, asked, x, queries_,
        [&](int64_t row, auto &y) { y[regression_.name(layout.tags[row + 1].label)] = true; });
  }

  FittedRows keys(int32_t offset) const { return solve(keys_, offset, "holds"); }
  FittedRows queries(int32_t offset) const { return solve(queries_, offset, "asks for"); }

 private:
  using ByOffset = std::map<int32_t, Regression::Sums>;

  int64_t value_column(int32_t token) const {
    return regression_.value(std::lower_bound(tokens_.begin(), tokens_.end(), token) - tokens_.begin());
  }
  template <class Mark>
  void add(const Threads &threads, const std::map<int32_t, std::vector<int64_t>> &rows, ConstRows x, ByOffset &to,
           const Mark &mark) {
    for (const auto &[offset, of_offset] : rows) {
      if (!to.contains(offset)) to.emplace(offset, regression_.sums());
      regression_.add(threads, of_offset, x, to.at(offset), mark);
    }
  }
  FittedRows solve(const ByOffset &from, int32_t offset, const char *does) const {
    const auto found = from.find(offset);
    if (found == from.end())
      fail(Status::INVALID_ARGUMENT, "what was drawn ", does, " no token of a value at offset ", offset);
    return regression_.solve(found->second);
  }

  const std::vector<int32_t> &tokens_;
  Regression regression_;
  ByOffset keys_, queries_;
};

// Root mean square of the input of the last layer, in rows that predict a token of an answer.
double size_before_output(Trainer::Drawn &drawn, const BatchLayout &layout, const Config &config) {
  double squares = 0;
  int64_t rows = 0;
  const int64_t width = config.width;
  drawn.forward([&](const LayerView &view) {
    if (view.layer + 1 < static_cast<size_t>(config.layers)) return;
    for (int64_t row = 0; row < layout.rows(); ++row)
      if (asked_offset(layout, row) >= 0)
        squares += static_cast<double>(dot(view.x + row * view.x_stride, view.x + row * view.x_stride, width)), ++rows;
  });
  return rows > 0 ? std::sqrt(squares / static_cast<double>(rows * width)) : 0;
}

// [tokens][width]: rows of the output layer times the last norm's weight, less their mean.
std::vector<std::vector<double>> output_rows(const Parameters &parameters, int64_t width,
                                             const std::vector<int32_t> &tokens) {
  const float *norm = parameters.of(parameters.output_norm()), *output = parameters.of(parameters.output());
  std::vector<std::vector<double>> rows;
  std::vector<double> mean(static_cast<size_t>(width));
  for (const int32_t token : tokens) {
    rows.emplace_back();
    for (int64_t i = 0; i < width; ++i) {
      rows.back().push_back(static_cast<double>(norm[i]) * static_cast<double>(output[token * width + i]));
      mean[i] += rows.back().back() / static_cast<double>(tokens.size());
    }
  }
  for (std::vector<double> &row : rows)
    for (size_t i = 0; i < row.size(); ++i) row[i] -= mean[i];
  return rows;
}

// [value_size][width]: what a head adds to the residual stream for the token of each column of v, so that its group
// raises the logit of the token, against the mean of all of them, by `amount` over the root mean square of the stream.
std::vector<float> value_directions(const Parameters &parameters, const Config &config,
                                    const std::vector<int32_t> &tokens, double amount) {
  const int64_t width = config.width, values = config.value_size;
  const std::vector<std::vector<double>> rows = output_rows(parameters, width, tokens);
  double squares = 0;  // of a row's norm, their mean
  for (const std::vector<double> &row : rows)
    for (const double x : row) squares += x * x / static_cast<double>(rows.size());
  std::vector<float> directions(static_cast<size_t>(values * width));
  for (size_t r = 0; r < rows.size(); ++r) {
    float *of_column = directions.data() + static_cast<int64_t>(r) % values * width;
    for (size_t i = 0; i < rows[r].size(); ++i)
      of_column[i] += static_cast<float>(amount * rows[r][i] / std::max(squares, 1e-30));
  }
  for (float &x : directions) x /= static_cast<float>(config.group());
  return directions;
}

// Rows of q or k [key_size][width].
std::vector<double> feature_rows(const FittedRows &w) {
  std::vector<double> rows;
  for (size_t i = 0; i < w.names.size(); ++i) {
    const size_t column = i % static_cast<size_t>(w.width);
    rows.push_back(kName * w.names[i] + kOffset * w.chosen()[column] - kBias * w.one()[column]);
  }
  return rows;
}

struct FittedGroup {
  size_t layer;
  int kv_head;
  FittedRows keys, queries;
};

void set_group(Parameters &parameters, const Config &config, const FittedGroup &group,
               const std::vector<float> &directions) {
  FittedLayer weights(parameters, config, group.layer);
  weights.set(Field::K, Field::K_BIAS, group.kv_head, config.key_size, feature_rows(group.keys).data());
  weights.set(Field::V, Field::V_BIAS, group.kv_head, config.value_size, group.keys.values());
  const std::vector<double> queries = feature_rows(group.queries);
  for (int h = group.kv_head * config.group(); h < (group.kv_head + 1) * config.group(); ++h) {
    weights.set(Field::Q, Field::Q_BIAS, h, config.key_size, queries.data());
    weights.set_output(h, directions);
  }
}

void fit_groups(const RecallTrainer &trainer, Trainer::Drawn &drawn, Parameters &parameters, double nats) {
  const Config &config = trainer.model().config();
  const std::vector<int32_t> tokens = value_tokens(drawn.sequences());
  std::map<size_t, GroupInput> inputs;  // by layer
  double size = 0;
  drawn.each_layout([&](const BatchLayout &layout) {
    if (size == 0) size = size_before_output(drawn, layout, config);
    drawn.each_retrieval_input([&](size_t layer, ConstRows normed) {
      inputs.try_emplace(layer, trainer, tokens).first->second.add(drawn.threads(), layout, normed);
    });
  });
  if (size == 0) fail(Status::INVALID_ARGUMENT, "what was drawn asks for no token of a value");

  std::vector<FittedGroup> fitted;  // all, before any weight is set
  for (const auto &[layer, input] : inputs)
    for (int kv_head = 0; kv_head < config.kv_heads; ++kv_head)
      if (const int32_t offset = trainer.supervisor().offset(static_cast<int>(layer), kv_head * config.group());
          offset >= 0)
        fitted.push_back({layer, kv_head, input.keys(offset), input.queries(offset)});
  const std::vector<float> directions = value_directions(
      parameters, config, tokens, nats * size / static_cast<double>(config.residual_scale * config.logit_scale));
  for (const FittedGroup &group : fitted) set_group(parameters, config, group, directions);
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
    else fit_groups(trainer, drawn, parameters, nats);
  });
}

}  // namespace infini
