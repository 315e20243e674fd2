// Small f32 matrices whose rows lie in panels of 64 columns (panel.h), which are both sides of our own products, or
// one dense row behind the other, which can be their left side and what they give.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/gradients.h"

namespace infini {

// Element (i, j) stands at data[j / 64 * rows * 64 + i * stride + j % 64].
template <class Number>
struct TileOf {
  Number *data;
  int64_t rows;             // of a panel: all that there is room for; 1 where rows are dense
  int64_t stride = kPanel;  // floats from a row to the next

  Number *panel(int64_t p) const { return data + p * panel_size(rows); }
  Number *row(int64_t p, int64_t r) const { return panel(p) + r * stride; }  // its columns in panel p
  bool dense() const { return rows == 1; }
  TileOf from(int64_t r) const { return {data + r * stride, rows, stride}; }  // its rows from r on
  operator TileOf<const Number>() const { return {data, rows, stride}; }
};
using Tile = TileOf<float>;
using ConstTile = TileOf<const float>;

inline int64_t tile_size(int64_t rows, int64_t columns) { return panel_count(columns) * panel_size(rows); }
template <class Number>
TileOf<Number> dense_tile(Number *data, int64_t width) {
  return {data, 1, width};
}

// f(panel, columns in it)
template <class Function>
void each_panel(int64_t columns, const Function &f) {
  for (int64_t p = 0; p * kPanel < columns; ++p) f(p, std::min<int64_t>(kPanel, columns - p * kPanel));
}
// The same for a tile's rows; those of a dense one are a single stretch.
template <class Function>
void each_stretch(const ConstTile &tile, int64_t columns, const Function &f) {
  if (tile.dense()) f(0, columns);
  else each_panel(columns, f);
}

inline void put_row(const Tile &tile, int64_t row, const float *values, int64_t columns) {
  each_panel(columns, [&](int64_t p, int64_t n) {
    std::memcpy(tile.row(p, row), values + p * kPanel, static_cast<size_t>(n) * sizeof(float));
  });
}
// to += scale * row
inline void add_row(const ConstTile &tile, int64_t row, float scale, int64_t columns, float *to) {
  each_stretch(tile, columns, [&](int64_t p, int64_t n) { add_scaled(tile.row(p, row), scale, n, to + p * kPanel); });
}
// row += scale * values
inline void add_to_row(const float *values, float scale, int64_t columns, const Tile &tile, int64_t row) {
  each_stretch(tile, columns,
               [&](int64_t p, int64_t n) { add_scaled(values + p * kPanel, scale, n, tile.row(p, row)); });
}
inline float dot_row(const ConstTile &tile, int64_t row, const float *values, int64_t columns) {
  float sum = 0;
  each_stretch(tile, columns, [&](int64_t p, int64_t n) { sum += dot(tile.row(p, row), values + p * kPanel, n); });
  return sum;
}
inline void clear_rows(const Tile &tile, int64_t rows, int64_t columns) {
  each_panel(columns, [&](int64_t p, int64_t) {
    std::memset(tile.panel(p), 0, static_cast<size_t>(panel_size(rows)) * sizeof(float));
  });
}

// c [rows, n] (+)= a b, where a [rows, k] has any strides and b [k, n].
inline void product(const float *a, int64_t a_row, int64_t a_column, int64_t rows, int64_t k, const ConstTile &b,
                    int64_t n, const Tile &c, bool accumulate) {
  each_panel(n, [&](int64_t p, int64_t columns) {
    panel_product(a, a_row, a_column, static_cast<int>(rows), b.panel(p), 0, k, 0, (columns + 15) / 16 * 16, c.panel(p),
                  c.stride, accumulate);
  });
}

// c [rows, n] (+)= a b, a [rows, k], b [k, n]; c has rows of `c_row` floats.
inline void product_to_rows(const ConstTile &a, int64_t rows, int64_t k, const ConstTile &b, int64_t n, float *c,
                            int64_t c_row, bool accumulate) {
  each_panel(k, [&](int64_t p, int64_t depth) {
    panel_product(a.panel(p), a.stride, 1, static_cast<int>(rows), b.data + panel_size(p * kPanel), panel_size(b.rows),
                  depth, 0, (n + 15) / 16 * 16, c, c_row, accumulate || p > 0);
  });
}
inline void product(const ConstTile &a, int64_t rows, int64_t k, const ConstTile &b, int64_t n, const Tile &c,
                    bool accumulate) {
  each_stretch(a, k, [&](int64_t p, int64_t depth) {
    product(a.panel(p), a.stride, 1, rows, depth, {b.data + panel_size(p * kPanel), b.rows}, n, c, accumulate || p > 0);
  });
}

// c [m, n] (+)= a^T b, a [rows, m], b [rows, n].
inline void product_transposed(const ConstTile &a, int64_t rows, int64_t m, const ConstTile &b, int64_t n,
                               const Tile &c, bool accumulate) {
  each_stretch(a, m, [&](int64_t p, int64_t columns) {
    product(a.panel(p), 1, a.stride, columns, rows, b, n, {c.data + panel_size(p * kPanel), c.rows}, accumulate);
  });
}

// to [columns, rows] = a^T, of which `rows` rows are used; to.rows is at least `columns`.
inline void transpose(const ConstTile &a, int64_t rows, int64_t columns, const Tile &to) {
  each_panel(columns, [&](int64_t p, int64_t n) {
    pack_columns(a.panel(p), a.stride, n, rows, to.data + panel_size(p * kPanel), panel_size(to.rows));
  });
}

}  // namespace infini
