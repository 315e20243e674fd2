// doubles.h for every instruction set: this file includes itself once for each (Highway's foreach_target).
#include "kernels/doubles.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/doubles.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace infini {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D64 = hn::ScalableTag<double>;

// What is multiplied at once is copied, so that rows far apart, or at distances that a cache does not like, are next to
// each other: rows of a, kStrip at a time, and two vectors of columns of b, both along kDepth.
constexpr int64_t kStrip = 64, kDepth = 32, kMostWidth = 2 * HWY_MAX_BYTES / static_cast<int64_t>(sizeof(double));

// kRows rows of two vectors of columns: c -= a b, where rows of `a` are columns here.
template <int kRows>
HWY_INLINE void Tile(const double *a, const double *b, int64_t depth, double *c, int64_t c_row) {
  const D64 d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<D64> sums[kRows][2];
  for (int i = 0; i < kRows; ++i)
    for (int j = 0; j < 2; ++j) sums[i][j] = hn::LoadU(d, c + i * c_row + j * lanes);
  for (int64_t k = 0; k < depth; ++k, a += kStrip, b += 2 * lanes) {
    const auto b0 = hn::Load(d, b), b1 = hn::Load(d, b + lanes);
    for (int i = 0; i < kRows; ++i) {
      const auto factor = hn::Set(d, a[i]);
      sums[i][0] = hn::NegMulAdd(factor, b0, sums[i][0]);
      sums[i][1] = hn::NegMulAdd(factor, b1, sums[i][1]);
    }
  }
  for (int i = 0; i < kRows; ++i)
    for (int j = 0; j < 2; ++j) hn::StoreU(sums[i][j], d, c + i * c_row + j * lanes);
}

void SubtractProduct(const double *a, int64_t a_row, int64_t a_column, int64_t rows, const double *b, int64_t b_row,
                     int64_t depth, int64_t columns, double *c, int64_t c_row) {
  const int64_t width = 2 * static_cast<int64_t>(hn::Lanes(D64()));
  HWY_ALIGN double left[kDepth * kStrip], right[kDepth * kMostWidth], edge[4 * kMostWidth] = {};
  for (; depth > 0; depth -= kDepth, a += kDepth * a_column, b += kDepth * b_row) {
    const int64_t deep = depth < kDepth ? depth : kDepth;
    for (int64_t first = 0; first < rows; first += kStrip) {
      const int64_t some = rows - first < kStrip ? rows - first : kStrip;
      for (int64_t k = 0; k < deep; ++k)
        for (int64_t i = 0; i < some; ++i) left[k * kStrip + i] = a[(first + i) * a_row + k * a_column];
      for (int64_t j = 0; j < columns; j += width) {
        const int64_t wide = columns - j < width ? columns - j : width;
        for (int64_t k = 0; k < deep; ++k)
          for (int64_t lane = 0; lane < width; ++lane)
            right[k * width + lane] = lane < wide ? b[k * b_row + j + lane] : 0;
        for (int64_t i = 0; i < some;) {
          const int64_t count = some - i < 4 ? 1 : 4;
          double *const at = c + (first + i) * c_row + j, *const to = wide == width ? at : edge;
          const int64_t to_row = wide == width ? c_row : width;
          for (int64_t r = 0; to == edge && r < count; ++r) std::copy_n(at + r * c_row, wide, edge + r * width);
          if (count == 4) Tile<4>(left + i, right, deep, to, to_row);
          else Tile<1>(left + i, right, deep, to, to_row);
          for (int64_t r = 0; to == edge && r < count; ++r) std::copy_n(edge + r * width, wide, at + r * c_row);
          i += count;
        }
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace infini
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace infini {

HWY_EXPORT(SubtractProduct);

void subtract_product(const double *a, int64_t a_row, int64_t a_column, int64_t rows, const double *b, int64_t b_row,
                      int64_t depth, int64_t columns, double *c, int64_t c_row) {
  HWY_DYNAMIC_DISPATCH(SubtractProduct)(a, a_row, a_column, rows, b, b_row, depth, columns, c, c_row);
}

}  // namespace infini
#endif  // HWY_ONCE
