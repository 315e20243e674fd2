#include "gemm/weight_matrix.h"

#include <algorithm>
#include <optional>

namespace infini {
namespace {

// Rows [rows, k] as f32 or bf16: as they are, or converted into memory that is lent for it.
class TypedRows {
 public:
  TypedRows(const Threads &threads, const Gemm &gemm, const ConstRows &a, int64_t rows, int64_t k, NumberType type)
      : rows_(a) {
    if (a.type == type) return;
    char *const made = loan_.emplace(gemm.scratch(), rows * k * bytes_of(type)).at<char>();
    parallel_for(threads, rows, worth_grain(k), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        char *const to = made + r * k * bytes_of(type);
        if (type == NumberType::F32) widen(a.bf16() + r * a.stride, k, reinterpret_cast<float *>(to));
        else narrow(a.f32() + r * a.stride, k, reinterpret_cast<uint16_t *>(to));
      }
    });
    rows_ = {type, made, k};
  }
  const ConstRows &rows() const { return rows_; }

 private:
  ConstRows rows_;
  std::optional<ScratchPool::Loan> loan_;
};

// Rows rounded to bytes, a group of rows at a time, so that what they take stays small.
constexpr int64_t kGroupRows = 512;

void product_of_bytes(const Threads &threads, const Gemm &gemm, const ConstRows &a, int64_t rows, const BlockMatrix &b,
                      float *c, int64_t c_row, bool accumulate) {
  const int group = rows <= kFewRows ? 1 : kRowGroup;
  ScratchPool::Loan loan(gemm.scratch(), block_rows_bytes(b.type(), b.k(), std::min(kGroupRows, rows), group));
  auto *const bytes = loan.at<uint8_t>();
  for (int64_t first = 0; first < rows; first += kGroupRows) {
    const int64_t count = std::min(kGroupRows, rows - first);
    const TypedRows typed(threads, gemm, a.from(first), count, b.k(), NumberType::F32);
    const ConstRows &x = typed.rows();
    parallel_for(threads, count, worth_grain(8 * b.k()), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) quantize_row(b.type(), x.f32() + r * x.stride, b.k(), r, group, bytes);
    });
    const int64_t strips = round_up(b.n(), kStrip) / kStrip;
    const int64_t grain =
        std::max<int64_t>(1, 131072 / (strip_bytes(b.type(), b.k()) * std::max<int64_t>(1, count / 4)));
    parallel_for(threads, strips, grain, [&](int64_t begin, int64_t end) {
      block_product(b.type(), {bytes, group}, count, b.strip_of(0), b.k(), begin * kStrip,
                    std::min(b.n(), end * kStrip), c + first * c_row, c_row, accumulate);
    });
  }
}

// Panel by panel, each unpacked into memory of its thread.
void product_of_floats(const Threads &threads, const Gemm &gemm, const ConstRows &a, int64_t rows, const BlockMatrix &b,
                       float *c, int64_t c_row, bool accumulate, bool exact) {
  constexpr int64_t kStrips = kPanel / kStrip;
  const int64_t unit = spec_of(b.type()).unit(), depth = round_up(b.k(), unit);
  parallel_items(threads, panel_count(b.n()), rows * b.k() * b.n(), [&](int64_t panel, const Threads &here) {
    ScratchPool::Loan loan(gemm.scratch(), panel_bytes(a.type, depth));  // whole units
    const int64_t columns = std::min<int64_t>(kPanel, b.n() - panel * kPanel);
    const auto into = [&](auto *unpacked) {
      for (int64_t i = 0; i < kStrips; ++i) {
        if (i * kStrip < columns)
          unpack_strip(b.type(), b.strip_of(panel * kPanel + i * kStrip), 0, depth,
                       panel_element(unpacked, 0, 0, i * kStrip));
        else clear_columns(a.type, unpacked, depth, i * kStrip, (i + 1) * kStrip);
      }
      gemm.multiply(here, a, rows, {a.type, unpacked, b.k(), columns, panel_size(depth)}, c + panel * kPanel, c_row,
                    accumulate, exact);
    };
    as_numbers(a.type, loan.at<char>(), 0, into);
  });
}

}  // namespace

void multiply(const Threads &threads, const Gemm &gemm, Compute compute, const ConstRows &a, int64_t rows,
              const WeightMatrix &b, float *c, int64_t c_row, bool accumulate, bool exact) {
  for (const WeightMatrix::Piece &piece : b.pieces) {
    float *const to = c + piece.first;
    if (!piece.in_blocks()) {
      const Panels panels = piece.floats.panels();
      const TypedRows typed(threads, gemm, a, rows, panels.k, panels.type);
      gemm.multiply(threads, typed.rows(), rows, panels, to, c_row, accumulate, exact);
    } else if (compute == Compute::INT8) {
      product_of_bytes(threads, gemm, a, rows, piece.blocks, to, c_row, accumulate);
    } else {
      const TypedRows typed(threads, gemm, a, rows, piece.blocks.k(), rows_for(compute));
      product_of_floats(threads, gemm, typed.rows(), rows, piece.blocks, to, c_row, accumulate, exact);
    }
  }
  if (!b.low_rank) return;
  const Panels down = b.low_rank.down.panels(), up = b.low_rank.up.panels();
  const int64_t stride = round_up(down.n, kPanel);
  ScratchPool::Loan loan(gemm.scratch(), rows * stride * bytes_of(NumberType::F32));
  auto *const inner = loan.at<float>();
  const TypedRows typed(threads, gemm, a, rows, down.k, down.type);
  gemm.multiply(threads, typed.rows(), rows, down, inner, stride, false, exact);
  gemm.multiply(threads, {NumberType::F32, inner, stride}, rows, up, c, c_row, true, exact);
}

}  // namespace infini
