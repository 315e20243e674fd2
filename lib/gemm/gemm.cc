#include "gemm/gemm.h"

#include <atomic>

#include "base/status.h"
#include "base/number.h"
#include "base/testing.h"
#include "gemm/onednn.h"
#include "gemm/openblas.h"
#include "kernels/bf16_dot.h"
#include "kernels/gradients.h"
#include "kernels/int8_panel.h"

namespace infini {

PackedMatrix::PackedMatrix(NumberType type, int64_t k, int64_t n)
    : type_(type), k_(k), n_(n), data_(panel_count(n) * panel_bytes(type, padded_k(type, k))) {}

void PackedMatrix::set_panel(int64_t panel, const float *from, int64_t stride, int64_t columns) {
  as_numbers(type_, data_.data(), panel_begin(panel * kPanel, this->stride()),
             [&](auto *to) { pack_columns(from, stride, k_, columns, to, this->stride()); });
}

void PackedMatrix::pack(const Threads &threads, const float *from, int64_t stride, bool by_rows) {
  parallel_for(threads, panel_count(n_), worth_grain(4 * panel_size(k_)), [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kPanel, columns = std::min(n_, end * kPanel) - first;
    const float *part = from + first * (by_rows ? 1 : stride);
    as_numbers(type_, data_.data(), panel_begin(first, this->stride()), [&](auto *to) {
      if (by_rows) pack_rows(part, stride, k_, columns, to, this->stride());
      else pack_columns(part, stride, k_, columns, to, this->stride());
    });
  });
}

float PackedMatrix::at(int64_t i, int64_t j) const {
  const Panels all = panels();
  return type_ == NumberType::F32 ? *panel_element(all.panel_of<float>(0), all.stride, i, j)
                                  : bf16_to_float(*panel_element(all.panel_of<uint16_t>(0), all.stride, i, j));
}

namespace {

std::atomic<unsigned> g_ways{0};
unsigned bit_of(ProductWay way) { return 1u << static_cast<unsigned>(way); }
void go(ProductWay way) {
  if (!has_gone(way)) g_ways.fetch_or(bit_of(way), std::memory_order_relaxed);
}

// Our own kernel, one thread: columns [begin, end) of C, multiples of 16.
template <class Number>
void native_part(const ConstRows &a, int64_t rows, const Panels &b, int64_t begin, int64_t end, float *c, int64_t c_row,
                 bool accumulate) {
  const auto *panels = static_cast<const Number *>(b.data);
  if (a.type == NumberType::F32) {
    panel_product(a.f32(), a.stride, 1, static_cast<int>(rows), panels, b.stride, b.k, begin, end, c, c_row,
                  accumulate);
    return;
  }
  // Rows are widened on the stack, as many as share what is read of B, along pieces of k.
  constexpr int64_t kWide = 16384;
  float wide[kWide];
  const int64_t together = product_rows();
  for (int64_t r = 0; r < rows; r += together) {
    const int64_t count = std::min(together, rows - r), most = kWide / count / 4 * 4;
    for (int64_t i = 0; i < b.k; i += most) {
      const int64_t depth = std::min(most, b.k - i);
      for (int64_t row = 0; row < count; ++row) widen(a.bf16() + (r + row) * a.stride + i, depth, wide + row * depth);
      panel_product(wide, depth, 1, static_cast<int>(count), panel_element(panels, b.stride, i, 0), b.stride, depth,
                    begin, end, c + r * c_row, c_row, accumulate || i > 0);
    }
  }
}
void native_part(const ConstRows &a, int64_t rows, const Panels &b, int64_t begin, int64_t end, float *c, int64_t c_row,
                 bool accumulate) {
  const auto part = b.type == NumberType::F32    ? native_part<float>
                    : b.type == NumberType::BF16 ? native_part<uint16_t>
                                                 : native_part<int8_t>;
  part(a, rows, b, begin, end, c, c_row, accumulate);
}

// f(begin, end) for columns of B, which the threads share.
template <class Function>
void each_columns(const Threads &threads, int64_t rows, const Panels &b, const Function &f) {
  // Units of 16 columns, so that few panels still divide evenly; below some 128 KB of weights a thread, the loop
  // stays serial.
  const int64_t units = panel_count(b.n) * kPanel / 16;
  const int64_t grain = std::max<int64_t>(1, 131072 / (16 * b.k * bytes_of(b.type) * std::max<int64_t>(1, rows / 4)));
  parallel_for(threads, units, grain, [&](int64_t begin, int64_t end) { f(begin * 16, end * 16); });
}

void native_product(const Threads &threads, const ConstRows &a, int64_t rows, const Panels &b, float *c, int64_t c_row,
                    bool accumulate) {
  each_columns(threads, rows, b,
               [&](int64_t begin, int64_t end) { native_part(a, rows, b, begin, end, c, c_row, accumulate); });
}

// The same for bf16, by the processor's dot products of it.
void dot_product(const Threads &threads, const ConstRows &a, int64_t rows, const Panels &b, float *c, int64_t c_row,
                 bool accumulate) {
  each_columns(threads, rows, b, [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < rows; r += kDotRows)
      panel_dot(a.bf16() + r * a.stride, a.stride, static_cast<int>(std::min<int64_t>(kDotRows, rows - r)),
                static_cast<const uint16_t *>(b.data), b.stride, b.k, begin, end, c + r * c_row, c_row, accumulate);
  });
}

// OpenBLAS, panel by panel.
void openblas_panels(const ConstRows &a, int64_t rows, const Panels &b, float *c, int64_t c_row, bool accumulate) {
  for (int64_t j = 0; j < b.n; j += kPanel)
    openblas_product(false, rows, std::min<int64_t>(kPanel, b.n - j), b.k, a.f32(), a.stride, b.panel_of<float>(j),
                     kPanel, accumulate, c + j, c_row);
}

// oneDNN on the calling thread, in pieces of a few sizes for which it has kernels; the last few rows by our own.
void onednn_product(const OneDnn &onednn, ScratchPool &scratch, const ConstRows &a, int64_t rows, const Panels &b,
                    float *c, int64_t c_row, bool accumulate) {
  constexpr int64_t kSizes[] = {512, 384, 256, 192, 128,
                                96,  64,  32,  16,  8};  // any number of rows is a sum of these and a few
  int64_t row = 0;
  for (const int64_t size : kSizes) {
    while (rows - row >= size && onednn.multiply(scratch, a.from(row), size, b, c + row * c_row, c_row, accumulate))
      row += size;
  }
  if (row > 0) go(ProductWay::ONEDNN);
  if (row == rows) return;
  if (b.n % 16 == 0) {
    native_part(a.from(row), rows - row, b, 0, b.n, c + row * c_row, c_row, accumulate);
    return;
  }
  // Our kernel writes whole vectors, for which dense rows of an odd length have no room.
  const int64_t padded = round_up(b.n, kPanel);
  ScratchPool::Loan loan(scratch, padded * (rows - row) * int64_t{sizeof(float)});
  float *const wide = loan.at<float>();
  native_part(a.from(row), rows - row, b, 0, padded, wide, padded, false);
  for (int64_t r = 0; r < rows - row; ++r) {
    float *to = c + (row + r) * c_row;
    for (int64_t j = 0; j < b.n; ++j) to[j] = wide[r * padded + j] + (accumulate ? to[j] : 0);
  }
}

// bf16 where the processor has no fast products of it: f32 ones of pieces that are widened as they are needed and stay
// in the cache. On the calling thread, in pieces of at most 1 MiB where k is at most 4,096.
void widened_product(const OneDnn &onednn, ScratchPool &scratch, const ConstRows &a, int64_t rows, const Panels &b,
                     float *c, int64_t c_row, bool accumulate) {
  const int64_t depth = padded_k(NumberType::BF16, b.k), pairs = round_up(b.k, 2);
  const int64_t piece = std::clamp<int64_t>(150000 / depth / 16 * 16, 64, 256);          // rows of A
  const int64_t group = kPanel * std::clamp<int64_t>(100000 / panel_size(depth), 1, 8);  // columns of B
  ScratchPool::Loan loan(scratch, ((piece + group) * depth + piece * group) * int64_t{sizeof(float)});
  float *const wide_b = loan.at<float>(), *const wide_a = wide_b + group * depth, *const sums = wide_a + piece * depth;
  if (pairs < depth) std::fill(wide_b, wide_a, 0.0f);
  for (int64_t row = 0; row < rows; row += piece) {
    const int64_t count = std::min(piece, rows - row);
    for (int64_t r = 0; r < count; ++r) widen(a.bf16() + (row + r) * a.stride, b.k, wide_a + r * depth);
    for (int64_t j = 0; j < b.n; j += group) {
      const int64_t columns = std::min(group, b.n - j);
      for (int64_t i = 0; i < columns; i += kPanel)
        widen_panel(b.panel_of<uint16_t>(j + i), pairs, wide_b + panel_begin(i, panel_size(depth)));
      onednn_product(onednn, scratch, {NumberType::F32, wide_a, depth}, count,
                     {NumberType::F32, wide_b, b.k, columns, panel_size(depth)}, sums, columns, false);
      for (int64_t r = 0; r < count; ++r) {
        float *const to = c + (row + r) * c_row + j;
        if (accumulate) add_scaled(sums + r * columns, 1, columns, to);
        else std::copy_n(sums + r * columns, columns, to);
      }
    }
  }
}

// Tiles of at least 64 rows, then of columns, some more than there are threads; each by oneDNN on one thread, of `b`
// itself or, `widened`, in f32.
void tiled_product(const Threads &threads, const OneDnn &onednn, ScratchPool &scratch, bool widened, const ConstRows &a,
                   int64_t rows, const Panels &b, float *c, int64_t c_row, bool accumulate) {
  const int64_t panels = panel_count(b.n), operations = rows * b.k * b.n,
                wanted = threads.count() == 1 || operations < worth_threads() ? 1 : 2 * threads.count();
  const int64_t down = std::clamp<int64_t>(rows / 64, 1, wanted),
                across = std::clamp<int64_t>(wanted / down, 1, panels);
  const int64_t tile_rows = round_up((rows + down - 1) / down, 16);
  parallel_items(threads, down * across, operations, [&](int64_t tile) {
    const int64_t row = tile / across * tile_rows, column = tile % across;
    if (row >= rows) return;
    const Panels part = b.columns(panels * column / across * kPanel, panels * (column + 1) / across * kPanel);
    const int64_t count = std::min(tile_rows, rows - row);
    float *to = c + row * c_row + panels * column / across * kPanel;
    if (widened) {
      go(ProductWay::WIDENED);
      widened_product(onednn, scratch, a.from(row), count, part, to, c_row, accumulate);
      return;
    }
    if (part.n == c_row) {
      onednn_product(onednn, scratch, a.from(row), count, part, to, c_row, accumulate);
      return;
    }
    // oneDNN's kernels write dense rows only.
    go(ProductWay::ONEDNN_APART);
    ScratchPool::Loan loan(scratch, count * part.n * int64_t{sizeof(float)});
    float *const dense = loan.at<float>();
    onednn_product(onednn, scratch, a.from(row), count, part, dense, part.n, false);
    for (int64_t r = 0; r < count; ++r) {
      if (accumulate) add_scaled(dense + r * part.n, 1, part.n, to + r * c_row);
      else std::copy_n(dense + r * part.n, part.n, to + r * c_row);
    }
  });
}

}  // namespace

