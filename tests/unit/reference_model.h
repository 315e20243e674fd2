// A whole model of any architecture in f64, in plain loops: what differences of the loss are taken of.
#pragma once

#include <cmath>
#include <functional>
#include <vector>

#include "base/random.h"
#include "reference/head_stream.h"
#include "train/parameters.h"

namespace test {

class ReferenceModel {
 public:
  ReferenceModel(const infini::Model &model, const infini::Parameters &parameters)
      : values(parameters.values(), parameters.values() + parameters.size()), config_(model.config()),
        parameters_(parameters) {
    for (size_t l = 0; l < config_.plans.size(); ++l) rules_.push_back(model.rules().of(l));
  }
  // With other rules, in all layers.
  ReferenceModel(const infini::Model &model, const infini::Parameters &parameters, const infini::AttentionRules &rules)
      : ReferenceModel(model, parameters) {
    rules_.assign(config_.plans.size(), rules);
  }

  // Sum of weight * cross-entropy, plus the supervised retrievals', weighed by supervision [layers][heads] (may be
  // empty).
  double loss(const infini::BatchLayout &layout, const std::vector<float> &supervision) const {
    using namespace infini;
    const size_t rows = layout.tokens.size(), width = static_cast<size_t>(config_.width);
    double total = 0;
    Rows x(rows, std::vector<double>(width));
    for (size_t t = 0; t < rows; ++t)
      for (size_t i = 0; i < width; ++i)
        x[t][i] = static_cast<double>(config_.embedding_scale) *
                  at(parameters_.embedding(), static_cast<size_t>(layout.tokens[t]), i);
    for (size_t l = 0; l < parameters_.layers().size(); ++l) {
      const Parameters::Layer &w = parameters_.layers()[l];
      const Rows normed = norm(x, w[Field::ATTENTION_NORM]),
                 q = norm(biased(multiply(normed, w[Field::Q]), w[Field::Q_BIAS]), w[Field::Q_NORM]),
                 k = norm(biased(multiply(normed, w[Field::K]), w[Field::K_BIAS]), w[Field::K_NORM]),
                 v = biased(multiply(normed, w[Field::V]), w[Field::V_BIAS]);
      Rows attended(rows, std::vector<double>(static_cast<size_t>(config_.heads * config_.value_size)));
      for (const StreamSpan &stream : layout.streams)
        for (int h = 0; h < config_.kv_heads; ++h)
          total += attend(layout, stream, l, h, q, k, v, supervision, attended);
      add(x, norm(biased(multiply(attended, w[Field::ATTENTION_OUTPUT]), w[Field::ATTENTION_OUTPUT_BIAS]),
                  w[Field::ATTENTION_POST_NORM]));
      const Rows again = norm(x, w[Field::FEED_FORWARD_NORM]);
      Rows gate = multiply(again, w[Field::FFN_GATE]);
      const Rows up = multiply(again, w[Field::UP]);
      for (size_t t = 0; t < rows; ++t)
        for (size_t i = 0; i < gate[t].size(); ++i) gate[t][i] = activation(l, gate[t][i]) * up[t][i];
      add(x, norm(multiply(gate, w[Field::DOWN]), w[Field::FEED_FORWARD_POST_NORM]));
    }
    Rows logits = multiply(norm(x, parameters_.output_norm()), parameters_.output());
    const double cap = static_cast<double>(config_.logit_soft_cap);
    for (auto &row : logits)
      for (double &y : row) {
        y *= static_cast<double>(config_.logit_scale);
        if (cap > 0) y = cap * std::tanh(y / cap);
      }
    for (size_t t = 0; t < rows; ++t) {
      if (layout.weight[t] == 0) continue;
      double greatest = logits[t][0], sum = 0;
      for (const double y : logits[t]) greatest = std::max(greatest, y);
      for (const double y : logits[t]) sum += std::exp(y - greatest);
      total += static_cast<double>(layout.weight[t]) *
               (greatest + std::log(sum) - logits[t][static_cast<size_t>(layout.target[t])]);
    }
    return total;
  }

  std::vector<double> values;  // like the parameters
  std::function<void(size_t layer, int kv_head, const infini::equations::Head<double> &)> observer;  // may be empty

 private:
  using Rows = std::vector<std::vector<double>>;

  double at(size_t parameter, size_t row, size_t column) const {
    const infini::Parameter &p = parameters_[parameter];
    return values[static_cast<size_t>(p.offset) + row * static_cast<size_t>(p.columns) + column];
  }
  Rows multiply(const Rows &x, size_t parameter) const {
    Rows y(x.size(), std::vector<double>(static_cast<size_t>(parameters_[parameter].rows), 0));
    for (size_t t = 0; t < x.size(); ++t)
      for (size_t j = 0; j < y[t].size(); ++j)
        for (size_t i = 0; i < x[t].size(); ++i) y[t][j] += x[t][i] * at(parameter, j, i);
    return y;
  }
  // Of rows, or of the heads in them, whichever the weight is as long as. Without a weight: as they are.
  Rows norm(const Rows &x, size_t parameter) const {
    Rows y = x;
    if (parameter == infini::Parameters::kNone) return y;
    const size_t n = static_cast<size_t>(parameters_[parameter].columns);
    for (auto &row : y)
      for (size_t first = 0; first < row.size(); first += n) {
        double squares = 0;
        for (size_t i = first; i < first + n; ++i) squares += row[i] * row[i];
        const double scale =
            1 / std::sqrt(squares / static_cast<double>(n) + static_cast<double>(config_.norm_epsilon));
        for (size_t i = 0; i < n; ++i) row[first + i] *= scale * at(parameter, 0, i);
      }
    return y;
  }
  Rows biased(Rows x, size_t parameter) const {
    if (parameter == infini::Parameters::kNone) return x;
    for (auto &row : x)
      for (size_t i = 0; i < row.size(); ++i) row[i] += at(parameter, 0, i);
    return x;
  }
  double activation(size_t layer, double x) const {
    if (config_.plans[layer].activation == infini::Activation::SILU) return x / (1 + std::exp(-x));
    return x / 2 * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
  }
  void add(Rows &x, const Rows &y) const {
    for (size_t t = 0; t < x.size(); ++t)
      for (size_t i = 0; i < x[t].size(); ++i) x[t][i] += static_cast<double>(config_.residual_scale) * y[t][i];
  }

