// Kernels of training against their plain references, over all remainders and misalignments, on every instruction set
// here.
#include "support.h"

#include <functional>

#include "base/random.h"
#include "base/testing.h"
#include "gemm/gemm.h"
#include "instruction_sets.h"
#include "kernels/cpu.h"
#include "reference/gradients_scalar.h"

using namespace infini;

namespace {

std::vector<float> random_floats(Random &random, int64_t n, double scale = 1) {
  std::vector<float> values(static_cast<size_t>(n));
  for (float &value : values) value = static_cast<float>(random.normal() * scale);
  return values;
}

// f(n, offset) on every instruction set, for lengths around every vector width and misaligned starts.
void over_lengths(const std::function<void(int64_t, int64_t)> &f) {
  test::on_every_instruction_set({"avx2", "avx512", "best"}, [&] {
    for (int64_t n : {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 129, 576})
      for (int64_t offset : {0, 1, 3}) f(n, offset);
  });
}

// Largest difference over the largest expected value.
template <class Actual, class Expected>
double difference(const Actual *actual, const Expected *expected, int64_t n) {
  double largest = 1e-30, worst = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(static_cast<double>(actual[i]))) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    worst = test::larger(worst, std::abs(static_cast<double>(actual[i]) - static_cast<double>(expected[i])));
  }
  return worst / largest;
}

std::vector<float> widened(const uint16_t *values, int64_t n) {
  std::vector<float> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(bf16_to_float(values[i]));
  return out;
}

constexpr double kF32 = 5e-6, kBf16 = 5e-3;

}  // namespace

TEST_CASE("packed rows and columns are the matrix, with zeros around it") {
  Random random(1);
  test::on_every_instruction_set({"avx2", "best"}, [&] {
    for (const int64_t k : {1, 2, 5, 12, 33, 64}) {
      for (const int64_t n : {1, 3, 15, 16, 17, 63, 64, 65, 100, 192}) {
        const int64_t panels = (n + 63) / 64, stride = round_up(k, 32) * kPanel, from_stride = std::max(k, n) + 3;
        const std::vector<float> from = random_floats(random, (std::max(k, n) + 1) * from_stride);
        std::vector<uint16_t> from16;
        for (const float x : from) from16.push_back(float_to_bf16(x));
        for (const bool by_rows : {true, false}) {
          std::vector<float> f32(static_cast<size_t>(panels * stride), 7.0f);
          std::vector<uint16_t> bf16(f32.size(), 7), again(f32.size(), 7);
          if (by_rows) {
            pack_rows(from.data(), from_stride, k, n, f32.data(), stride);
            pack_rows(from.data(), from_stride, k, n, bf16.data(), stride);
            pack_rows(from16.data(), from_stride, k, n, again.data(), stride);
          } else {
            pack_columns(from.data(), from_stride, k, n, f32.data(), stride);
            pack_columns(from.data(), from_stride, k, n, bf16.data(), stride);
          }
          bool same = true;
          for (int64_t i = 0; i < k + k % 2; ++i) {
            for (int64_t j = 0; j < panels * kPanel; ++j) {
              const bool inside = i < k && j < n;
              const float x =
                  inside ? from[static_cast<size_t>(by_rows ? i * from_stride + j : j * from_stride + i)] : 0;
              if (i < k) same &= scalar::panel_element(f32.data(), stride, i, j) == x;
              const float rounded = bf16_to_float(float_to_bf16(x));
              same &= scalar::panel_element(bf16.data(), stride, i, j) == rounded;
              if (by_rows) same &= scalar::panel_element(again.data(), stride, i, j) == rounded;
            }
          }
          if (by_rows && n <= kPanel) {  // and back
            std::vector<uint16_t> rows(from16.size(), 7);
            unpack_rows(again.data(), k, n, rows.data(), from_stride);
            for (int64_t i = 0; i < k; ++i)
              for (int64_t j = 0; j < from_stride; ++j) {
                const auto at = static_cast<size_t>(i * from_stride + j);
                same &= rows[at] == (j < n ? from16[at] : 7);
              }
          }
          CAPTURE(k);
          CAPTURE(n);
          CAPTURE(by_rows);
          REQUIRE(same);
        }
      }
    }
  });
}

