// Sizes, and loops over rows, that the files of graph.h and the optimizer share.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/buffer.h"
#include "base/parallel.h"
#include "gemm/gemm.h"
#include "kernels/gradients.h"

namespace infini {

constexpr int64_t kFeedForwardRows = 1024;  // rows that go through the feed-forward together
constexpr int64_t kCacheRows = 256;  // of those, rows that go from one product to the next while they are in the cache
constexpr int64_t kSumPieces = 16;   // partial sums of a vector's gradient, added in order on any number of threads

// Rows of element-wise work on `columns` numbers below which a loop stays serial.
inline int64_t row_grain(int64_t columns) { return worth_grain(10 * columns); }

// From element `first` of a buffer on; null where the buffer was not needed.
inline float *begin_at(Buffer<float> &buffer, int64_t first) { return buffer.data() ? buffer.data() + first : nullptr; }

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

// Gradients of vectors (norms, biases), which are sums over rows.
class RowSums {
 public:
  void reserve(int64_t columns) {  // at most
    stride_ = round_up(2 * columns, 16);
    numbers_.reserve(kSumPieces * stride_);
  }
  // to [columns] += factor * the sum over rows of what f(row, sums) adds to sums [columns]. The `columns` numbers after
  // `sums` are free for f. Without `to` f is called all the same.
  template <class F>
  void add(const Threads &threads, int64_t rows, int64_t columns, float factor, float *to, const F &f) {
    parallel_items(threads, kSumPieces, rows * columns * 10, [&](int64_t piece) {
      float *const sums = numbers_.data() + piece * stride_;
      std::fill_n(sums, columns, 0.0f);
      for (int64_t r = rows * piece / kSumPieces; r < rows * (piece + 1) / kSumPieces; ++r) f(r, sums);
    });
    for (int64_t piece = 0; to && piece < kSumPieces; ++piece)
      add_scaled(numbers_.data() + piece * stride_, factor, columns, to);
  }
  int64_t bytes() const { return static_cast<int64_t>(numbers_.bytes()); }

 private:
  Buffer<float> numbers_;  // [kSumPieces][stride_]
  int64_t stride_ = 0;
};

// f(begin, count) for every `piece` of `rows` rows.
template <class F>
void each_piece(int64_t rows, int64_t piece, const F &f) {
  for (int64_t begin = 0; begin < rows; begin += piece) f(begin, std::min(piece, rows - begin));
}

}  // namespace infini
