// Products of a few bf16 rows by the processor's own dot products of bf16 pairs (AVX512_BF16), which take half the
// instructions of what product-inl.h has to do. Highway 1.0 has no name for them, so this file has intrinsics.
#include "kernels/bf16_dot.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu.h"
#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define INFINI_BF16_DOT __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))

namespace infini {
namespace {

constexpr int64_t kBlockRows = 192, kLine = 64;  // rows of B that are in the first-level cache together; bytes
constexpr int kTileRows = 8;                     // and two vectors of columns: ten loads for sixteen products
constexpr int64_t kPage = 2048;                  // numbers

// ROWS x 16 COLUMNS sums along `pairs` pairs of rows of B. Meanwhile LINES of what comes next are asked for a pair.
template <int ROWS, int COLUMNS, int LINES>
INFINI_BF16_DOT void tile(const uint16_t *a, int64_t a_row, const uint16_t *b, int64_t pairs, const char *next,
                          float *c, int64_t c_row, bool accumulate) {
  __m512 sum[ROWS][COLUMNS];
  for (int r = 0; r < ROWS; ++r)
    for (int j = 0; j < COLUMNS; ++j)
      sum[r][j] = accumulate ? _mm512_loadu_ps(c + r * c_row + 16 * j) : _mm512_setzero_ps();
  for (int64_t i = 0; i < pairs; ++i, a += 2, b += 2 * kPanel, next += LINES * kLine) {
    for (int line = 0; line < LINES; ++line) _mm_prefetch(next + line * kLine, _MM_HINT_T0);
    __m512bh column[COLUMNS];
    for (int j = 0; j < COLUMNS; ++j) column[j] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + 32 * j));
    for (int r = 0; r < ROWS; ++r) {
      int32_t pair;
      std::memcpy(&pair, a + r * a_row, sizeof pair);
      const auto row = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
      for (int j = 0; j < COLUMNS; ++j) sum[r][j] = _mm512_dpbf16_ps(sum[r][j], row, column[j]);
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int j = 0; j < COLUMNS; ++j) _mm512_storeu_ps(c + r * c_row + 16 * j, sum[r][j]);
}

// Block by block down a panel of B. Few rows go over it once, and ask for what comes a page later; more rows go over a
// block again and again, and together ask for the next one.
template <int ROWS>
void product(const uint16_t *a, int64_t a_row, int rows, const uint16_t *b, int64_t panel_stride, int64_t k,
             int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate) {
  if constexpr (ROWS > 1) {
    if (rows < ROWS) return product<ROWS - 1>(a, a_row, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
  }
  constexpr int kUpper = std::min(ROWS, kTileRows), kLower = ROWS - kUpper;
  constexpr bool kOnce = ROWS <= 4;
  constexpr int kColumns = kOnce ? 4 : 2, kLines = kLower > 0 ? 1 : kColumns;
  for (int64_t first = begin; first < end;) {
    const int64_t last = std::min(first / kPanel * kPanel + kPanel, end);
    const uint16_t *const panel = b + panel_begin(first, panel_stride);
    for (int64_t i = 0; i < k; i += kBlockRows) {
      const int64_t depth = std::min(kBlockRows, k - i);
      const int64_t block_end = i + depth < k ? (i + depth) * kPanel : panel_stride;
      const char *next = reinterpret_cast<const char *>(panel + (kOnce ? i * kPanel + kPage : block_end));
      const auto tiles = [&]<int COLUMNS>(int64_t j) {
        const uint16_t *const block = panel + panel_offset<uint16_t>(i, j % kPanel);
        const bool sums = accumulate || i > 0;
        tile<kUpper, COLUMNS, kLines>(a + i, a_row, block, depth / 2, next, c + j, c_row, sums);
        next += kLines * kLine * depth / 2;
        if constexpr (kLower > 0) {
          tile<kLower, COLUMNS, kLines>(a + kUpper * a_row + i, a_row, block, depth / 2, next, c + kUpper * c_row + j,
                                        c_row, sums);
          next += kLines * kLine * depth / 2;
        }
      };
      int64_t j = first;
      for (; j + 16 * kColumns <= last; j += 16 * kColumns) tiles.template operator()<kColumns>(j);
      for (; j < last; j += 16) tiles.template operator()<1>(j);
    }
    first = last;
  }
}

}  // namespace

void panel_dot(const uint16_t *a, int64_t a_row, int rows, const uint16_t *b, int64_t panel_stride, int64_t k,
               int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate) {
  product<kDotRows>(a, a_row, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
}

}  // namespace infini

#else

namespace infini {

void panel_dot(const uint16_t *, int64_t, int, const uint16_t *, int64_t, int64_t, int64_t, int64_t, float *, int64_t,
               bool) {}

}  // namespace infini

#endif
