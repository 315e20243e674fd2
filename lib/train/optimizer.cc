#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "train/graph_rows.h"

namespace infini {
namespace {

constexpr int64_t kNumbers = 1 << 16;  // numbers that one thread takes at a time

template <class Body>
void pieces(const Threads &threads, int64_t n, const Body &body) {
  parallel_items(threads, (n + kNumbers - 1) / kNumbers, 4 * n,
                 [&](int64_t i) { body(i * kNumbers, std::min(kNumbers, n - i * kNumbers)); });
}

}  // namespace

double Schedule::at(int64_t step) const {
  const double rising = warmup > 0 ? std::min(1.0, static_cast<double>(step + 1) / static_cast<double>(warmup)) : 1;
  if (shape == ScheduleShape::CONSTANT || total <= 0) return rising;
  const double progress = static_cast<double>(step) / static_cast<double>(total);
  const double falling = std::clamp((progress - decay_from) / std::max(1e-9, 1 - decay_from), 0.0, 1.0);
  const double left = shape == ScheduleShape::LINEAR ? 1 - falling : (1 + std::cos(std::numbers::pi * falling)) / 2;
  return rising * (floor + (1 - floor) * left);
}

namespace {

bool by_muon(Variable::Rule rule) { return rule == Variable::Rule::MUON || rule == Variable::Rule::FEATURES; }

}  // namespace

Optimizer::Optimizer(std::vector<Variable> variables, const OptimizerConfig &config, const Gemm &gemm,
                     NumberType compute)
    : variables_(std::move(variables)), config_(config), gemm_(gemm), compute_(compute) {
  int64_t size = 0;
  for (const Variable &v : variables_) {
    state_of_.push_back(size);
    size += (by_muon(v.rule) ? 1 : 2) * round_up(v.rows * v.columns, 16);
  }
  state_ = Buffer<float>(size);
}

double Optimizer::norm(const Threads &threads, const float *gradients) const {
  double squares = 0;
  for (const Variable &v : variables_) {
    const int64_t n = v.rows * v.columns;
    std::vector<double> parts(static_cast<size_t>((n + kNumbers - 1) / kNumbers));
    pieces(threads, n, [&](int64_t begin, int64_t count) {
      parts[begin / kNumbers] = sum_of_squares(gradients + v.offset + begin, count);
    });
    for (const double part : parts) squares += part;
  }
  return std::sqrt(squares);
}

double Optimizer::step(const Threads &threads, const float *gradients, float *values) {
  const double norm = this->norm(threads, gradients);
  if (!std::isfinite(norm)) return norm;
  const double scale = config_.clip > 0 && norm > config_.clip ? config_.clip / norm : 1,
               factor = config_.schedule.at(steps_);
  ++steps_;
  for (size_t i = 0; i < variables_.size(); ++i) {
    const Variable &v = variables_[i];
    const float *gradient = gradients + v.offset;
    if (by_muon(v.rule))
      muon(threads, v, state_of_[i], gradient, scale,
           factor * (v.rule == Variable::Rule::FEATURES ? config_.feature_rate : config_.muon_rate), values + v.offset);
    else
      adam(threads, v, state_of_[i], gradient, scale,
           factor * (v.rule == Variable::Rule::GATE ? config_.gate_rate : config_.rate), values + v.offset);
  }
  return norm;
}

void Optimizer::adam(const Threads &threads, const Variable &variable, int64_t m, const float *gradient, double scale,
                     double rate, float *values) {
  const int64_t n = variable.rows * variable.columns;
  const auto t = static_cast<double>(steps_);
  AdamStep step{};
  step.scale = static_cast<float>(scale);
  step.beta1 = static_cast<float>(config_.beta1);
  step.beta2 = static_cast<float>(config_.beta2);
  step.rate = static_cast<float>(rate / (1 - std::pow(config_.beta1, t)));
  step.v_scale = static_cast<float>(1 / std::sqrt(1 - std::pow(config_.beta2, t)));
  step.epsilon = static_cast<float>(config_.epsilon);
  step.decay = static_cast<float>(variable.decays ? rate * config_.decay : 0);
  float *first = state_.data() + m, *second = first + round_up(n, 16);
  pieces(threads, n, [&](int64_t begin, int64_t count) {
    adam_update(step, gradient + begin, count, first + begin, second + begin, values + begin);
  });
}

void Optimizer::muon(const Threads &threads, const Variable &variable, int64_t m, const float *gradient, double scale,
                     double rate, float *values) {
  const int64_t n = variable.rows * variable.columns;
  const auto momentum = static_cast<float>(config_.momentum), by = static_cast<float>(scale);
  update_.reserve(n);
  float *moving = state_.data() + m, *update = update_.data();
  pieces(threads, n, [&](int64_t begin, int64_t count) {
    mix(moving + begin, momentum, gradient + begin, by, count, moving + begin);
    mix(moving + begin, momentum, gradient + begin, by, count, update + begin);
  });
  orthogonalise(threads, update, variable.rows, variable.columns);
  // sqrt(max(1, rows / columns)): with it, the outputs of a tall matrix change as much as those of a square one
  // (Jordan).
  const double size =
      std::sqrt(std::max(1.0, static_cast<double>(variable.rows) / static_cast<double>(variable.columns)));
  const auto keep = static_cast<float>(1 - (variable.decays ? rate * config_.muon_decay : 0));
  pieces(threads, n, [&](int64_t begin, int64_t count) {
    mix(values + begin, keep, update + begin, static_cast<float>(-rate * size), count, values + begin);
  });
}

PackedMatrix &Optimizer::packed(int64_t k, int64_t n) {
  const auto [found, fresh] = packed_.try_emplace({k, n});
  if (fresh) found->second = PackedMatrix(compute_, k, n);
  return found->second;
}

// Five Newton-Schulz steps X <- a X + (b X X^T + c (X X^T)^2) X, with the coefficients of Jordan et al. X is u, or its
// transpose where that has fewer rows.
void Optimizer::orthogonalise(const Threads &threads, float *u, int64_t rows, int64_t columns) {
  constexpr float a = 3.4445f, b = -4.7750f, c = 2.0315f;
  const bool tall = rows > columns;
  const int64_t r = std::min(rows, columns), n = std::max(rows, columns), stride = round_up(n, kPanel),
                gram = round_up(r, kPanel);
  const auto scale = static_cast<float>(1 / (std::sqrt(sum_of_squares(u, rows * columns)) + 1e-7));
  x_.reserve(r * stride);
  next_.reserve(r * stride);
  gram_.reserve(r * gram);
  square_.reserve(r * gram);
  for (int64_t i = 0; i < r; ++i) {
    float *row = x_.data() + i * stride;
    if (!tall) mix(u + i * n, scale, u + i * n, 0, n, row);
    else
      for (int64_t j = 0; j < n; ++j) row[j] = u[j * columns + i] * scale;
  }
  for (int step = 0; step < 5; ++step) {
    PackedMatrix &columns_of_x = packed(n, r);
    columns_of_x.pack(threads, x_.data(), stride, false);
    gemm_.multiply(threads, narrowed(threads, compute_, x_.data(), stride, n, r, narrow_), r, columns_of_x.panels(),
                   gram_.data(), gram, false);
    PackedMatrix &gram_again = packed(r, r);
    gram_again.pack(threads, gram_.data(), gram, true);
    gemm_.multiply(threads, narrowed(threads, compute_, gram_.data(), gram, r, r, narrow_), r, gram_again.panels(),
                   square_.data(), gram, false);
    parallel_for(threads, r, 1 + kNumbers / n, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        mix(gram_.data() + i * gram, b, square_.data() + i * gram, c, r, square_.data() + i * gram);
        mix(x_.data() + i * stride, a, x_.data() + i * stride, 0, n, next_.data() + i * stride);
      }
    });
    PackedMatrix &rows_of_x = packed(r, n);
    rows_of_x.pack(threads, x_.data(), stride, true);
    gemm_.multiply(threads, narrowed(threads, compute_, square_.data(), gram, r, r, narrow_), r, rows_of_x.panels(),
                   next_.data(), stride, true);
    std::swap(x_, next_);
  }
  for (int64_t i = 0; i < r; ++i) {
    const float *row = x_.data() + i * stride;
    if (!tall) std::copy_n(row, n, u + i * n);
    else
      for (int64_t j = 0; j < n; ++j) u[j * columns + i] = row[j];
  }
}

}  // namespace infini
