#include "gemm/solve.h"

#include <algorithm>
#include <cmath>

#include "base/buffer.h"
#include "kernels/doubles.h"

namespace infini {
namespace {

constexpr int64_t kBlock = 32;  // rows that are finished before those below them are updated
// Rows that are multiplied at once, of which no more than half a strip lies below the diagonal.
constexpr int64_t kStrip = 64;

// f(begin, count) for strips of the rows [begin, end).
template <class Function>
void each_strip(int64_t begin, int64_t end, const Function &f) {
  for (; begin < end; begin += kStrip) f(begin, std::min(kStrip, end - begin));
}

}  // namespace

// a = u^T u, where the upper triangle u overwrites a row by row. x is held by rows meanwhile, so that they go through
// the same steps as the rows of a.
bool solve_positive(int64_t n, int64_t columns, double *a, double *b) {
  Buffer<double> x(n * columns);
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t i = 0; i < n; ++i) x[i * columns + c] = b[c * n + i];

  // u^T y = b along with the factors.
  for (int64_t block = 0; block < n; block += kBlock) {
    const int64_t end = std::min(n, block + kBlock);
    // Subtracts what `depth` rows of u from `first` on add to a, and to b, in `rows` rows from `row` on.
    const auto take_from = [&](int64_t first, int64_t depth, int64_t row, int64_t rows) {
      const double *u = a + first * n + row;
      subtract_product(u, 1, n, rows, u, n, depth, n - row, a + row * n + row, n);
      subtract_product(u, 1, n, rows, x.data() + first * columns, columns, depth, columns, x.data() + row * columns,
                       columns);
    };
    for (int64_t k = block; k < end; ++k) {
      const double square = a[k * n + k];
      if (!(square > 0) || !std::isfinite(square)) return false;
      const double scale = 1 / std::sqrt(square);
      for (int64_t j = k; j < n; ++j) a[k * n + j] *= scale;
      for (int64_t c = 0; c < columns; ++c) x[k * columns + c] *= scale;
      if (k + 1 < end) take_from(k, 1, k + 1, end - k - 1);
    }
    each_strip(end, n, [&](int64_t row, int64_t rows) { take_from(block, end - block, row, rows); });
  }
  // u x = y, from below.
  for (int64_t end = n; end > 0;) {
    const int64_t block = (end - 1) / kBlock * kBlock;
    for (int64_t k = end - 1; k >= block; --k) {
      for (int64_t c = 0; c < columns; ++c) x[k * columns + c] /= a[k * n + k];
      subtract_product(a + block * n + k, n, 1, k - block, x.data() + k * columns, columns, 1, columns,
                       x.data() + block * columns, columns);
    }
    each_strip(0, block, [&](int64_t row, int64_t rows) {
      subtract_product(a + row * n + block, n, 1, rows, x.data() + block * columns, columns, end - block, columns,
                       x.data() + row * columns, columns);
    });
    end = block;
  }
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t i = 0; i < n; ++i) b[c * n + i] = x[i * columns + c];
  return std::all_of(b, b + n * columns, [](double value) { return std::isfinite(value); });
}

bool solve_ridge(int64_t n, int64_t columns, double ridge, double *a, double *b) {
  double trace = 0;
  for (int64_t i = 0; i < n; ++i) trace += a[i * (n + 1)];
  for (int64_t i = 0; i < n; ++i) a[i * (n + 1)] += ridge * trace / static_cast<double>(n);
  return solve_positive(n, columns, a, b);
}

}  // namespace infini
