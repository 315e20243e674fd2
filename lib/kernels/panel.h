// How a matrix B [k, n] lies in memory for every product here and in oneDNN: panels of 64 columns,
//   f32:  [n / 64][k_padded][64]          bf16: [n / 64][k_padded / 2][64][2]
// Padding (n to 64, k to 16 or 32) is zero. oneDNN calls these layouts BA16a64b and BA16a64b2a. Whoever reads or writes
// single elements does it through this file; kernels walk from row to row of a panel, and the references in scalar.h
// have formulas of their own, against which this one is tested.
#pragma once

#include <cstdint>

namespace infini {

constexpr int kPanel = 64;

// From the beginning of a panel to its row i, column j, in elements: rows of bf16 lie in pairs.
template <class Number>
constexpr int64_t panel_offset(int64_t i, int64_t j) {
  if constexpr (sizeof(Number) == 4) return i * kPanel + j;
  else return i / 2 * (2 * kPanel) + 2 * j + i % 2;
}
// To the panel that holds column j, where panels are `stride` apart.
constexpr int64_t panel_begin(int64_t j, int64_t stride) { return j / kPanel * stride; }
// Element (i, j) of the matrix.
template <class Number>
Number *panel_element(Number *panels, int64_t stride, int64_t i, int64_t j) {
  return panels + panel_begin(j, stride) + panel_offset<Number>(i, j % kPanel);
}

}  // namespace infini
