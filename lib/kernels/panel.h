// How a matrix B [k, n] lies in memory for every product here and in oneDNN: panels of 64 columns,
//   f32:  [n / 64][k_padded][64]          bf16: [n / 64][k_padded / 2][64][2]
//   int8: [n / 64][k_padded / 4][64][4], which our own kernels alone read (kernels/int8_panel.h)
// Padding (n to 64, k to 16, 32 or 4) is zero. oneDNN calls the first two BA16a64b and BA16a64b2a. Sizes and places are
// known to this file alone; kernels walk from row to row of a panel, and the references in scalar.h have formulas of
// their own, against which this one is tested.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/number.h"

namespace infini {

constexpr int kPanel = 64;

constexpr int64_t panel_count(int64_t columns) { return (columns + kPanel - 1) / kPanel; }
// Rows of a panel of k rows as oneDNN wants it: k rounded up.
constexpr int64_t padded_k(NumberType type, int64_t k) {
  const int64_t whole = type == NumberType::F32 ? 16 : type == NumberType::BF16 ? 32 : 4;
  return (k + whole - 1) / whole * whole;
}
// Of a panel of `rows` rows, an even number in bf16: elements, which is the stride of panels with nothing between them.
constexpr int64_t panel_size(int64_t rows) { return rows * kPanel; }
constexpr int64_t panel_bytes(NumberType type, int64_t rows) { return panel_size(rows) * bytes_of(type); }

// From the beginning of a panel to its row i, column j, in elements: rows of bf16 lie in pairs, of int8 in fours.
template <class Number>
constexpr int64_t panel_offset(int64_t i, int64_t j) {
  constexpr int64_t kTogether = 4 / sizeof(Number);
  return i / kTogether * (kTogether * kPanel) + kTogether * j + i % kTogether;
}
// To the panel that holds column j, where panels are `stride` apart.
constexpr int64_t panel_begin(int64_t j, int64_t stride) { return j / kPanel * stride; }
// Element (i, j) of the matrix.
template <class Number>
Number *panel_element(Number *panels, int64_t stride, int64_t i, int64_t j) {
  return panels + panel_begin(j, stride) + panel_offset<Number>(i, j % kPanel);
}

// By bytes, panels of all types are alike: rows of 64 cells of 4. A cell of a column is a number of f32, two of bf16 or
// four of int8 that follow each other; the last ones of a column may share their cell with zeros.
constexpr int64_t kCell = 4, kCellRow = kPanel * kCell;
constexpr int64_t cells_of(NumberType type, int64_t rows) { return (rows * bytes_of(type) + kCell - 1) / kCell; }
// Zeros in columns [begin, end) of a panel.
inline void clear_columns(NumberType type, void *panel, int64_t rows, int64_t begin, int64_t end) {
  for (int64_t i = 0; i < cells_of(type, rows); ++i)
    std::memset(static_cast<char *>(panel) + i * kCellRow + begin * kCell, 0,
                static_cast<size_t>((end - begin) * kCell));
}

}  // namespace infini
