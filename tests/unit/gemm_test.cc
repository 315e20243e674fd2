// Every library behind the seam gives the same products.
#include "support.h"

#include "base/random.h"
#include "base/testing.h"
#include "gemm/gemm.h"
#include "kernels/bf16_dot.h"
#include "kernels/cpu.h"
#include "kernels/scalar.h"

using namespace infini;

namespace {

// Largest error over the size that rounding of the terms allows.
double check(GemmLibrary library, NumberType type, int64_t rows, int64_t k, int64_t n, bool accumulate, bool exact) {
  Random random(static_cast<uint64_t>(rows * 1000003 + k * 1009 + n));
  const auto value = [&] {
    const auto x = static_cast<float>(random.normal());
    return type == NumberType::F32 ? x : bf16_to_float(float_to_bf16(x));
  };
  PackedMatrix b(type, k, n);
  std::vector<float> columns(static_cast<size_t>(k * n));
  for (float &x : columns) x = value();
  for (int64_t j = 0; j < n; j += kPanel)
    b.set_panel(j / kPanel, columns.data() + j * k, k, std::min<int64_t>(kPanel, n - j));
  Buffer<float> a32(rows * k);
  Buffer<uint16_t> a16(rows * k);
  for (int64_t i = 0; i < rows * k; ++i) a32[i] = value(), a16[i] = float_to_bf16(a32[i]);
  const int64_t c_row = round_up(n, kPanel);
  Buffer<float> c(rows * c_row);
  for (int64_t i = 0; i < c.size(); ++i) c[i] = accumulate ? 0.5f : 777.0f;
  const Gemm gemm(library);
  const void *a = type == NumberType::F32 ? static_cast<const void *>(a32.data()) : a16.data();
  gemm.multiply(Threads(), {type, a, k}, rows, b.panels(), c.data(), c_row, accumulate, exact);
  double worst = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = accumulate ? 0.5 : 0;
      for (int64_t i = 0; i < k; ++i) sum += static_cast<double>(a32[r * k + i]) * b.at(i, j);
      worst = test::larger(worst, std::abs(c[r * c_row + j] - sum) / std::sqrt(static_cast<double>(k)));
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("products of every library, type and size are right") {
  for (const GemmLibrary library : {GemmLibrary::ONEDNN, GemmLibrary::OPENBLAS, GemmLibrary::NATIVE})
    for (const NumberType type : {NumberType::F32, NumberType::BF16})
      for (const int64_t rows : {1, 4, 5, 7, 16, 31, 300})
        for (const auto &[k, n] : {std::pair<int64_t, int64_t>{12, 20}, {64, 64}, {100, 130}, {1100, 192}})
          for (const bool accumulate : {false, true})
            REQUIRE(check(library, type, rows, k, n, accumulate, false) < 1e-5);
}

TEST_CASE("exact products have the same bits however many rows there are") {
  const int64_t k = 1101, n = 130, rows = 105, c_row = round_up(n, kPanel);
  Random random(9);
  for (const NumberType type : {NumberType::F32, NumberType::BF16}) {
    PackedMatrix b(type, k, n);
    std::vector<float> columns(static_cast<size_t>(k * n));
    for (float &x : columns) x = static_cast<float>(random.normal());
    b.pack(Threads(), columns.data(), k, false);
    Buffer<float> a32(rows * k), all(rows * c_row), one(rows * c_row);
    Buffer<uint16_t> a16(rows * k);
    for (int64_t i = 0; i < rows * k; ++i) a32[i] = static_cast<float>(random.normal()), a16[i] = float_to_bf16(a32[i]);
    const ConstRows a{type, type == NumberType::F32 ? static_cast<const void *>(a32.data()) : a16.data(), k};
    const Gemm gemm(GemmLibrary::ONEDNN);
    gemm.multiply(Threads(), a, rows, b.panels(), all.data(), c_row, false, true);
    for (int64_t r = 0; r < rows; ++r)
      gemm.multiply(Threads(), a.from(r), 1, b.panels(), one.data() + r * c_row, c_row, false, true);
    CHECK(std::equal(all.data(), all.data() + all.size(), one.data()));
  }
}

TEST_CASE("every way that a product may go on this processor is gone, and no other") {
  for (const GemmLibrary library : {GemmLibrary::ONEDNN, GemmLibrary::OPENBLAS, GemmLibrary::NATIVE}) {
    for (const NumberType type : {NumberType::F32, NumberType::BF16})
      for (const int64_t rows : {1, 300})
        for (const int64_t n : {20, 64}) REQUIRE(check(library, type, rows, 64, n, false, false) < 1e-5);
    const Buffer<float> a(101 * 64), b(101 * 64);
    Buffer<float> c(64 * 64);
    Gemm(library).multiply_transposed(Threads(), {NumberType::F32, a.data(), 64}, {NumberType::F32, b.data(), 64}, 101,
                                      64, 64, c.data(), 64, false);
  }
  CHECK(has_gone(ProductWay::NATIVE));
  CHECK(has_gone(ProductWay::OPENBLAS) == has_avx512());
  CHECK(has_gone(ProductWay::ONEDNN) == has_avx512());
  CHECK(has_gone(ProductWay::ONEDNN_APART) == has_avx512());
  CHECK(has_gone(ProductWay::DOTS) == (has_bf16_dot() && has_fast_bf16() && !has_amx_bf16()));
  CHECK(has_gone(ProductWay::WIDENED) == (has_avx512() && !has_fast_bf16()));
  CHECK(has_gone(ProductWay::TRANSPOSED_NATIVE));
  CHECK(has_gone(ProductWay::TRANSPOSED_OPENBLAS));
  CHECK(has_gone(ProductWay::TRANSPOSED_ONEDNN) == has_avx512());
}
