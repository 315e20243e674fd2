// Weights at their bits: every block type against its plain reference and the float64 product of the unpacked floats,
// over remainders, rows and instruction sets.
#include "support.h"

#include <cstring>
#include <functional>

#include "base/random.h"
#include "base/testing.h"
#include "format/quant.h"
#include "gemm/weight_matrix.h"
#include "instruction_sets.h"
#include "kernels/blocks_scalar.h"

using namespace infini;

namespace {

constexpr TensorType kTypes[] = {TensorType::Q8_0, TensorType::Q4_0, TensorType::Q4_1,   TensorType::Q5_0,
                                 TensorType::Q5_1, TensorType::Q2_K, TensorType::Q3_K,   TensorType::Q4_K,
                                 TensorType::Q5_K, TensorType::Q6_K, TensorType::IQ4_NL, TensorType::IQ4_XS};

void on_every_instruction_set(const std::function<void()> &check) {
  test::on_every_instruction_set({"avx2", "avx2_vnni", "avx512", "best"}, check);
}

// Random blocks of a file, whose halves are of a trained model's size, and what they stand for.
struct Tensor {
  TensorType type;
  int64_t k, n;
  std::vector<uint8_t> blocks;
  std::vector<float> values;  // [n][k]
  BlockMatrix matrix;

  Tensor(TensorType type_, int64_t k_, int64_t n_, uint64_t seed) : type(type_), k(k_), n(n_) {
    Random random(seed);
    const TensorLayout &layout = *tensor_layout(type);
    const int64_t count = k / layout.block_elements * n;
    blocks.resize(static_cast<size_t>(count * layout.block_bytes));
    for (uint8_t &byte : blocks) byte = static_cast<uint8_t>(random.next());
    const auto half_at = [&](int64_t block, int offset) {
      const uint16_t bits = float_to_half(static_cast<float>(random.normal() * 0.01));
      std::memcpy(blocks.data() + block * layout.block_bytes + offset, &bits, 2);
    };
    for (int64_t block = 0; block < count; ++block) {
      switch (type) {
        case TensorType::Q4_1:
        case TensorType::Q5_1:
        case TensorType::Q4_K:
        case TensorType::Q5_K: half_at(block, 2), half_at(block, 0); break;
        case TensorType::Q2_K: half_at(block, 80), half_at(block, 82); break;
        case TensorType::Q3_K: half_at(block, 108); break;
        case TensorType::Q6_K: half_at(block, 208); break;
        default: half_at(block, 0); break;
      }
    }
    values.resize(static_cast<size_t>(k * n));
    unpack(type, blocks.data(), k * n, values.data());
    matrix = BlockMatrix(*block_type(type), k, n);
    const BlockSpec &spec = spec_of(matrix.type());
    const int64_t a_row = k / layout.block_elements, a_unit = spec.unit() / layout.block_elements;
    for (int64_t j = 0; j < round_up(n, kStrip); j += kStrip) {
      uint8_t *unit = matrix.strip_of(j);
      for (int64_t block = 0; block < a_row; block += a_unit, unit += spec.unit_bytes()) {
        const std::byte *columns[kStrip] = {};
        for (int64_t c = 0; c < std::min<int64_t>(kStrip, n - j); ++c)
          columns[c] =
              reinterpret_cast<const std::byte *>(blocks.data()) + ((j + c) * a_row + block) * layout.block_bytes;
        REQUIRE(pack_unit(type, columns, a_row - block, unit));
      }
    }
  }
};

std::vector<float> random_floats(int64_t n, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(n));
  for (float &value : values) value = static_cast<float>(random.normal());
  return values;
}

int64_t least_depth(TensorType type) { return spec_of(*block_type(type)).nested ? 256 : 32; }

}  // namespace

TEST_CASE("a strip's elements are the file's floats, and unpacking gives them to panels, bit for bit") {
  on_every_instruction_set([] {
    for (const TensorType type : kTypes) {
      CAPTURE(std::string(tensor_layout(type)->name));
      for (const int64_t k : {least_depth(type), 3 * least_depth(type)}) {
        const Tensor tensor(type, k, 21, 1);
        const int64_t depth = round_up(k, spec_of(tensor.matrix.type()).unit());
        Buffer<float> f32(depth * kPanel);
        Buffer<uint16_t> bf16(depth * kPanel);
        for (int64_t strip = 0; strip < 2; ++strip) {
          unpack_strip(tensor.matrix.type(), tensor.matrix.strip_of(strip * kStrip), 0, depth,
                       f32.data() + strip * kStrip);
          unpack_strip(tensor.matrix.type(), tensor.matrix.strip_of(strip * kStrip), 0, depth,
                       bf16.data() + strip * 2 * kStrip);
        }
        int64_t wrong = 0;
        for (int64_t j = 0; j < 21; ++j) {
          std::vector<float> column(static_cast<size_t>(k + 1), 12345.0f);
          unpack_strip_column(tensor.matrix.type(), tensor.matrix.strip_of(j), k, static_cast<int>(j % kStrip),
                              column.data());
          wrong += column.back() != 12345.0f;
          for (int64_t i = 0; i < k; ++i)
            wrong += column[static_cast<size_t>(i)] != tensor.values[static_cast<size_t>(j * k + i)];
        }
        for (int64_t j = 0; j < 32; ++j) {
          for (int64_t i = 0; i < depth; ++i) {
            const float expected = j < 21 && i < k ? tensor.values[static_cast<size_t>(j * k + i)] : 0;
            const float reference =
                scalar::block_element(tensor.matrix.type(), tensor.matrix.strip_of(j), i, static_cast<int>(j % kStrip))
                    .value();
            wrong += reference != expected;
            wrong += scalar::panel_element(f32.data(), 0, i, j) != expected;
            wrong += scalar::panel_element(bf16.data(), 0, i, j) != bf16_to_float(float_to_bf16(expected));
          }
        }
        CHECK(wrong == 0);
      }
    }
  });
}

