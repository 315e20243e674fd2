// Every kernel against its plain reference, over all remainders and misalignments, on every instruction set here.
#include "support.h"

#include <cstring>
#include <functional>

#include "base/random.h"
#include "base/testing.h"
#include "instruction_sets.h"
#include "kernels/bf16_dot.h"
#include "kernels/cpu.h"
#include "kernels/int8_panel.h"
#include "kernels/scalar.h"

using namespace infini;

namespace {

std::vector<float> random_floats(Random &random, int64_t n, double scale = 1) {
  std::vector<float> values(static_cast<size_t>(n));
  for (float &value : values) value = static_cast<float>(random.normal() * scale);
  return values;
}

std::vector<float> widened(const std::vector<uint16_t> &values) {
  std::vector<float> out;
  for (const uint16_t value : values) out.push_back(bf16_to_float(value));
  return out;
}

void on_every_instruction_set(const std::function<void()> &check) {
  test::on_every_instruction_set({"avx2", "avx512", "best"}, check);
}

// f(n, offset) for lengths around every vector width and misaligned starts.
void over_lengths(const std::function<void(int64_t, int64_t)> &f) {
  for (int64_t n : {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 129, 576})
    for (int64_t offset : {0, 1, 3}) f(n, offset);
}

// Tolerance relative to the largest value: a few roundings in f32, or one in bf16.
constexpr double kF32 = 3e-6, kBf16 = 4e-3;

double relative_to_largest(const std::vector<float> &actual, const std::vector<float> &expected) {
  double largest = 1e-30;
  for (const float value : expected) largest = std::max(largest, std::abs(static_cast<double>(value)));
  return test::largest_difference(actual, expected) / largest;
}

}  // namespace

TEST_CASE("a limit on the instruction set holds, whoever asks what the processor can do") {
  limit_instruction_set("avx2");
  CHECK(!has_avx512());
  CHECK(!has_byte_dot());
  limit_instruction_set("avx512");
  CHECK(!has_byte_dot());
  limit_instruction_set("best");
}

TEST_CASE("kernels of AVX-512 take other numbers of rows together than those of AVX2" *
          test::needs(has_avx512(), "a processor with AVX-512")) {
  limit_instruction_set("avx2");
  const int rows = product_rows();
  limit_instruction_set("best");
  CHECK(rows != product_rows());
}

TEST_CASE("a product with panels equals its reference for every number of rows, columns and sums") {
  on_every_instruction_set([] {
    Random random(1);
    for (const int64_t k : {1, 2, 3, 12, 31, 64, 577}) {
      for (const int rows : {1, 2, 3, 5, 6, 7, 13, 99, 105}) {
        for (const int64_t n : {16, 48, 64, 80, 192}) {
          const int64_t padded = (k + 31) / 32 * 32, stride = padded * kPanel, panels = (n + 63) / 64,
                        row = panels * 64;
          const std::vector<float> a = random_floats(random, rows * k);
          std::vector<float> transposed(a.size());
          for (int r = 0; r < rows; ++r)
            for (int64_t i = 0; i < k; ++i)
              transposed[static_cast<size_t>(i * rows + r)] = a[static_cast<size_t>(r * k + i)];
          const std::vector<float> b = random_floats(random, panels * stride);
          std::vector<uint16_t> b16(b.size());
          for (size_t i = 0; i < b.size(); ++i) b16[i] = float_to_bf16(b[i]);
          std::vector<int8_t> b8(b.size());
          for (int8_t &x : b8) x = static_cast<int8_t>(static_cast<int>(random.next() % 255) - 127);
          for (int64_t i = k; i < padded; ++i)  // padding below the last row is zero
            for (int64_t j = 0; j < panels * 64; ++j)
              b16[static_cast<size_t>(j / 64 * stride + i / 2 * 128 + j % 64 * 2 + i % 2)] = 0;
          for (const bool accumulate : {false, true}) {
            const std::vector<float> before = random_floats(random, rows * row);
            std::vector<float> actual = before, expected = before;
            panel_product(a.data(), k, 1, rows, b.data(), stride, k, 0, n, actual.data(), row, accumulate);
            scalar::panel_product(a.data(), k, 1, rows, b.data(), stride, k, 0, n, expected.data(), row, accumulate);
            REQUIRE(relative_to_largest(actual, expected) < kF32);
            std::vector<float> by_columns = before;
            panel_product(transposed.data(), 1, rows, rows, b.data(), stride, k, 0, n, by_columns.data(), row,
                          accumulate);
            REQUIRE(by_columns == actual);
            actual = expected = before;
            panel_product(a.data(), k, 1, rows, b16.data(), stride, k, 0, n, actual.data(), row, accumulate);
            scalar::panel_product(a.data(), k, 1, rows, b16.data(), stride, k, 0, n, expected.data(), row, accumulate);
            REQUIRE(relative_to_largest(actual, expected) < kF32);
            actual = expected = before;
            panel_product(a.data(), k, 1, rows, b8.data(), stride, k, 0, n, actual.data(), row, accumulate);
            scalar::panel_product(a.data(), k, 1, rows, b8.data(), stride, k, 0, n, expected.data(), row, accumulate);
            REQUIRE(relative_to_largest(actual, expected) < kF32);
          }
        }
      }
    }
  });
}

