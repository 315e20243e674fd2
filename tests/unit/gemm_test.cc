// Every library behind the seam gives the same products.
#include "allocations.h"

#include <map>
#include <optional>
#include <sstream>
#include <tuple>

#include "support.h"

#include "base/options.h"
#include "base/random.h"
#include "base/testing.h"
#include "gemm/choose.h"
#include "gemm/onednn.h"
#include "gemm/openblas.h"
#include "kernels/bf16_dot.h"
#include "kernels/cpu.h"
#include "kernels/scalar.h"

using namespace infini;

namespace {

// Of each option that is one of some words: these.
struct Choices {
  std::map<std::string, std::vector<std::string>> of;
  template <class Value, class... Rest>
  void operator()(const char *name, const Value &, Rest... rest) {
    if constexpr (std::is_same_v<Value, std::string>)
      for (std::stringstream all(std::get<0>(std::tuple(rest...))); all.good();)
        std::getline(all, of[name].emplace_back(), '|');
  }
};

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
  CHECK(has_gone(ProductWay::OPENBLAS) == kOpenBlas);
  CHECK(has_gone(ProductWay::ONEDNN) == (OneDnn::is_there() && has_avx512()));
  CHECK(has_gone(ProductWay::ONEDNN_APART) == (OneDnn::is_there() && has_avx512()));
  CHECK(has_gone(ProductWay::DOTS) == (has_avx512_bf16() && has_fast_bf16() && !has_amx_bf16()));
  CHECK(has_gone(ProductWay::WIDENED) == (OneDnn::is_there() && has_avx512() && !has_fast_bf16()));
  CHECK(has_gone(ProductWay::TRANSPOSED_NATIVE));
  CHECK(has_gone(ProductWay::TRANSPOSED_OPENBLAS) == kOpenBlas);
  CHECK(has_gone(ProductWay::TRANSPOSED_ONEDNN) == (OneDnn::is_there() && has_avx512()));
}

TEST_CASE("a product takes no memory once there were some of its shape, but for what oneDNN notes of a call") {
  const int64_t k = 64;
  const Buffer<float> a(300 * k);
  Buffer<float> c(300 * 192), inner(64 * 192);
  for (const GemmLibrary library : {GemmLibrary::ONEDNN, GemmLibrary::OPENBLAS, GemmLibrary::NATIVE})
    for (const NumberType type : {NumberType::F32, NumberType::BF16})
      for (const int64_t rows : {1, 300})
        for (const int64_t n : {64, 130, 192}) {
          const PackedMatrix b(type, k, n);
          const Gemm gemm(library);
          const auto takes = [&] {
            const size_t before = test::allocated_bytes;
            gemm.multiply(Threads(), {type, a.data(), k}, rows, b.panels(), c.data(), 192, true);
            gemm.multiply_transposed(Threads(), {type, a.data(), k}, {type, a.data(), k}, rows, k, k, inner.data(), 64,
                                     false);
            return test::allocated_bytes - before;
          };
          takes(), takes();
          CAPTURE(rows);
          CAPTURE(n);
          CHECK(takes() <= (library == GemmLibrary::ONEDNN && OneDnn::supports(NumberType::F32) ? 128 << 10 : 0));
        }
}

