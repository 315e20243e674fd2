// Products of a few bf16 rows by the processor's own dot products of bf16 pairs (AVX512_BF16), which take half the
// instructions of what product-inl.h has to do. Highway 1.0 has no name for them, so this file has intrinsics.
#include "kernels/bf16_dot.h"

#include <algorithm>
#include <cstring>

#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define INFINI_BF16_DOT __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))

namespace infini {
namespace {

constexpr int64_t kPieceRows = 512, kBlockRows = 128, kLine = 64;  // rows of B; bytes

// The rows' pairs along k, one below the other: turned [pairs][kDotRows].
void turn(const uint16_t *a, int64_t a_row, int rows, int64_t pairs, uint32_t *turned) {
  for (int r = 0; r < rows; ++r)
    for (int64_t i = 0; i < pairs; ++i) std::memcpy(turned + i * kDotRows + r, a + r * a_row + 2 * i, sizeof(uint32_t));
}

// ROWS x 16 sums along `pairs` pairs of rows of B. Meanwhile a line of what comes next is asked for at every other pair.
template <int ROWS>
INFINI_BF16_DOT void tile(const uint32_t *turned, const uint16_t *b, int64_t pairs, const char *next, float *c, int64_t c_row, bool accumulate) {
  __m512 sum[ROWS];
  for (int r = 0; r < ROWS; ++r) sum[r] = accumulate ? _mm512_loadu_ps(c + r * c_row) : _mm512_setzero_ps();
  for (int64_t i = 0; i < pairs; ++i, b += 2 * kPanel, turned += kDotRows, next += kLine) {
    _mm_prefetch(next, _MM_HINT_T0);
    const auto column = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b));
    for (int r = 0; r < ROWS; ++r)
      sum[r] = _mm512_dpbf16_ps(sum[r], reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(turned[r]))), column);
  }
  for (int r = 0; r < ROWS; ++r) _mm512_storeu_ps(c + r * c_row, sum[r]);
}

// B is read in blocks of 16 KB, four times 16 columns each; each of the four passes asks for a quarter of the next block.
template <int ROWS>
void product(const uint16_t *a, int64_t a_row, int rows, const uint16_t *b, int64_t panel_stride, int64_t k, int64_t begin, int64_t end, float *c,
             int64_t c_row, bool accumulate) {
  if constexpr (ROWS > 1) {
    if (rows < ROWS) return product<ROWS - 1>(a, a_row, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
  }
  uint32_t turned[kPieceRows / 2 * kDotRows];
  for (int64_t i = 0; i < k; i += kPieceRows) {
    const int64_t piece = std::min(kPieceRows, k - i);
    turn(a + i, a_row, ROWS, piece / 2, turned);
    for (int64_t first = begin; first < end;) {
      const int64_t last = std::min(first / kPanel * kPanel + kPanel, end);
      const uint16_t *const panel = b + first / kPanel * panel_stride + i * kPanel;
      for (int64_t d = 0; d < piece; d += kBlockRows) {
        const bool inside = d + kBlockRows < piece;
        const int64_t depth = std::min(kBlockRows, piece - d);
        const char *next = reinterpret_cast<const char *>(panel + (inside ? (d + kBlockRows) * kPanel : panel_stride));
        for (int64_t j = first; j < last; j += 16, next += kLine * kBlockRows / 2)
          tile<ROWS>(turned + d / 2 * kDotRows, panel + d * kPanel + 2 * (j % kPanel), depth / 2, next, c + j, c_row, accumulate || i + d > 0);
      }
      first = last;
    }
  }
}

}  // namespace

bool has_bf16_dot() { return has_avx512_bf16(); }

void panel_dot(const uint16_t *a, int64_t a_row, int rows, const uint16_t *b, int64_t panel_stride, int64_t k, int64_t begin, int64_t end, float *c,
               int64_t c_row, bool accumulate) {
  product<kDotRows>(a, a_row, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
}

}  // namespace infini

#else

namespace infini {

bool has_bf16_dot() { return false; }
void panel_dot(const uint16_t *, int64_t, int, const uint16_t *, int64_t, int64_t, int64_t, int64_t, float *, int64_t, bool) {}

}  // namespace infini

#endif