TEST_CASE("gradients of norm, gated units, soft caps, softmax and sigma equal their references") {
  Random random(2);
  over_lengths([&](int64_t n, int64_t offset) {
    const auto floats = [&](double scale = 1) { return random_floats(random, n + offset, scale); };
    const std::vector<float> x = floats(), w = floats(), dy = floats(), start = floats();
    const auto at = [&](const std::vector<float> &v) { return v.data() + offset; };
    std::vector<float> dx = start, dw = start;
    std::vector<double> dx64(at(start), at(start) + n), dw64 = dx64;
    rms_norm_gradient(at(x), at(w), at(dy), n, 1e-5f, dx.data() + offset, dw.data() + offset);
    scalar::rms_norm_gradient(at(x), at(w), at(dy), n, 1e-5, dx64.data(), dw64.data());
    REQUIRE(difference(at(dx), dx64.data(), n) < kF32);
    REQUIRE(difference(at(dw), dw64.data(), n) < kF32);

    const std::vector<float> gate = floats(6);
    std::vector<float> dgate = floats(), dup = floats();
    std::vector<uint16_t> dgate16(dgate.size()), dup16(dgate.size());
    std::vector<double> dgate64(static_cast<size_t>(n)), dup64 = dgate64;
    for (const bool silu : {true, false}) {
      const auto gradient = silu ? scalar::silu_multiply_gradient : scalar::gelu_multiply_gradient;
      if (silu) {
        silu_multiply_gradient(at(gate), at(w), at(dy), n, dgate.data() + offset, dup.data() + offset);
        silu_multiply_gradient(at(gate), at(w), at(dy), n, dgate16.data() + offset, dup16.data() + offset);
      } else {
        gelu_multiply_gradient(at(gate), at(w), at(dy), n, dgate.data() + offset, dup.data() + offset);
        gelu_multiply_gradient(at(gate), at(w), at(dy), n, dgate16.data() + offset, dup16.data() + offset);
      }
      for (int64_t i = 0; i < n; ++i)
        gradient(at(gate)[i], at(w)[i], at(dy)[i], dgate64[static_cast<size_t>(i)], dup64[static_cast<size_t>(i)]);
      REQUIRE(difference(at(dgate), dgate64.data(), n) < kF32);
      REQUIRE(difference(at(dup), dup64.data(), n) < kF32);
      REQUIRE(difference(widened(dgate16.data() + offset, n).data(), dgate64.data(), n) < kBf16);
      REQUIRE(difference(widened(dup16.data() + offset, n).data(), dup64.data(), n) < kBf16);
    }

    std::vector<float> capped = gate, dcapped = dy;
    soft_cap(capped.data() + offset, n, 5);
    soft_cap_gradient(at(capped), n, 5, dcapped.data() + offset);
    std::vector<double> dcapped64;
    for (int64_t i = 0; i < n; ++i) dcapped64.push_back(scalar::soft_cap_gradient(at(gate)[i], 5, at(dy)[i]));
    REQUIRE(difference(at(dcapped), dcapped64.data(), n) < kF32);

    if (n % 2 == 0) {
      std::vector<float> cosine = floats(), sine = floats(), y = floats();
      rotate_pairs(at(x), at(cosine), at(sine), n, 0.5f, y.data() + offset);
      std::vector<double> y64;
      for (int64_t i = 0; i < n; ++i)
        y64.push_back(
            0.5 * (static_cast<double>(at(x)[i]) * at(cosine)[i] + static_cast<double>(at(x)[i ^ 1]) * at(sine)[i]));
      REQUIRE(difference(at(y), y64.data(), n) < kF32);
    }

    const int64_t valid = (n + 1) / 2;
    std::vector<float> p = gate, dp = dy;
    softmax_gradient(p.data() + offset, 9.0f, 0.3f, valid, n, dp.data() + offset);
    std::vector<double> p64, dp64;
    for (int64_t i = 0; i < n; ++i) {
      p64.push_back(i < valid ? std::exp(at(gate)[i] - 9.0) : 0);
      dp64.push_back(p64.back() * (at(dy)[i] - 0.3));
    }
    REQUIRE(difference(at(p), p64.data(), n) < kF32);
    REQUIRE(difference(at(dp), dp64.data(), n) < kF32);

    std::vector<float> sigma(x.size()), de = start;
    elu_plus_one(x.data(), static_cast<int64_t>(x.size()), sigma.data());
    add_elu_gradient(at(sigma), at(dy), n, de.data() + offset);
    std::vector<double> de64;
    for (int64_t i = 0; i < n; ++i)
      de64.push_back(at(start)[i] + (at(x)[i] > 0 ? 1 : std::exp(static_cast<double>(at(x)[i]))) * at(dy)[i]);
    REQUIRE(difference(at(de), de64.data(), n) < kF32);
  });
}