TEST_CASE("rows are rounded to bytes as their reference says") {
  on_every_instruction_set([] {
    for (const TensorType type : kTypes) {
      const BlockType blocks = *block_type(type);
      for (const int64_t k : {32, 33, 576, 1000}) {
        std::vector<float> x = random_floats(k, static_cast<uint64_t>(k));
        std::fill_n(x.begin(), 32, 0.0f);  // a block of zeros
        for (const int group : {1, kRowGroup}) {
          const auto of = [&](auto quantize) {
            std::vector<uint8_t> rows(static_cast<size_t>(block_rows_bytes(blocks, k, 11, group)), 77);
            for (const int64_t row : {0, 7, 10}) quantize(blocks, x.data(), k, row, group, rows.data());
            return rows;
          };
          CHECK(of(quantize_row) == of(scalar::quantize_row));
        }
      }
    }
  });
}

TEST_CASE(
    "products in int8 are those of their reference, for every type and number of rows and columns, however columns are "
    "cut") {
  on_every_instruction_set([] {
    for (const TensorType type : kTypes) {
      CAPTURE(std::string(tensor_layout(type)->name));
      for (const int64_t n : {1, 16, 37, 64}) {
        const int64_t deep = least_depth(type) == 32 ? 1696 : 1792;  // in passes of unlike depths
        const Tensor tensor(type, n == 16 ? deep : 3 * least_depth(type), n, static_cast<uint64_t>(n));
        const BlockType blocks = tensor.matrix.type();
        for (const int64_t rows : {1, 2, 3, 7, 16, 37}) {
          const std::vector<float> x = random_floats(rows * tensor.k, 7);
          const auto rounded = [&](int group) {
            std::vector<uint8_t> made(static_cast<size_t>(block_rows_bytes(blocks, tensor.k, rows, group)));
            for (int64_t r = 0; r < rows; ++r)
              quantize_row(blocks, x.data() + r * tensor.k, tensor.k, r, group, made.data());
            return made;
          };
          const std::vector<uint8_t> groups = rounded(kRowGroup), apart = rounded(1);
          for (const bool accumulate : {false, true}) {
            std::vector<float> c(static_cast<size_t>(rows * (n + 3)), 0.5f), reference = c, alone = c;
            const uint8_t *const strips = tensor.matrix.strip_of(0);
            block_product(blocks, {groups.data(), kRowGroup}, rows, strips, tensor.k, 0, n, c.data(), n + 3,
                          accumulate);
            scalar::block_product(blocks, {groups.data(), kRowGroup}, rows, strips, tensor.k, 0, n, reference.data(),
                                  n + 3, accumulate);
            CHECK(test::relative_difference(c, reference) < 2e-5);
            block_product(blocks, {apart.data(), 1}, rows, strips, tensor.k, 0, n, alone.data(), n + 3, accumulate);
            CHECK(alone == c);  // a row depends on itself alone, and nothing past the columns is written
            std::vector<float> cut(static_cast<size_t>(rows * (n + 3)), 0.5f);
            for (int64_t j = 0; j < n; j += kStrip)
              block_product(blocks, {groups.data(), kRowGroup}, rows, strips, tensor.k, j, std::min(n, j + kStrip),
                            cut.data(), n + 3, accumulate);
            CHECK(cut == c);
          }
        }
      }
    }
  });
}

