#include "gemm/gemm.h"

#include <cblas.h>

#include <mutex>
#include <vector>

#include "base/parallel.h"
#include "base/status.h"
#include "gemm/onednn.h"
#include "kernels/scalar.h"

namespace infini {

PackedMatrix::PackedMatrix(NumberType type, int64_t k, int64_t n)
    : type_(type), k_(k), n_(n), k_padded_(padded_k(type, k)) {
  const int64_t size = round_up(n, kPanel) * k_padded_;
  if (type == NumberType::F32) f32_ = Buffer<float>(size);
  else bf16_ = Buffer<uint16_t>(size);
}

void PackedMatrix::set_column(int64_t j, const float *values) {
  const int64_t panel = j / kPanel * kPanel * k_padded_, column = j % kPanel;
  if (type_ == NumberType::F32) {
    for (int64_t i = 0; i < k_; ++i) f32_[panel + i * kPanel + column] = values[i];
  } else {
    for (int64_t i = 0; i < k_; ++i)
      bf16_[panel + i / 2 * (2 * kPanel) + 2 * column + i % 2] = scalar::float_to_bf16(values[i]);
  }
}

float PackedMatrix::at(int64_t i, int64_t j) const {
  const int64_t stride = kPanel * k_padded_;
  return type_ == NumberType::F32 ? scalar::panel_element(f32_.data(), stride, i, j)
                                  : scalar::panel_element(bf16_.data(), stride, i, j);
}

Panels PackedMatrix::panels() const {
  const void *data = type_ == NumberType::F32 ? static_cast<const void *>(f32_.data()) : bf16_.data();
  return {type_, data, k_, n_, kPanel * k_padded_};
}

namespace {

// Our own kernel, one thread: columns [begin, end) of C, multiples of 16.
void native_part(const ConstRows &a, int64_t rows, const Panels &b, int64_t begin, int64_t end, float *c, int64_t c_row,
                 bool accumulate) {
  if (b.type == NumberType::F32) {
    panel_product(a.f32(), a.stride, 1, static_cast<int>(rows), static_cast<const float *>(b.data), b.stride, b.k, begin,
                  end, c, c_row, accumulate);
    return;
  }
  // The kernel takes A in f32: a few rows at a time are widened on the stack, along pieces of k.
  constexpr int64_t kRows = 6, kDepth = 1024;
  float wide[kRows * kDepth];
  const auto *panels = static_cast<const uint16_t *>(b.data);
  for (int64_t r = 0; r < rows; r += kRows) {
    const int64_t count = std::min(kRows, rows - r);
    for (int64_t i = 0; i < b.k; i += kDepth) {
      const int64_t depth = std::min(kDepth, b.k - i);
      for (int64_t row = 0; row < count; ++row) widen(a.bf16() + (r + row) * a.stride + i, depth, wide + row * kDepth);
      panel_product(wide, kDepth, 1, static_cast<int>(count), panels + i * kPanel, b.stride, depth, begin, end,
                    c + r * c_row, c_row, accumulate || i > 0);
    }
  }
}

void native_product(const ConstRows &a, int64_t rows, const Panels &b, float *c, int64_t c_row, bool accumulate) {
  // Units of 16 columns, so that few panels still divide evenly; below some 128 KB of weights a thread, the loop
  // stays serial.
  const int64_t units = round_up(b.n, kPanel) / 16;
  const int64_t grain = std::max<int64_t>(1, 131072 / (16 * b.k * bytes_of(b.type) * std::max<int64_t>(1, rows / 4)));
  parallel_for(units, grain, [&](int64_t begin, int64_t end) {
    native_part(a, rows, b, begin * 16, end * 16, c, c_row, accumulate);
  });
}

// Panel by panel, one product of the process at a time: a build of OpenBLAS without threads (Debian's serial package)
// hands out its work space without a lock, and two calls at once spoil each other's sums. One with threads divides the
// product itself.
void openblas_product(const ConstRows &a, int64_t rows, const Panels &b, float *c, int64_t c_row, bool accumulate) {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  const auto *data = static_cast<const float *>(b.data);
  for (int64_t j = 0; j < b.n; j += kPanel) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(rows), static_cast<int>(std::min<int64_t>(kPanel, b.n - j)),
                static_cast<int>(b.k), 1.0f, a.f32(), static_cast<int>(a.stride), data + j / kPanel * b.stride, kPanel,
                accumulate ? 1.0f : 0.0f, c + j, static_cast<int>(c_row));
  }
}