bool has_gone(ProductWay way) { return g_ways.load(std::memory_order_relaxed) & bit_of(way); }

Gemm::Gemm(const ProductChoice &choice) : choice_(choice), onednn_(std::make_unique<OneDnn>()) {}
Gemm::~Gemm() = default;

void Gemm::multiply(const Threads &threads, const ConstRows &a, int64_t rows, const Panels &b, float *c, int64_t c_row,
                    bool accumulate, bool exact) const {
  if (b.type == NumberType::I8) return native_product(threads, a, rows, b, c, c_row, accumulate);
  const ProductsByRows &ways = choice_.products(b.type, b.k);
  switch (exact || rows <= ways.few_rows ? ways.few : ways.many) {
    case Product::NATIVE: go(ProductWay::NATIVE); return native_product(threads, a, rows, b, c, c_row, accumulate);
    case Product::DOTS: go(ProductWay::DOTS); return dot_product(threads, a, rows, b, c, c_row, accumulate);
    case Product::OPENBLAS: go(ProductWay::OPENBLAS); return openblas_panels(a, rows, b, c, c_row, accumulate);
    case Product::ONEDNN: return tiled_product(threads, *onednn_, scratch_, false, a, rows, b, c, c_row, accumulate);
    case Product::WIDENED: return tiled_product(threads, *onednn_, scratch_, true, a, rows, b, c, c_row, accumulate);
  }
}