TEST_CASE("sums have room for the greatest weights times the greatest numbers, of either sign") {
  on_every_instruction_set([] {
    for (const TensorType type : kTypes) {
      CAPTURE(std::string(tensor_layout(type)->name));
      const int64_t k = 512, n = 21, rows = 4;
      Tensor tensor(type, k, n, 9);
      const BlockSpec &spec = spec_of(tensor.matrix.type());
      for (const int64_t strip : {0, 16})
        for (int64_t unit = 0; unit < strip_bytes(tensor.matrix.type(), k); unit += spec.unit_bytes())
          std::fill_n(tensor.matrix.strip_of(strip) + unit + spec.head_bytes(), spec.unit_bytes() - spec.head_bytes(),
                      uint8_t{255});
      for (const int group : {1, kRowGroup}) {
        std::vector<uint8_t> x(static_cast<size_t>(block_rows_bytes(tensor.matrix.type(), k, rows, group)));
        for (int64_t r = 0; r < rows; ++r) {
          const std::vector<float> row(static_cast<size_t>(k), r % 2 == 0 ? 1.0f : -1.0f);
          quantize_row(tensor.matrix.type(), row.data(), k, r, group, x.data());
        }
        std::vector<float> c(static_cast<size_t>(rows * n)), reference = c;
        block_product(tensor.matrix.type(), {x.data(), group}, rows, tensor.matrix.strip_of(0), k, 0, n, c.data(), n,
                      false);
        scalar::block_product(tensor.matrix.type(), {x.data(), group}, rows, tensor.matrix.strip_of(0), k, 0, n,
                              reference.data(), n, false);
        CHECK(test::relative_difference(c, reference) < 2e-5);
      }
    }
  });
}

TEST_CASE("a matrix in blocks gives the same bits on any number of threads, which share its product") {
  const EagerThreads eager;
  ThreadPool pool;
  const Gemm gemm(GemmLibrary::NATIVE);
  // Wide enough that a few rows are shared too, and more rows than are rounded to bytes together.
  struct Shape {
    int64_t rows, n;
  };
  const int64_t k = 512;
  for (const TensorType type : kTypes)
    for (const auto &[rows, n] : {Shape{3, 1620}, {19, 212}, {530, 84}}) {
      if (rows == 530 && type != TensorType::Q4_K) continue;
      CAPTURE(std::string(tensor_layout(type)->name));
      CAPTURE(rows);
      const int64_t row = round_up(n, kPanel);
      WeightMatrix matrix;
      matrix.pieces.emplace_back();
      matrix.pieces[0].blocks = std::move(Tensor(type, k, n, 4).matrix);
      const std::vector<float> x = random_floats(rows * k, 5);
      for (const Compute compute : {Compute::F32, Compute::BF16, Compute::INT8}) {
        CAPTURE(static_cast<int>(compute));
        const auto product = [&, count = rows](int threads) {
          const ThreadScope team(pool, threads);
          std::vector<float> c(static_cast<size_t>(count * row));
          multiply(team, gemm, compute, {NumberType::F32, x.data(), k}, count, matrix, c.data(), row, false, true);
          return c;
        };
        const std::vector<float> one = product(1);
        for (const int threads : {2, 3}) {
          const int64_t before = eager.items_of_others();
          CHECK(product(threads) == one);
          CHECK(eager.items_of_others() > before);
        }
      }
    }
}

TEST_CASE(
    "a matrix in blocks gives the product of its floats: exactly rounded in f32, within a step of bytes in int8") {
  on_every_instruction_set([] {
    const Gemm gemm(GemmLibrary::NATIVE);
    for (const TensorType type : kTypes) {
      CAPTURE(std::string(tensor_layout(type)->name));
      const int64_t k = 512, n = 84, rows = 19, c_row = 128;
      Tensor tensor(type, k, n, 3);
      WeightMatrix matrix;
      matrix.pieces.emplace_back();
      const std::vector<float> x = random_floats(rows * k, 5);
      std::vector<double> expected(static_cast<size_t>(rows * n)), size(expected.size());
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < n; ++j)
          for (int64_t i = 0; i < k; ++i) {
            const double term = static_cast<double>(x[static_cast<size_t>(r * k + i)]) *
                                static_cast<double>(tensor.values[static_cast<size_t>(j * k + i)]);
            expected[static_cast<size_t>(r * n + j)] += term;
            size[static_cast<size_t>(r * n + j)] += std::abs(tensor.values[static_cast<size_t>(j * k + i)]);
          }
      matrix.pieces[0].blocks = std::move(tensor.matrix);
      for (const Compute compute : {Compute::F32, Compute::INT8}) {
        std::vector<float> c(static_cast<size_t>(rows * c_row));
        multiply(Threads(), gemm, compute, {NumberType::F32, x.data(), k}, rows, matrix, c.data(), c_row, false, true);
        // A byte is half a step of 4 / 127 from its float, at most: four deviations are a block's largest, nearly
        // always.
        const double step = compute == Compute::INT8 ? 0.5 * 4.5 / 127 : 1e-5;
        double worst = 0;
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t j = 0; j < n; ++j)
            worst = test::larger(
                worst, std::abs(c[static_cast<size_t>(r * c_row + j)] - expected[static_cast<size_t>(r * n + j)]) /
                           size[static_cast<size_t>(r * n + j)]);
        CHECK(worst < step);
        CHECK(worst > (compute == Compute::INT8 ? 1e-6 : -1.0));  // bytes were used
      }
    }
  });
}