TEST_CASE("dot products of bf16 pairs are the reference's, for any few rows and part of the columns" *
          test::needs(has_avx512_bf16(), "a processor with AVX512_BF16")) {
  Random random(3);
  for (const int rows : {1, 2, 3, 7, 8, 15, 16})
    for (const int64_t k : {2, 30, 128, 130, 512, 576, 1102}) {
      const int64_t stride = (k + 31) / 32 * 32 * kPanel, a_row = k + 6, row = 3 * kPanel;
      std::vector<uint16_t> a(static_cast<size_t>(rows * a_row)), b(static_cast<size_t>(3 * stride));
      std::vector<float> wide;
      for (uint16_t &x : a) x = float_to_bf16(static_cast<float>(random.normal())), wide.push_back(bf16_to_float(x));
      for (uint16_t &x : b) x = float_to_bf16(static_cast<float>(random.normal()));
      const std::vector<float> before = random_floats(random, rows * row);
      for (const auto &[begin, end] : {std::pair<int64_t, int64_t>{0, 192}, {16, 32}, {48, 144}, {128, 192}})
        for (const bool accumulate : {false, true}) {
          std::vector<float> actual = before, expected = before, one = before;
          panel_dot(a.data(), a_row, rows, b.data(), stride, k, begin, end, actual.data(), row, accumulate);
          scalar::panel_product(wide.data(), a_row, 1, rows, b.data(), stride, k, begin, end, expected.data(), row,
                                accumulate);
          REQUIRE(relative_to_largest(actual, expected) < kF32);
          for (int r = 0; r < rows; ++r)
            panel_dot(a.data() + r * a_row, a_row, 1, b.data(), stride, k, begin, end, one.data() + r * row, row,
                      accumulate);
          REQUIRE(one == actual);
        }
    }
}

TEST_CASE("a row of a product depends neither on its neighbours nor on the part of the columns") {
  on_every_instruction_set([] {
    Random random(2);
    const int64_t k = 577, stride = 608 * kPanel, row = 2 * kPanel;
    const std::vector<float> b32 = random_floats(random, 2 * stride);
    std::vector<uint16_t> b16;
    for (const float value : b32) b16.push_back(float_to_bf16(value));
    std::vector<int8_t> b8;
    for (const float value : b32) b8.push_back(static_cast<int8_t>(value * 40));
    const auto same = [&](const std::vector<float> &a, int rows, const auto &b) {
      std::vector<float> all(static_cast<size_t>(rows * row)), one(all.size());
      for (const auto &[begin, end] : {std::pair{0, 16}, {16, 48}, {48, 128}})
        panel_product(a.data(), k, 1, rows, b.data(), stride, k, begin, end, all.data(), row, false);
      for (int r = 0; r < rows; ++r)
        for (int64_t j = 0; j < row; j += 16)
          panel_product(a.data() + r * k, k, 1, 1, b.data(), stride, k, j, j + 16, one.data() + r * row, row, false);
      return std::memcmp(all.data(), one.data(), all.size() * sizeof(float)) == 0;
    };
    for (const int rows : {9, 99, 105}) {
      const std::vector<float> a = random_floats(random, rows * k);
      CHECK(same(a, rows, b32));
      CHECK(same(a, rows, b16));
      CHECK(same(a, rows, b8));
    }
  });
}