TEST_CASE("cross-entropy, its gradient, sums of squares and AdamW equal their references") {
  Random random(3);
  over_lengths([&](int64_t n, int64_t offset) {
    const std::vector<float> x = random_floats(random, n + offset, 3), g = random_floats(random, n + offset);
    const float *logits = x.data() + offset;
    const int64_t target = n / 2;
    std::vector<float> y(x.size());
    std::vector<uint16_t> y16(x.size());
    std::vector<double> expected = scalar::cross_entropy_gradient(logits, n, target);
    for (double &value : expected) value *= 0.25;
    const double loss = scalar::log_sum_exp(logits, n) - logits[target];
    CHECK(cross_entropy_gradient(logits, n, target, 0.25f, y.data() + offset) == doctest::Approx(loss).epsilon(1e-5));
    CHECK(cross_entropy_gradient(logits, n, target, 0.25f, y16.data() + offset) == doctest::Approx(loss).epsilon(1e-5));
    // Relative to a probability of one: where the target has nearly all of it, its gradient is a small difference.
    for (int64_t i = 0; i < n; ++i) {
      const double e = expected[static_cast<size_t>(i)];
      REQUIRE(std::abs(y[static_cast<size_t>(i + offset)] - e) < 1e-6);
      REQUIRE(std::abs(bf16_to_float(y16[static_cast<size_t>(i + offset)]) - e) < 1e-6 + kBf16 * std::abs(e));
    }
    double squares = 0;
    for (int64_t i = 0; i < n; ++i) squares += static_cast<double>(logits[i]) * logits[i];
    CHECK(sum_of_squares(logits, n) == doctest::Approx(squares).epsilon(1e-6));

    const AdamStep step{0.5f, 0.9f, 0.95f, 0.01f, 1.3f, 1e-8f, 0.001f};
    std::vector<float> m = random_floats(random, n + offset), v = m, w = x;
    for (float &value : v) value *= value;
    std::vector<double> m64, v64, w64;
    for (int64_t i = 0; i < n; ++i) {
      const size_t at = static_cast<size_t>(i + offset);
      const double gradient = 0.5 * g[at];
      const double b1 = step.beta1, b2 = step.beta2;
      m64.push_back(b1 * m[at] + (1 - b1) * gradient);
      v64.push_back(b2 * v[at] + (1 - b2) * gradient * gradient);
      w64.push_back(w[at] * (1 - 0.001) - 0.01 * m64.back() / (std::sqrt(v64.back()) * 1.3 + 1e-8));
    }
    adam_update(step, g.data() + offset, n, m.data() + offset, v.data() + offset, w.data() + offset);
    REQUIRE(difference(m.data() + offset, m64.data(), n) < kF32);
    REQUIRE(difference(v.data() + offset, v64.data(), n) < kF32);
    REQUIRE(difference(w.data() + offset, w64.data(), n) < kF32);
  });
}

TEST_CASE("transposed products of every library and type are right, whatever the number of rows") {
  Random random(4);
  for (const GemmLibrary library : {GemmLibrary::ONEDNN, GemmLibrary::OPENBLAS, GemmLibrary::NATIVE}) {
    const Gemm gemm(library);
    for (const int64_t rows : {1, 5, 64, 101, 300}) {
      for (const auto &[m, n] : {std::pair<int64_t, int64_t>{12, 20}, {64, 64}, {100, 130}, {192, 80}}) {
        const int64_t a_stride = m + 4, b_stride = n + 8;
        std::vector<float> a = random_floats(random, rows * a_stride), b = random_floats(random, rows * b_stride);
        std::vector<uint16_t> a16, b16;
        for (float &x : a) a16.push_back(float_to_bf16(x)), x = bf16_to_float(a16.back());
        for (float &x : b) b16.push_back(float_to_bf16(x)), x = bf16_to_float(b16.back());
        std::vector<double> expected(static_cast<size_t>(m * n), 0);
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t i = 0; i < m; ++i)
            for (int64_t j = 0; j < n; ++j)
              expected[static_cast<size_t>(i * n + j)] +=
                  static_cast<double>(a[static_cast<size_t>(r * a_stride + i)]) *
                  b[static_cast<size_t>(r * b_stride + j)];
        for (const NumberType type : {NumberType::F32, NumberType::BF16}) {
          const bool f32 = type == NumberType::F32;
          const ConstRows left{type, f32 ? static_cast<const void *>(a.data()) : a16.data(), a_stride};
          const ConstRows right{type, f32 ? static_cast<const void *>(b.data()) : b16.data(), b_stride};
          std::vector<float> c(expected.size(), 777.0f);
          gemm.multiply_transposed(Threads(), left, right, rows, m, n, c.data(), n, false);
          REQUIRE(difference(c.data(), expected.data(), m * n) < kF32);
          gemm.multiply_transposed(Threads(), left, right, rows, m, n, c.data(), n, true);
          for (float &x : c) x /= 2;
          REQUIRE(difference(c.data(), expected.data(), m * n) < kF32);
        }
      }
    }
  }
}
