#include "train/matrix_products.h"

#include <algorithm>
#include <cstring>

#include "kernels/gradients.h"

namespace infini {
namespace {

constexpr int64_t kUnpacked = 1 << 22;  // numbers that are unpacked at a time: 16 MiB of f32
constexpr int64_t kTileColumns = 512;   // of a tile of 64 rows, which the cache holds: whole blocks of every type

// Columns [first, first + columns) of rows [begin, end), as floats, in rows of kTileColumns.
void unpack_tile(const std::vector<TensorPart> &parts, int64_t begin, int64_t end, int64_t first, int64_t columns,
                 float *to) {
  for (const TensorPart &part : parts) {
    const GgufTensor &tensor = *part.tensor;
    const TensorLayout &layout = *tensor_layout(tensor.type);
    for (int64_t row = std::max<int64_t>(begin, 0); row < std::min(end, part.rows); ++row)
      unpack(tensor.type, tensor.data.data() + (part.first + row) * layout.bytes(tensor.shape[0]) + layout.bytes(first),
             columns, to + (row - begin) * kTileColumns);
    begin -= part.rows, end -= part.rows;
  }
}

}  // namespace

MatrixProducts::MatrixProducts(NumberType type, int64_t inputs, int64_t outputs, bool backward)
    : forward_(type, inputs, outputs), backward_(backward ? PackedMatrix(type, outputs, inputs) : PackedMatrix()),
      inputs_(inputs), outputs_(outputs) {}

MatrixProducts::MatrixProducts(std::vector<TensorPart> parts, int64_t inputs)
    : parts_(std::move(parts)), inputs_(inputs) {
  for (const TensorPart &part : parts_) outputs_ += part.rows;
}

void MatrixProducts::pack(const Threads &threads, const float *numbers) {
  if (is_frozen()) return;
  forward_.pack(threads, numbers, inputs_, false);
  if (backward_.n() > 0) backward_.pack(threads, numbers, inputs_, true);
}

// Rows [begin, end) of a frozen matrix, packed in `data` as the columns of a matrix or, `by_rows`, as its rows.
Panels MatrixProducts::unpack(const Threads &threads, const Gemm &gemm, NumberType type, bool by_rows, int64_t begin,
                              int64_t end, char *data) const {
  const int64_t k = by_rows ? end - begin : inputs_, n = by_rows ? inputs_ : end - begin,
                stride = panel_size(padded_k(type, k));
  const int64_t across = (inputs_ + kTileColumns - 1) / kTileColumns, tiles = panel_count(end - begin) * across;
  parallel_for(threads, tiles, worth_grain(4 * kPanel * kTileColumns), [&](int64_t from, int64_t last) {
    ScratchPool::Loan loan(gemm.scratch(), kPanel * kTileColumns * bytes_of(NumberType::F32));
    auto *const tile = loan.at<float>();
    for (int64_t i = from; i < last; ++i) {
      const int64_t row = i / across * kPanel, column = i % across * kTileColumns;
      const int64_t rows = std::min<int64_t>(kPanel, end - begin - row),
                    columns = std::min(kTileColumns, inputs_ - column);
      unpack_tile(parts_, begin + row, begin + row + rows, column, columns, tile);
      const int64_t at =
          by_rows ? panel_begin(column, stride) + panel_size(row) : panel_begin(row, stride) + panel_size(column);
      as_numbers(type, data, at, [&](auto *to) {
        if (by_rows) pack_rows(tile, kTileColumns, rows, columns, to, stride);
        else pack_columns(tile, kTileColumns, columns, rows, to, stride);
      });
    }
  });
  const int64_t filled = cells_of(type, k) * kCellRow, all = stride * bytes_of(type);
  for (int64_t panel = 0; filled < all && panel < panel_count(n); ++panel)
    std::memset(data + panel * all + filled, 0, static_cast<size_t>(all - filled));
  return {type, data, k, n, stride};
}

// f(first row, panels) for one piece of a frozen matrix after the other.
template <class F>
void MatrixProducts::each_piece(const Threads &threads, const Gemm &gemm, NumberType type, bool by_rows,
                                const F &f) const {
  const int64_t size = by_rows ? round_up(inputs_, kPanel) : padded_k(type, inputs_),
                piece = std::min(panel_count(outputs_), std::max<int64_t>(1, kUnpacked / panel_size(size))) * kPanel;
  ScratchPool::Loan loan(gemm.scratch(), piece * size * bytes_of(type));
  for (int64_t first = 0; first < outputs_; first += piece)
    f(first, unpack(threads, gemm, type, by_rows, first, std::min(outputs_, first + piece), loan.at<char>()));
}

void MatrixProducts::forward(const Threads &threads, const Gemm &gemm, const ConstRows &x, int64_t rows, float *y,
                             int64_t y_row, bool accumulate) const {
  if (!is_frozen()) return gemm.multiply(threads, x, rows, forward_.panels(), y, y_row, accumulate);
  each_piece(threads, gemm, x.type, false, [&](int64_t first, const Panels &panels) {
    gemm.multiply(threads, x, rows, panels, y + first, y_row, accumulate);
  });
}

void MatrixProducts::backward(const Threads &threads, const Gemm &gemm, const ConstRows &dy, int64_t rows, float *dx,
                              int64_t dx_row, bool accumulate) const {
  if (!is_frozen()) return gemm.multiply(threads, dy, rows, backward_.panels(), dx, dx_row, accumulate);
  each_piece(threads, gemm, dy.type, true, [&](int64_t first, const Panels &panels) {
    gemm.multiply(threads, without(first, dy), rows, panels, dx, dx_row, accumulate || first > 0);
  });
}

}  // namespace infini