TEST_CASE("each processor multiplies in the ways in which it is fast") {
  //                                 avx2  avx512 bf16  fast  amx    oneDNN f32, bf16
  const Cpu none{}, avx2{true}, cascade{true, true, false, false, false, true, false},
      cooper{true, true, true, false, false, true, true}, zen4{true, true, true, true, false, true, true},
      sapphire{true, true, true, true, true, true, true};
  struct Row {
    const Cpu &cpu;
    GemmLibrary library;
    NumberType numbers, training;
    Product f32, bf16_few, bf16, bf16_transposed;
    int64_t bf16_few_rows;
  };
  using enum Product;
  const auto N = GemmLibrary::NATIVE, D = GemmLibrary::ONEDNN, O = GemmLibrary::OPENBLAS;
  const auto F = NumberType::F32, B = NumberType::BF16;
  const std::string no_bf16 = "the processor has no bf16 products (AVX512_BF16)";
  for (const Row &row :
       {Row{none, N, F, F, NATIVE, NATIVE, NATIVE, NATIVE, 16}, Row{avx2, N, F, F, NATIVE, NATIVE, NATIVE, NATIVE, 16},
        Row{cascade, D, F, F, ONEDNN, NATIVE, WIDENED, NATIVE, 16},
        Row{cooper, D, B, F, ONEDNN, NATIVE, WIDENED, ONEDNN, 16}, Row{zen4, D, B, B, ONEDNN, DOTS, ONEDNN, ONEDNN, 16},
        Row{sapphire, D, B, B, ONEDNN, NATIVE, ONEDNN, ONEDNN, 4}}) {
    CAPTURE(row.cpu.avx512);
    CAPTURE(row.cpu.fast_bf16);
    if (kOneDnnByDefault) CHECK(choose({}, row.cpu).library == row.library);
    CHECK(choose({.library = N}, row.cpu).library == N);
    const auto with = [&](std::optional<Compute> compute, GemmLibrary library) {
      return choose({.compute = compute, .library = library}, row.cpu);
    };
    const ProductChoice choice = with({}, row.library);
    CHECK(choice.floats == row.numbers);
    CHECK(choice.training == row.training);
    CHECK(with(Compute::BF16, O).floats == F);
    CHECK(with(Compute::BF16, O).training == F);
    CHECK(with(Compute::BF16, O).no_bf16 == std::string("OpenBLAS multiplies f32 only"));
    CHECK(with(Compute::BF16, N).floats == B);
    CHECK(with(Compute::BF16, N).training == B);
    CHECK(with(Compute::BF16, N).no_bf16 == nullptr);
    const ProductChoice asked = with(Compute::BF16, D);
    CHECK(asked.floats == (row.cpu.avx512_bf16 ? B : F));
    CHECK(asked.training == asked.floats);
    CHECK((asked.no_bf16 ? asked.no_bf16 : "") == (row.cpu.avx512_bf16 ? "" : no_bf16));
    CHECK(with(Compute::F32, N).floats == F);
    CHECK(with(Compute::F32, row.library).training == F);
    CHECK(choose({.weights = F, .library = row.library}, row.cpu).floats == F);
    CHECK(choice.keeps_blocks == row.cpu.byte_products);
    CHECK(choice.kept(BlockType::Q4_K) ==
          (row.cpu.byte_products ? WeightFormat(BlockType::Q4_K) : WeightFormat(row.numbers)));
    CHECK(choice.kept(F) == WeightFormat(row.numbers));
    const ProductsByRows f32 = choice.products(F, 64), even = choice.products(B, 64), odd = choice.products(B, 63);
    CHECK(f32.few == NATIVE);
    CHECK(f32.few_rows == 16);
    CHECK(f32.many == row.f32);
    CHECK(f32.transposed == row.f32);
    CHECK(even.few == row.bf16_few);
    CHECK(even.few_rows == row.bf16_few_rows);
    CHECK(even.many == row.bf16);
    CHECK(even.transposed == row.bf16_transposed);
    CHECK(odd.few == NATIVE);
    CHECK(odd.many == row.bf16);
    CHECK(with({}, N).bf16_even.many == NATIVE);
    CHECK(with({}, N).f32.transposed == NATIVE);
  }
  CHECK(choose({.library = O}, zen4).f32.many == (kOpenBlas ? OPENBLAS : NATIVE));
  CHECK(choose({.library = O}, zen4).f32.transposed == (kOpenBlas ? OPENBLAS : NATIVE));
  CHECK(choose({.library = O}, zen4).bf16_even.many == NATIVE);
  CHECK(choose({}, avx2).of_blocks == Compute::INT8);
  CHECK(choose({.compute = Compute::INT8}, zen4).of_blocks == Compute::INT8);
  CHECK(choose({.compute = Compute::BF16, .library = N}, zen4).of_blocks == Compute::BF16);
  CHECK(choose({.compute = Compute::BF16, .library = O}, zen4).of_blocks == Compute::F32);
  CHECK(compute_in(choose({.compute = Compute::INT8}, avx2).floats) == Compute::F32);
}

TEST_CASE("options are read in one place; a library that the build lacks is refused in words, and any other is taken") {
  const Asked nothing = read_asked("file", "auto", "auto"), all = read_asked("q4_0", "int8", "native");
  CHECK_FALSE((nothing.weights || nothing.compute || nothing.library));
  CHECK(all.weights == WeightFormat(BlockType::Q4_0));
  CHECK(all.compute == Compute::INT8);
  CHECK(all.library == GemmLibrary::NATIVE);
  CHECK(read_asked("bf16", "f32", "auto").weights == WeightFormat(NumberType::BF16));
  CHECK(choose(read_asked("file", "auto", "native"), Cpu::here()).library == GemmLibrary::NATIVE);
  if (kOpenBlas) CHECK(choose(read_asked("file", "auto", "openblas"), Cpu::here()).library == GemmLibrary::OPENBLAS);
  else CHECK_THROWS_WITH(read_asked("file", "auto", "openblas"), doctest::Contains("has no OpenBLAS; use auto"));
  for (const char *const name : {"f32", "bf16", "int8"})
    CHECK(name_of(*read_asked("file", name, "auto").compute) == std::string(name));
}

TEST_CASE("every choice that the options offer is one that products know") {
  Choices choices;
  ModelOptions().fields(choices);
  CHECK(choices.of.at("gemm").size() == 4);
  for (const std::string &weights : choices.of.at("weights"))
    CHECK(read_asked(weights, "auto", "auto").weights.has_value() == (weights != "file"));
  for (const std::string &compute : choices.of.at("compute"))
    CHECK(read_asked("file", compute, "auto").compute.has_value() == (compute != "auto"));
  for (const std::string &gemm : choices.of.at("gemm")) {
    if ((gemm == "openblas" && !kOpenBlas) || (gemm == "onednn" && !OneDnn::is_there())) continue;  // refused in words
    CHECK(read_asked("file", "auto", gemm).library.has_value() == (gemm != "auto"));
  }
}

TEST_CASE("scratch is lent to one at a time, and again") {
  ScratchPool pool;
  char *first, *second;
  {
    ScratchPool::Loan a(pool, 1000), b(pool, 500000);
    first = a.at<char>(), second = b.at<char>();
    CHECK((second + 500000 <= first || first + 1000 <= second));
    first[999] = second[499999] = 'x';
  }
  {
    ScratchPool::Loan small(pool, 900), large(pool, 400000);
    CHECK(small.at<char>() == first);
    CHECK(large.at<char>() == second);
    CHECK(large.at<char>()[399999] == 0);
  }
  ScratchPool::Loan grown(pool, 600000);
  grown.at<char>()[599999] = 'x';
}