TEST_CASE("element-wise kernels equal their references") {
  on_every_instruction_set([] {
    Random random(3);
    over_lengths([&](int64_t n, int64_t offset) {
      const std::vector<float> x = random_floats(random, n + offset, 3), y = random_floats(random, n + offset, 3);
      const auto size = static_cast<size_t>(n);
      std::vector<float> actual(size), expected(size);
      std::vector<uint16_t> actual16(size), expected16(size);
      const float *px = x.data() + offset, *py = y.data() + offset;

      rms_norm(px, py, n, 1e-5f, actual.data());
      scalar::rms_norm(px, py, n, 1e-5f, expected.data());
      REQUIRE(relative_to_largest(actual, expected) < kF32);
      rms_norm(px, py, n, 1e-5f, actual16.data());
      scalar::rms_norm(px, py, n, 1e-5f, expected16.data());
      REQUIRE(relative_to_largest(widened(actual16), widened(expected16)) < kBf16);

      silu_multiply(px, py, n, actual.data());
      scalar::silu_multiply(px, py, n, expected.data());
      REQUIRE(relative_to_largest(actual, expected) < kF32);
      silu_multiply(px, py, n, actual16.data());
      REQUIRE(relative_to_largest(widened(actual16), expected) < kBf16);

      gelu_multiply(px, py, n, actual.data());
      scalar::gelu_multiply(px, py, n, expected.data());
      REQUIRE(relative_to_largest(actual, expected) < kF32);
      gelu_multiply(px, py, n, actual16.data());
      REQUIRE(relative_to_largest(widened(actual16), expected) < kBf16);

      for (const float cap : {0.3f, 1.5f, 50.0f}) {
        actual.assign(px, px + n);
        expected = actual;
        soft_cap(actual.data(), n, cap);
        scalar::soft_cap(expected.data(), n, cap);
        REQUIRE(relative_to_largest(actual, expected) < kF32);
      }

      elu_plus_one(px, n, actual.data());
      for (size_t i = 0; i < size; ++i) expected[i] = scalar::elu_plus_one(px[i]);
      REQUIRE(relative_to_largest(actual, expected) < kF32);

      mix(px, 0.3f, py, 0.7f, n, actual.data());
      for (size_t i = 0; i < size; ++i) expected[i] = 0.3f * px[i] + 0.7f * py[i];
      REQUIRE(relative_to_largest(actual, expected) < kF32);
      mix(px, 0.3f, py, 0.7f, n, actual16.data());
      REQUIRE(relative_to_largest(widened(actual16), expected) < kBf16);

      actual.assign(py, py + n);
      add_scaled(px, -1.5f, n, actual.data());
      for (size_t i = 0; i < size; ++i) expected[i] = py[i] - 1.5f * px[i];
      REQUIRE(relative_to_largest(actual, expected) < kF32);

      double sum = 0, magnitude = 0;
      for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(px[i]) * py[i], magnitude += std::abs(px[i] * py[i]);
      REQUIRE(std::abs(dot(px, py, n) - sum) < kF32 * magnitude);

      REQUIRE(std::abs(log_sum_exp(px, n) - scalar::log_sum_exp(px, n)) < 1e-5);

      narrow(px, n, actual16.data());
      for (size_t i = 0; i < size; ++i) expected16[i] = float_to_bf16(px[i]);
      REQUIRE(actual16 == expected16);
      widen(actual16.data(), n, actual.data());
      REQUIRE(actual == widened(expected16));
    });
  });
}

TEST_CASE("a panel is widened to the same numbers") {
  on_every_instruction_set([] {
    Random random(8);
    for (const int64_t k : {2, 6, 64}) {
      std::vector<uint16_t> panel(static_cast<size_t>(k * kPanel));
      narrow(random_floats(random, k * kPanel).data(), k * kPanel, panel.data());
      std::vector<float> wide(panel.size());
      widen_panel(panel.data(), k, wide.data());
      for (int64_t i = 0; i < k; ++i)
        for (int64_t j = 0; j < kPanel; ++j)
          REQUIRE(wide[static_cast<size_t>(i * kPanel + j)] == scalar::panel_element(panel.data(), 0, i, j));
    }
  });
}

