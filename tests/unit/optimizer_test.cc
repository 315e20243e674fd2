// Optimizers against their definitions in f64.
#include "support.h"

#include "base/random.h"
#include "kernels/kernels.h"
#include "train/optimizer.h"

using namespace infini;

namespace {

std::vector<double> multiply(const std::vector<double> &a, const std::vector<double> &b, int64_t rows, int64_t k,
                             int64_t n) {
  std::vector<double> c(static_cast<size_t>(rows * n), 0);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t x = 0; x < k; ++x)
      for (int64_t j = 0; j < n; ++j)
        c[static_cast<size_t>(i * n + j)] += a[static_cast<size_t>(i * k + x)] * b[static_cast<size_t>(x * n + j)];
  return c;
}
std::vector<double> transposed(const std::vector<double> &a, int64_t rows, int64_t columns) {
  std::vector<double> t(a.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      t[static_cast<size_t>(j * rows + i)] = a[static_cast<size_t>(i * columns + j)];
  return t;
}

// Five Newton-Schulz steps, as Muon's authors write them.
std::vector<double> newton_schulz(std::vector<double> x, int64_t rows, int64_t columns) {
  double norm = 0;
  for (const double v : x) norm += v * v;
  for (double &v : x) v /= std::sqrt(norm) + 1e-7;
  const bool tall = rows > columns;
  if (tall) x = transposed(x, rows, columns), std::swap(rows, columns);
  for (int step = 0; step < 5; ++step) {
    const std::vector<double> gram = multiply(x, transposed(x, rows, columns), rows, columns, rows),
                              square = multiply(gram, gram, rows, rows, rows);
    std::vector<double> b(gram.size());
    for (size_t i = 0; i < b.size(); ++i) b[i] = -4.7750 * gram[i] + 2.0315 * square[i];
    const std::vector<double> bx = multiply(b, x, rows, rows, columns);
    for (size_t i = 0; i < x.size(); ++i) x[i] = 3.4445 * x[i] + bx[i];
  }
  return tall ? transposed(x, rows, columns) : x;
}

}  // namespace

TEST_CASE("schedules rise, stay and fall as they say") {
  Schedule s;
  s.warmup = 10;
  CHECK(s.at(0) == doctest::Approx(0.1));
  CHECK(s.at(9) == 1);
  CHECK(s.at(100000) == 1);
  s = {ScheduleShape::LINEAR, 10, 100, 0.5, 0.1};
  CHECK(s.at(50) == 1);
  CHECK(s.at(75) == doctest::Approx(0.55));
  CHECK(s.at(100) == doctest::Approx(0.1));
  CHECK(s.at(1000) == doctest::Approx(0.1));
  s = {ScheduleShape::COSINE, 0, 100, 0, 0};
  CHECK(s.at(0) == 1);
  CHECK(s.at(50) == doctest::Approx(0.5));
  CHECK(s.at(100) == doctest::Approx(0.0));
}

TEST_CASE("AdamW with clipping, gates' own rate and decay equals its definition over many steps") {
  const std::vector<Variable> variables{{0, 7, 11, Variable::Rule::ADAM, true},
                                        {80, 1, 5, Variable::Rule::GATE, false}};
  OptimizerConfig config;
  config.schedule.warmup = 4;
  config.clip = 2;
  const Gemm gemm(GemmLibrary::NATIVE);
  Optimizer optimizer(variables, config, gemm, NumberType::F32);
  Random random(3);
  std::vector<float> values(96), gradients(96);
  for (float &x : values) x = static_cast<float>(random.normal());
  values[82] = -INFINITY;  // a shut gate stays shut
  std::vector<double> expected(values.begin(), values.end()), m(96), v(96);
  for (int step = 1; step <= 20; ++step) {
    double squares = 0;
    for (size_t i = 0; i < gradients.size(); ++i) {
      const bool used = i < 77 || (i >= 80 && i < 85);
      gradients[i] = i == 82 ? 0.0f : static_cast<float>(random.normal() * (step % 2 ? 1.0 : 0.1));
      if (used) squares += static_cast<double>(gradients[i]) * gradients[i];
    }
    CHECK(optimizer.step(Threads(), gradients.data(), values.data()) == doctest::Approx(std::sqrt(squares)));
    const double scale = std::min(1.0, 2 / std::sqrt(squares)), warm = std::min(1.0, step / 4.0);
    for (size_t i = 0; i < expected.size(); ++i) {
      const bool gate = i >= 80 && i < 85;
      if (!(i < 77 || gate)) continue;
      const double g = gradients[i] * scale, rate = warm * (gate ? config.gate_rate : config.rate);
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.95 * v[i] + 0.05 * g * g;
      if (!gate) expected[i] *= 1 - rate * config.decay;
      expected[i] -= rate * (m[i] / (1 - std::pow(0.9, step))) / (std::sqrt(v[i] / (1 - std::pow(0.95, step))) + 1e-8);
    }
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    if (i == 82) CHECK(std::isinf(values[i]));
    else CHECK(values[i] == doctest::Approx(expected[i]).epsilon(1e-5));
  }
  const std::vector<float> before = values;
  gradients[3] = NAN;
  CHECK(!std::isfinite(optimizer.step(Threads(), gradients.data(), values.data())));
  CHECK(std::equal(values.begin(), values.end(), before.begin()));
  CHECK(optimizer.steps() == 20);
}

TEST_CASE("Muon equals its definition for wide, square and tall matrices, in f32 and, nearly, in bf16") {
  for (const auto &[rows, columns] : {std::pair<int64_t, int64_t>{20, 70}, {64, 64}, {130, 48}}) {
    for (const NumberType type : {NumberType::F32, NumberType::BF16}) {
      OptimizerConfig config;
      config.clip = 0;
      config.schedule.warmup = 0;
      const Gemm gemm(GemmLibrary::ONEDNN);
      Optimizer optimizer({{16, rows, columns, Variable::Rule::MUON, true}}, config, gemm, type);
      Random random(4);
      const size_t n = static_cast<size_t>(rows * columns);
      std::vector<float> values(n + 16), gradients(n + 16);
      for (float &x : values) x = static_cast<float>(random.normal());
      std::vector<double> expected(values.begin() + 16, values.end()), m(n);
      for (int step = 0; step < 3; ++step) {
        for (float &g : gradients) g = static_cast<float>(random.normal());
        optimizer.step(Threads(), gradients.data(), values.data());
        std::vector<double> u(n);
        for (size_t i = 0; i < n; ++i) m[i] = 0.95 * m[i] + gradients[i + 16], u[i] = gradients[i + 16] + 0.95 * m[i];
        u = newton_schulz(u, rows, columns);
        const double size = std::sqrt(std::max(1.0, static_cast<double>(rows) / static_cast<double>(columns)));
        for (size_t i = 0; i < n; ++i)
          expected[i] = expected[i] * (1 - config.muon_rate * config.muon_decay) - config.muon_rate * size * u[i];
        // What makes it Muon: the update's singular values are about one, so its squares sum up to about the smaller
        // side.
        double squares = 0;
        for (const double x : u) squares += x * x;
        CHECK(squares == doctest::Approx(static_cast<double>(std::min(rows, columns))).epsilon(0.35));
      }
      double worst = 0;
      for (size_t i = 0; i < n; ++i) worst = test::larger(worst, std::abs(values[i + 16] - expected[i]));
      CHECK(worst < (type == NumberType::F32 ? 2e-6 : 2e-3));
    }
  }
}
