// Sizes and loops over rows that the files of graph.h share, and the optimizer.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/buffer.h"
#include "base/parallel.h"
#include "gemm/gemm.h"
#include "kernels/gradients.h"

namespace infini {

constexpr int64_t kChunk = 1024;     // rows that go through the feed-forward together
constexpr int64_t kPiece = 256;      // of those, rows that go from one product to the next while they are in the cache
constexpr int64_t kNormPieces = 16;  // sums of a norm's gradient, added in order on any number of threads

// Rows of element-wise work on `columns` numbers below which a loop stays serial.
inline int64_t row_grain(int64_t columns) { return worth_grain(10 * columns); }

// Rows of a batch: those listed, or, without a list, all from `first` on.
struct BatchRows {
  int64_t first, count;
  const int64_t *list = nullptr;
  int64_t operator[](int64_t r) const { return list ? list[r] : first + r; }
};

// Rows as a product of `type` takes them: f32 ones as they are, else rounded to bf16 in `to`.
inline ConstRows narrowed(const Threads &threads, NumberType type, const float *values, int64_t stride, int64_t columns,
                          int64_t rows, Buffer<char> &to) {
  if (type == NumberType::F32) return {type, values, stride};
  to.reserve(rows * columns * bytes_of(type));
  auto *out = reinterpret_cast<uint16_t *>(to.data());
  parallel_for(threads, rows, row_grain(columns), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) narrow(values + r * stride, columns, out + r * columns);
  });
  return {type, out, columns};
}

// f(begin, count) for every kPiece of `rows` rows.
template <class F>
void each_piece(int64_t rows, const F &f) {
  for (int64_t begin = 0; begin < rows; begin += kPiece) f(begin, std::min(kPiece, rows - begin));
}

}  // namespace infini