namespace {

// Our own kernel, one thread. B's rows are packed a few at a time, so that they stay in the cache.
void native_transposed(ScratchPool &scratch, const ConstRows &a, const ConstRows &b, int64_t rows, int64_t a_columns,
                       int64_t b_columns, float *c, int64_t c_row, bool accumulate) {
  constexpr int64_t kDepth = 128;
  const int64_t padded = round_up(b_columns, kPanel);
  const bool apart = b_columns != padded;  // C's rows have no room for whole panels
  const int64_t panels_end = kDepth * padded * 4,
                wide_end = panels_end + (a.type == NumberType::BF16 ? kDepth * (a_columns + b_columns) * 4 : 0);
  ScratchPool::Loan space(scratch, wide_end + (apart ? a_columns * padded * 4 : 0));
  float *const panels = space.at<float>(), *const wide = space.at<float>(panels_end);
  float *const to = apart ? space.at<float>(wide_end) : c;
  const int64_t to_row = apart ? padded : c_row;
  for (int64_t row = 0; row < rows; row += kDepth) {
    const int64_t depth = std::min(kDepth, rows - row);
    const float *left = a.f32() + row * a.stride, *right = b.f32() + row * b.stride;
    int64_t left_stride = a.stride, right_stride = b.stride;
    if (a.type == NumberType::BF16) {
      for (int64_t r = 0; r < depth; ++r) {
        widen(a.bf16() + (row + r) * a.stride, a_columns, wide + r * a_columns);
        widen(b.bf16() + (row + r) * b.stride, b_columns, wide + kDepth * a_columns + r * b_columns);
      }
      left = wide, left_stride = a_columns;
      right = wide + kDepth * a_columns, right_stride = b_columns;
    }
    pack_rows(right, right_stride, depth, b_columns, panels, panel_size(depth));
    panel_product(left, 1, left_stride, static_cast<int>(a_columns), panels, panel_size(depth), depth, 0, padded, to,
                  to_row, row > 0 || (accumulate && !apart));
  }
  if (!apart) return;
  for (int64_t i = 0; i < a_columns; ++i) {
    if (accumulate) add_scaled(to + i * padded, 1, b_columns, c + i * c_row);
    else std::copy_n(to + i * padded, b_columns, c + i * c_row);
  }
}

}  // namespace