TEST_CASE("numbers are rounded to int8 with a scale, and widened from panels of them by columns or rows") {
  on_every_instruction_set([] {
    Random random(9);
    for (const int64_t n : {1, 2, 3, 7, 16, 31, 64, 80, 128}) {
      const std::vector<float> x = random_floats(random, n);
      std::vector<int8_t> rounded(static_cast<size_t>(n) + 1, 99);
      float largest = 0;
      for (const float number : x) largest = std::max(largest, std::abs(number));
      const float scale = to_int8(x.data(), n, rounded.data());
      CHECK(scale == largest / 127);
      CHECK(rounded.back() == 99);
      for (size_t i = 0; i < x.size(); ++i)
        CHECK(std::abs(static_cast<float>(rounded[i]) * scale - x[i]) < 0.501f * scale);
    }
    std::vector<int8_t> rounded(3, 1);
    CHECK(to_int8(std::vector<float>{0, -0.0f, 0}.data(), 3, rounded.data()) == 0);
    CHECK(rounded == std::vector<int8_t>{0, 0, 0});
    CHECK(std::isfinite(to_int8(std::vector<float>{1e-42f, 0, 0}.data(), 3, rounded.data())));
    for (const float wrong : {NAN, INFINITY, -INFINITY})
      CHECK(std::isnan(to_int8(std::vector<float>{1, wrong, 2}.data(), 3, rounded.data())));
    for (const int64_t k : {1, 4, 7, 64}) {
      std::vector<int8_t> panel(static_cast<size_t>((k + 3) / 4 * 4 * kPanel));
      for (int8_t &number : panel) number = static_cast<int8_t>(static_cast<int>(random.next() % 255) - 127);
      const std::vector<float> scales = random_floats(random, std::max<int64_t>(k, kPanel));
      for (const ScaleOf of : {ScaleOf::COLUMN, ScaleOf::ROW}) {
        std::vector<float> wide(panel.size());
        std::vector<uint16_t> wide16(panel.size());
        widen_panel(panel.data(), k, of, scales.data(), wide.data());
        widen_panel(panel.data(), k, of, scales.data(), wide16.data());
        for (int64_t i = 0; i < k; ++i)
          for (int64_t j = 0; j < kPanel; ++j) {
            const float number = scalar::panel_element(panel.data(), 0, i, j) *
                                 scales[static_cast<size_t>(of == ScaleOf::COLUMN ? j : i)];
            REQUIRE(scalar::panel_element(wide.data(), 0, i, j) == number);
            REQUIRE(scalar::panel_element(wide16.data(), 0, i, j) == bf16_to_float(float_to_bf16(number)));
          }
      }
    }
  });
}

TEST_CASE("the cells of a panel are where its elements are, and columns of it are cleared alone") {
  const auto check = [](NumberType type, auto number) {
    using Number = decltype(number);
    for (const int64_t rows : {1, 2, 7, 64}) {
      const int64_t padded = padded_k(type, rows), together = kCell / bytes_of(type);
      CHECK(padded % 16 == 0);
      CHECK(cells_of(type, rows) == (rows + together - 1) / together);
      std::vector<Number> panel(static_cast<size_t>(panel_size(padded)), Number{1});
      REQUIRE(static_cast<int64_t>(panel.size() * sizeof(Number)) == panel_bytes(type, padded));
      clear_columns(type, panel.data(), rows, 16, 48);
      int64_t misplaced = 0, wrong = 0;
      for (int64_t i = 0; i < padded; ++i) {
        for (int64_t j = 0; j < kPanel; ++j) {
          const Number *const at = panel_element(panel.data(), 0, i, j);
          misplaced += reinterpret_cast<const char *>(at) - reinterpret_cast<const char *>(panel.data()) !=
                       i / together * kCellRow + j * kCell + i % together * bytes_of(type);
          wrong += (*at == Number{0}) != (j >= 16 && j < 48 && i < together * cells_of(type, rows));
        }
      }
      CHECK(misplaced == 0);
      CHECK(wrong == 0);
    }
  };
  check(NumberType::F32, float{});
  check(NumberType::BF16, uint16_t{});
}

TEST_CASE("rotation equals its reference for both kinds of pairs") {
  on_every_instruction_set([] {
    Random random(4);
    for (const int64_t n : {2, 4, 6, 12, 16, 34, 64, 96, 128}) {
      const std::vector<float> x = random_floats(random, n), c = random_floats(random, n / 2),
                               s = random_floats(random, n / 2);
      for (const bool adjacent : {true, false}) {
        std::vector<float> actual(static_cast<size_t>(n)), expected(static_cast<size_t>(n));
        rotate(x.data(), c.data(), s.data(), n, adjacent, 0.5f, actual.data());
        scalar::rotate(x.data(), c.data(), s.data(), n, adjacent, 0.5f, expected.data());
        REQUIRE(relative_to_largest(actual, expected) < kF32);
      }
    }
  });
}