// oneDNN on the calling thread, in pieces of a few sizes for which it has kernels; the last few rows by our own.
void onednn_product(const OneDnn &onednn, const ConstRows &a, int64_t rows, const Panels &b, float *c, int64_t c_row, bool accumulate) {
  constexpr int64_t kSizes[] = {512, 384, 256, 192, 128, 96, 64, 32, 16, 8};  // any number of rows is a sum of these and a few
  int64_t row = 0;
  for (const int64_t size : kSizes) {
    while (rows - row >= size && onednn.multiply(a.from(row), size, b, c + row * c_row, c_row, accumulate)) row += size;
  }
  if (row == rows) return;
  if (b.n % 16 == 0) {
    native_part(a.from(row), rows - row, b, 0, b.n, c + row * c_row, c_row, accumulate);
    return;
  }
  // Our kernel writes whole vectors, for which dense rows of an odd length have no room.
  const int64_t padded = round_up(b.n, kPanel);
  std::vector<float> wide(static_cast<size_t>(padded * (rows - row)));
  native_part(a.from(row), rows - row, b, 0, padded, wide.data(), padded, false);
  for (int64_t r = 0; r < rows - row; ++r) {
    float *to = c + (row + r) * c_row;
    for (int64_t j = 0; j < b.n; ++j) to[j] = wide[static_cast<size_t>(r * padded + j)] + (accumulate ? to[j] : 0);
  }
}

// Columns [begin, end) of B, in panels.
Panels some_panels(const Panels &b, int64_t begin, int64_t end) {
  return {b.type, static_cast<const char *>(b.data) + begin * b.stride * bytes_of(b.type), b.k, std::min(b.n, end * kPanel) - begin * kPanel, b.stride};
}

}  // namespace

struct Gemm::Primitives : OneDnn {};

Gemm::Gemm(GemmLibrary library) : library_(library), primitives_(std::make_unique<Primitives>()) {}
Gemm::~Gemm() = default;

void Gemm::multiply(const ConstRows &a, int64_t rows, const Panels &b, float *c, int64_t c_row, bool accumulate,
                    bool exact) const {
  // One token is a question of bytes read, and up to a few rows our kernel reads the weights once too.
  constexpr int64_t kFewRows = 4;
  const int64_t operations = rows * b.k * b.n;
  if (exact || rows <= kFewRows || library_ == GemmLibrary::NATIVE || !primitives_->supports(b.type)) {
    native_product(a, rows, b, c, c_row, accumulate);
  } else if (library_ == GemmLibrary::OPENBLAS) {
    if (b.type == NumberType::F32) openblas_product(a, rows, b, c, c_row, accumulate);
    else native_product(a, rows, b, c, c_row, accumulate);
  } else {
    // Tiles of at least 64 rows, then of columns, some more than there are threads.
    const int64_t panels = round_up(b.n, kPanel) / kPanel, wanted = thread_count() == 1 || operations < kWorthThreads ? 1 : 2 * thread_count();
    const int64_t down = std::clamp<int64_t>(rows / 64, 1, wanted), across = std::clamp<int64_t>(wanted / down, 1, panels);
    const int64_t tile_rows = round_up((rows + down - 1) / down, 16);
    parallel_items(down * across, operations, [&](int64_t tile) {
      const int64_t row = tile / across * tile_rows, column = tile % across;
      if (row >= rows) return;
      const Panels part = some_panels(b, panels * column / across, panels * (column + 1) / across);
      const int64_t count = std::min(tile_rows, rows - row);
      float *to = c + row * c_row + panels * column / across * kPanel;
      if (part.n == c_row) {
        onednn_product(*primitives_, a.from(row), count, part, to, c_row, accumulate);
        return;
      }
      // oneDNN's kernels write dense rows only.
      const int64_t dense_row = round_up(part.n, kPanel);
      Buffer<float> dense(count * dense_row);
      onednn_product(*primitives_, a.from(row), count, part, dense.data(), part.n, false);
      for (int64_t r = 0; r < count; ++r) {
        if (accumulate) add_scaled(dense.data() + r * part.n, 1, part.n, to + r * c_row);
        else std::copy_n(dense.data() + r * part.n, part.n, to + r * c_row);
      }
    });
  }
}

}  // namespace infini
