// Small f32 matrices in panels of 64 columns (kernels.h), which are both sides of our own products: element (i, j)
// stands at (j / 64) * rows * 64 + i * 64 + j % 64.
#pragma once

#include <algorithm>
#include <cstring>

#include "base/buffer.h"
#include "kernels/gradients.h"

namespace infini {

struct Tile {
  float *data;
  int64_t rows;  // of a panel: all that there is room for

  static int64_t size(int64_t rows, int64_t columns) { return rows * round_up(columns, kPanel); }
  float *panel(int64_t p) const { return data + p * rows * kPanel; }
};

// f(panel, columns in it)
template <class Function>
void each_panel(int64_t columns, const Function &f) {
  for (int64_t p = 0; p * kPanel < columns; ++p) f(p, std::min<int64_t>(kPanel, columns - p * kPanel));
}

inline void put_row(const Tile &tile, int64_t row, const float *values, int64_t columns) {
  each_panel(columns, [&](int64_t p, int64_t n) {
    std::memcpy(tile.panel(p) + row * kPanel, values + p * kPanel, static_cast<size_t>(n) * sizeof(float));
  });
}
// to += or = scale * row
inline void add_row(const Tile &tile, int64_t row, float scale, int64_t columns, float *to) {
  each_panel(columns,
             [&](int64_t p, int64_t n) { add_scaled(tile.panel(p) + row * kPanel, scale, n, to + p * kPanel); });
}
inline float dot_row(const Tile &tile, int64_t row, const float *values, int64_t columns) {
  float sum = 0;
  each_panel(columns, [&](int64_t p, int64_t n) { sum += dot(tile.panel(p) + row * kPanel, values + p * kPanel, n); });
  return sum;
}
inline void clear_rows(const Tile &tile, int64_t rows, int64_t columns) {
  each_panel(columns, [&](int64_t p, int64_t) {
    std::memset(tile.panel(p), 0, static_cast<size_t>(rows * kPanel) * sizeof(float));
  });
}

// c [rows, n] (+)= a b, where a [rows, k] has any strides and b [k, n].
inline void product(const float *a, int64_t a_row, int64_t a_column, int64_t rows, int64_t k, const Tile &b, int64_t n,
                    const Tile &c, bool accumulate) {
  each_panel(n, [&](int64_t p, int64_t columns) {
    panel_product(a, a_row, a_column, static_cast<int>(rows), b.panel(p), 0, k, 0, round_up(columns, 16), c.panel(p),
                  kPanel, accumulate);
  });
}

// c [rows, n] (+)= a b, a [rows, k], b [k, n]; c has rows of `c_row` floats.
inline void product_to_rows(const Tile &a, int64_t rows, int64_t k, const Tile &b, int64_t n, float *c, int64_t c_row,
                            bool accumulate) {
  each_panel(k, [&](int64_t p, int64_t depth) {
    panel_product(a.panel(p), kPanel, 1, static_cast<int>(rows), b.data + p * kPanel * kPanel, b.rows * kPanel, depth,
                  0, round_up(n, 16), c, c_row, accumulate || p > 0);
  });
}
inline void product(const Tile &a, int64_t rows, int64_t k, const Tile &b, int64_t n, const Tile &c, bool accumulate) {
  each_panel(k, [&](int64_t p, int64_t depth) {
    product(a.panel(p), kPanel, 1, rows, depth, {b.data + p * kPanel * kPanel, b.rows}, n, c, accumulate || p > 0);
  });
}

// c [m, n] (+)= a^T b, a [rows, m], b [rows, n].
inline void product_transposed(const Tile &a, int64_t rows, int64_t m, const Tile &b, int64_t n, const Tile &c,
                               bool accumulate) {
  each_panel(m, [&](int64_t p, int64_t columns) {
    product(a.panel(p), 1, kPanel, columns, rows, b, n, {c.data + p * kPanel * kPanel, c.rows}, accumulate);
  });
}

// to [columns, rows] = a^T, of which `rows` rows are used; to.rows is at least `columns`.
inline void transpose(const Tile &a, int64_t rows, int64_t columns, const Tile &to) {
  each_panel(columns, [&](int64_t p, int64_t n) {
    pack_columns(a.panel(p), kPanel, n, rows, to.data + p * kPanel * kPanel, to.rows * kPanel);
  });
}

}  // namespace infini
