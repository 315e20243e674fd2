#include "adapt/fit_carriers.h"

#include <cmath>
#include <map>

#include "adapt/fitted_layer.h"
#include "adapt/regression.h"
#include "base/random.h"
#include "kernels/kernels.h"

namespace infini {
namespace {

// What a layer of carriers is fed, over all that was drawn.
class CarrierInput {
 public:
  // Where there are more names than the size of a value, some share a column.
  explicit CarrierInput(const RecallTrainer &trainer)
      : regression_(trainer, 0, trainer.model().config().value_size), named_(regression_.sums()) {}

  void add(const Threads &threads, const BatchLayout &layout, const LayerView &view, int64_t width) {
    std::map<int64_t, int32_t> names;  // by the row that local attention is supervised to attend to
    for (int64_t row = 0; row < layout.rows(); ++row) {
      const int32_t name = layout.tags[row].label;
      if (name < 0) continue;
      if (layout.local_target[row] >= 0) names[layout.local_target[row]] = name;
      const float *const x = view.x + row * view.x_stride;
      length_ += std::sqrt(static_cast<double>(dot(x, x, width)));
      ++rows_;
    }
    regression_.add_all(threads, layout.rows(), view.normed);
    if (names.empty()) return;
    any_ = true;
    std::vector<int64_t> rows;
    for (const auto &[row, name] : names) rows.push_back(row);
    regression_.add(threads, rows, view.normed, named_,
                    [&](int64_t row, auto &y) { y[regression_.value(names.at(row))] = true; });
  }

  // [value_size][width]
  std::vector<double> solve() const {
    if (!any_)
      fail(Status::INVALID_ARGUMENT, "what was drawn holds no name that local attention is supervised to attend to");
    return regression_.solve(named_).others;
  }
  // So many times the mean norm of the residual stream, in rows of values.
  double norm(double times) const { return times * length_ / static_cast<double>(rows_); }

 private:
  Regression regression_;
  Regression::Sums named_;
  bool any_ = false;
  double length_ = 0;
  int64_t rows_ = 0;
};

// By layer.
std::map<size_t, CarrierInput> read_inputs(const RecallTrainer &trainer, Trainer::Drawn &drawn) {
  std::map<size_t, CarrierInput> inputs;
  drawn.each_layout([&](const BatchLayout &layout) {
    drawn.forward([&](const LayerView &view) {
      if (trainer.supervisor().initialises(static_cast<int>(view.layer)))
        inputs.try_emplace(view.layer, trainer)
            .first->second.add(drawn.threads(), layout, view, trainer.model().config().width);
    });
  });
  return inputs;
}

// [count][width]: directions of one norm, at random.
std::vector<float> draw_directions(Random &random, int64_t count, int64_t width, double norm) {
  std::vector<float> directions;
  std::vector<double> direction(static_cast<size_t>(width));
  for (int64_t j = 0; j < count; ++j) {
    double squares = 0;
    for (double &x : direction) x = random.normal(), squares += x * x;
    for (const double x : direction) directions.push_back(static_cast<float>(x * (norm / std::sqrt(squares))));
  }
  return directions;
}

}  // namespace

void fit_carriers(const RecallTrainer &trainer, Trainer::Drawn &drawn, Parameters &parameters) {
  const Config &config = trainer.model().config();
  const RecallSupervisor &supervisor = trainer.supervisor();
  const std::map<size_t, CarrierInput> inputs = read_inputs(trainer, drawn);
  std::map<size_t, std::vector<double>> fitted;  // all, before any weight is set
  for (const auto &[layer, input] : inputs) fitted[layer] = input.solve();
  Random random(trainer.config().seed);
  for (const auto &[layer, values] : fitted) {
    const double norm = inputs.at(layer).norm(supervisor.fitted_norm()) / static_cast<double>(config.group());
    const std::vector<float> directions = draw_directions(random, config.value_size, config.width, norm);
    FittedLayer weights(parameters, config, layer);
    for (int h = 0; h < config.heads; ++h) {
      if (!supervisor.fits(static_cast<int>(layer), h)) continue;
      weights.set(Field::V, Field::V_BIAS, h / config.group(), config.value_size, values.data());
      weights.set_output(h, directions);
    }
  }
}

}  // namespace infini