  double attend(const infini::BatchLayout &layout, const infini::StreamSpan &stream, size_t layer, int kv_head,
                const Rows &q, const Rows &k, const Rows &v, const std::vector<float> &supervision,
                Rows &attended) const {
    using namespace infini;
    const int group = config_.group();
    const auto columns = [&](const Rows &from, int64_t first, int64_t size) {
      Rows out;
      for (int64_t t = stream.first; t < stream.first + stream.tokens; ++t) {
        const auto row = from[static_cast<size_t>(t)].begin() + first;
        out.emplace_back(row, row + size);
      }
      return out;
    };
    equations::Head<double> in;
    for (int g = 0; g < group; ++g) {
      in.q.push_back(columns(q, (kv_head * group + g) * config_.key_size, config_.key_size));
      in.beta.push_back(at(parameters_.gates(), layer, static_cast<size_t>(kv_head * group + g)));
    }
    in.k = columns(k, kv_head * config_.key_size, config_.key_size);
    in.v = columns(v, kv_head * config_.value_size, config_.value_size);
    if (observer) observer(layer, kv_head, in);
    std::vector<SegmentSpan> segments(layout.segments.begin() + stream.first_segment,
                                      layout.segments.begin() + stream.first_segment + stream.segments);
    for (SegmentSpan &s : segments) s.first -= stream.first;
    std::vector<equations::Pointed> pointed;
    for (const Retrieval &r : layout.retrievals) {
      if (r.row < stream.first || r.row >= stream.first + stream.tokens) continue;
      std::vector<size_t> sources;
      for (int64_t i = 0; i < r.sources; ++i)
        sources.push_back(
            static_cast<size_t>(layout.source_rows[static_cast<size_t>(r.first_source + i)] - stream.first));
      for (int g = 0; g < group && !supervision.empty(); ++g) {
        const float weight =
            supervision[layer * static_cast<size_t>(config_.heads) + static_cast<size_t>(kv_head * group + g)];
        if (weight != 0)
          pointed.push_back(
              {static_cast<size_t>(g), static_cast<size_t>(r.row - stream.first), sources, weight * r.weight});
      }
    }
    equations::HeadStream head(rules_[layer], segments, pointed);
    const auto a = head.forward(in);
    for (size_t g = 0; g < a.size(); ++g)
      for (size_t t = 0; t < a[g].size(); ++t)
        std::copy(a[g][t].begin(), a[g][t].end(),
                  attended[static_cast<size_t>(stream.first) + t].begin() +
                      (kv_head * group + static_cast<int>(g)) * config_.value_size);
    return head.pointed_loss(in);
  }

  const infini::Config &config_;
  const infini::Parameters &parameters_;
  std::vector<infini::AttentionRules> rules_;  // [layers]
};

// Along a random direction of each parameter: the gradient against the difference of the loss in f64.
inline void check_slopes(ReferenceModel &reference, const infini::Parameters &parameters,
                         const infini::BatchLayout &layout, const std::vector<float> &supervision,
                         const infini::Buffer<float> &gradients, infini::Random &random) {
  for (const infini::Parameter &p : parameters.list()) {
    CAPTURE(p.name);
    const std::vector<double> before = reference.values;
    double along = 0, size = 0, step = 1e-4;
    std::vector<double> direction(static_cast<size_t>(p.size()));
    for (double &d : direction) d = random.normal(), size += d * d;
    for (int64_t i = 0; i < p.size(); ++i)
      along += direction[static_cast<size_t>(i)] / std::sqrt(size) * gradients[p.offset + i];
    const auto loss_at = [&](double distance) {
      for (int64_t i = 0; i < p.size(); ++i)
        reference.values[static_cast<size_t>(p.offset + i)] =
            before[static_cast<size_t>(p.offset + i)] + distance * direction[static_cast<size_t>(i)] / std::sqrt(size);
      return reference.loss(layout, supervision);
    };
    const double slope = (loss_at(step) - loss_at(-step)) / (2 * step);
    reference.values = before;
    double norm = 0;
    for (int64_t i = 0; i < p.size(); ++i)
      norm += static_cast<double>(gradients[p.offset + i]) * gradients[p.offset + i];
    // A random direction sees about 1 / sqrt(size) of the gradient.
    CHECK(std::abs(along - slope) < 2e-5 * std::sqrt(norm / static_cast<double>(p.size())) + 1e-8);
  }
}

}  // namespace test