void Gemm::multiply_transposed(const Threads &threads, const ConstRows &a, const ConstRows &b, int64_t rows,
                               int64_t a_columns, int64_t b_columns, float *c, int64_t c_row, bool accumulate) const {
  const int64_t operations = rows * a_columns * b_columns;
  const Product way = choice_.products(a.type, rows).transposed;
  const bool blas = way == Product::OPENBLAS;
  const bool shared = threads.count() > 1 && operations >= worth_threads() && !(blas && openblas_has_threads());
  const int64_t tiles = std::clamp<int64_t>(a_columns / 64, 1, shared ? 2 * threads.count() : 1);
  const int64_t tile_columns = round_up((a_columns + tiles - 1) / tiles, 16);
  parallel_items(threads, tiles, operations, [&](int64_t tile) {
    const int64_t first = tile * tile_columns, count = std::min(tile_columns, a_columns - first);
    if (count <= 0) return;
    const ConstRows part{a.type, static_cast<const char *>(a.data) + first * bytes_of(a.type), a.stride};
    float *to = c + first * c_row;
    if (blas) {
      go(ProductWay::TRANSPOSED_OPENBLAS);
      openblas_product(true, count, b_columns, rows, part.f32(), a.stride, b.f32(), b.stride, accumulate, to, c_row);
      return;
    }
    // oneDNN in pieces of a few sizes, so that it makes few kernels; the last rows by our own.
    int64_t row = 0;
    if (way == Product::ONEDNN && c_row == b_columns) {
      for (const int64_t size : {4096, 2048, 1024, 512, 256, 128, 64, 32}) {
        while (rows - row >= size && onednn_->multiply_transposed(scratch_, part.from(row), b.from(row), size, count,
                                                                  b_columns, to, accumulate || row > 0))
          row += size;
      }
    }
    if (row > 0) go(ProductWay::TRANSPOSED_ONEDNN);
    if (row == rows) return;
    go(ProductWay::TRANSPOSED_NATIVE);
    native_transposed(scratch_, part.from(row), b.from(row), rows - row, count, b_columns, to, c_row,
                      accumulate || row > 0);
  });
}

}  // namespace infini