TEST_CASE("a part of a softmax equals its reference for every number of visible keys") {
  on_every_instruction_set([] {
    Random random(5);
    const int64_t n = 128;
    const std::vector<float> scores = random_floats(random, n, 10);
    for (int64_t valid = 0; valid <= n; ++valid) {
      std::vector<float> actual(n), expected(n);
      std::vector<uint16_t> actual16(n);
      const SoftmaxPart part = softmax_part(scores.data(), valid, n, actual.data());
      const SoftmaxPart reference = scalar::softmax_part(scores.data(), valid, n, expected.data());
      REQUIRE(part.maximum == reference.maximum);
      REQUIRE(std::abs(part.sum - reference.sum) <= kF32 * reference.sum);
      REQUIRE(relative_to_largest(actual, expected) < kF32);
      const SoftmaxPart part16 = softmax_part(scores.data(), valid, n, actual16.data());
      REQUIRE(part16.sum == part.sum);
      REQUIRE(relative_to_largest(widened(actual16), expected) < kBf16);
      std::vector<float> in_place = scores;
      softmax_part(in_place.data(), valid, n, in_place.data());
      REQUIRE(in_place == actual);
    }
  });
}

TEST_CASE("exp is right to 1.2 units of the last place, and 1 at 0") {
  on_every_instruction_set([] {
    std::vector<float> x(1 << 16), y(x.size());
    double worst = 0;
    for (int begin = 0; begin < 64; ++begin) {
      for (size_t i = 0; i < x.size(); ++i)
        x[i] = -87.3f * (static_cast<float>(begin) + static_cast<float>(i) / static_cast<float>(x.size())) / 64;
      elu_plus_one(x.data(), static_cast<int64_t>(x.size()), y.data());
      for (size_t i = 0; i < x.size(); ++i) {
        const double exact = std::exp(static_cast<double>(x[i]));
        const auto near = static_cast<float>(exact);
        worst = test::larger(worst, std::abs(y[i] - exact) / static_cast<double>(std::nextafter(near, 2.0f) - near));
      }
    }
    CHECK(worst < 1.2);
    elu_plus_one(std::vector<float>(16, 0.0f).data(), 16, y.data());
    for (int i = 0; i < 16; ++i) CHECK(y[static_cast<size_t>(i)] == 1.0f);
    elu_plus_one(std::vector<float>(16, std::numeric_limits<float>::quiet_NaN()).data(), 16, y.data());
    for (int i = 0; i < 16; ++i) CHECK(y[static_cast<size_t>(i)] != y[static_cast<size_t>(i)]);
  });
}

TEST_CASE("extreme values stay what they should be") {
  on_every_instruction_set([] {
    const float inf = std::numeric_limits<float>::infinity();
    std::vector<float> x = {-1e30f, -200.0f, -88.0f, -17.4f, -0.0f, 0.0f, 88.0f, 1e30f, inf, -inf};
    std::vector<float> ones(x.size(), 1.0f), y(x.size());
    elu_plus_one(x.data(), static_cast<int64_t>(x.size()), y.data());
    CHECK(y[0] == 0.0f);
    CHECK(y[3] > 0.0f);  // exp form: not lost below -17.3, as ELU(x) + 1 would be
    CHECK(y[5] == 1.0f);
    CHECK(y[8] == inf);
    silu_multiply(x.data(), ones.data(), 8, y.data());
    CHECK(y[0] == 0.0f);
    CHECK(y[7] == 1e30f);
    gelu_multiply(x.data(), ones.data(), 8, y.data());
    CHECK(y[0] == 0.0f);
    CHECK(y[7] == 1e30f);
    y = x;
    soft_cap(y.data(), 9, 30);
    CHECK(y[0] == -30.0f);
    CHECK(y[7] == 30.0f);
    CHECK(y[8] == 30.0f);
    std::vector<uint16_t> bits(2);
    const float odd[] = {std::numeric_limits<float>::quiet_NaN(), inf};
    narrow(odd, 2, bits.data());
    CHECK(std::isnan(bf16_to_float(bits[0])));
    CHECK(bf16_to_float(bits[1]) == inf);
  });
}
