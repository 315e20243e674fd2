// The register-blocked product with a matrix in panels (see kernels.h), for one instruction set.
#include <cstdint>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#if defined(INFINI_KERNELS_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef INFINI_KERNELS_PRODUCT_INL_H_
#undef INFINI_KERNELS_PRODUCT_INL_H_
#else
#define INFINI_KERNELS_PRODUCT_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace infini {
namespace HWY_NAMESPACE {
namespace product {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;

// Rows of A that share one pass over B: their sums must stay in registers (32 with AVX-512, else 16).
constexpr int kRows = HWY_MAX_BYTES >= 64 ? 6 : 2;

// Few rows wait for the weights: what comes later is asked for now, because the processor's own prefetching stops at the
// end of a page. A step along k asks for `lines` cache lines from `next` on.
struct Ahead {
  const char *next;
  int64_t step;  // bytes
  int lines;
};
HWY_INLINE void Ask(Ahead &ahead) {
  for (int line = 0; line < ahead.lines; ++line) hwy::Prefetch(ahead.next + 64 * line);
  ahead.next += ahead.step;
}

// ROWS x VECTORS sums over all of k. a is [ROWS rows][k], c [ROWS][VECTORS * lanes].
template <int ROWS, int VECTORS>
HWY_INLINE void Sums(const float *HWY_RESTRICT a, int64_t a_row, int64_t a_column, const float *HWY_RESTRICT b,
                     int64_t k, Ahead ahead, V (&sum)[ROWS][VECTORS]) {
  const D d;
  constexpr int64_t kLanes = hn::MaxLanes(D());
  for (int64_t i = 0; i < k; ++i, b += 64) {
    Ask(ahead);
    V column[VECTORS];
    for (int v = 0; v < VECTORS; ++v) column[v] = hn::LoadU(d, b + v * kLanes);
    for (int r = 0; r < ROWS; ++r) {
      const V value = hn::Set(d, a[r * a_row + i * a_column]);
      for (int v = 0; v < VECTORS; ++v) sum[r][v] = hn::MulAdd(value, column[v], sum[r][v]);
    }
  }
}

// The same with B in bf16, whose 32-bit lanes hold rows 2i (low half) and 2i+1 (high half) of a column.
template <int ROWS, int VECTORS>
HWY_INLINE void Sums(const float *HWY_RESTRICT a, int64_t a_row, int64_t a_column, const uint16_t *HWY_RESTRICT b,
                     int64_t k, Ahead ahead, V (&sum)[ROWS][VECTORS]) {
  const D d;
  const hn::RebindToUnsigned<D> du;
  constexpr int64_t kLanes = hn::MaxLanes(D());
  const auto high = hn::Set(du, 0xffff0000u);
  for (int64_t i = 0; i < k; i += 2, b += 128) {
    Ask(ahead);
    V even[VECTORS], odd[VECTORS];
    for (int v = 0; v < VECTORS; ++v) {
      const auto pair = hn::LoadU(du, reinterpret_cast<const uint32_t *>(b) + v * kLanes);
      even[v] = hn::BitCast(d, hn::ShiftLeft<16>(pair));
      odd[v] = hn::BitCast(d, hn::And(pair, high));
    }
    const bool whole = i + 1 < k;  // an odd k ends in a row of zeros, for which A has no element
    for (int r = 0; r < ROWS; ++r) {
      const V value0 = hn::Set(d, a[r * a_row + i * a_column]);
      const V value1 = whole ? hn::Set(d, a[r * a_row + (i + 1) * a_column]) : hn::Zero(d);
      for (int v = 0; v < VECTORS; ++v) {
        sum[r][v] = hn::MulAdd(value0, even[v], sum[r][v]);
        sum[r][v] = hn::MulAdd(value1, odd[v], sum[r][v]);
      }
    }
  }
}

template <int ROWS, int VECTORS, class Number>
HWY_NOINLINE void Tile(const float *a, int64_t a_row, int64_t a_column, const Number *b, int64_t k, Ahead ahead, float *c,
                       int64_t c_row, bool accumulate) {
  const D d;
  constexpr int64_t kLanes = hn::MaxLanes(D());
  V sum[ROWS][VECTORS];
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < VECTORS; ++v) sum[r][v] = accumulate ? hn::LoadU(d, c + r * c_row + v * kLanes) : hn::Zero(d);
  Sums<ROWS, VECTORS>(a, a_row, a_column, b, k, ahead, sum);
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < VECTORS; ++v) hn::StoreU(sum[r][v], d, c + r * c_row + v * kLanes);
}

template <int VECTORS, class Number>
HWY_INLINE void TileRows(const float *a, int64_t a_row, int64_t a_column, int rows, const Number *b, int64_t panel_stride,
                         int64_t k, float *c, int64_t c_row, bool accumulate) {
  const int passes = (rows + kRows - 1) / kRows;
  // One pass over B asks for all that comes a page later; several, which find the panel in the cache from the second on,
  // share the lines of the next panel.
  const auto ahead = [&](int pass) {
    const char *bytes = reinterpret_cast<const char *>(b);
    if (VECTORS < 4) return Ahead{bytes, 0, 0};
    if (passes == 1) return Ahead{bytes + 4096, 256, 4};
    const int first = 4 * pass / passes, last = 4 * (pass + 1) / passes;
    return Ahead{bytes + panel_stride * static_cast<int64_t>(sizeof(Number)) + 64 * first, 256, last - first};
  };
  int r = 0, pass = 0;
  for (; r + kRows <= rows; r += kRows, ++pass)
    Tile<kRows, VECTORS>(a + r * a_row, a_row, a_column, b, k, ahead(pass), c + r * c_row, c_row, accumulate);
  const float *rest_a = a + r * a_row;
  float *rest_c = c + r * c_row;
  switch (rows - r) {
    case 1: return Tile<1, VECTORS>(rest_a, a_row, a_column, b, k, ahead(pass), rest_c, c_row, accumulate);
    case 2: return Tile<2, VECTORS>(rest_a, a_row, a_column, b, k, ahead(pass), rest_c, c_row, accumulate);
    case 3: return Tile<3, VECTORS>(rest_a, a_row, a_column, b, k, ahead(pass), rest_c, c_row, accumulate);
    case 4: return Tile<4, VECTORS>(rest_a, a_row, a_column, b, k, ahead(pass), rest_c, c_row, accumulate);
    case 5: return Tile<5, VECTORS>(rest_a, a_row, a_column, b, k, ahead(pass), rest_c, c_row, accumulate);
  }
}

// A column of B is one element wide in f32 and one pair wide in bf16.
HWY_INLINE const float *ColumnOf(const float *panel, int64_t column) { return panel + column; }
HWY_INLINE const uint16_t *ColumnOf(const uint16_t *panel, int64_t column) { return panel + 2 * column; }

#if HWY_MAX_BYTES >= 64
// The rows of A as columns of `turned` [k][16]; what stands there beyond the rows is of no use.
constexpr int kMostTogether = 16;

HWY_INLINE void Turn(const float *a, int64_t a_row, int64_t a_column, int rows, int64_t k, float *HWY_RESTRICT turned) {
  int64_t whole = 0;
  if (a_column == 1) {  // four by four: whole lines are written, each once
    const hn::FixedTag<float, 4> d;
    const hn::Repartition<double, decltype(d)> pairs;
    for (; whole + 4 <= k; whole += 4) {
      for (int r = 0; r < rows; r += 4) {
        const auto row = [&](int i) { return hn::LoadU(d, a + (r + i < rows ? r + i : rows - 1) * a_row + whole); };
        const auto row0 = row(0), row1 = row(1), row2 = row(2), row3 = row(3);
        const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(d, row0, row1)), low23 = hn::BitCast(pairs, hn::InterleaveLower(d, row2, row3));
        const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(d, row0, row1)), high23 = hn::BitCast(pairs, hn::InterleaveUpper(d, row2, row3));
        float *to = turned + whole * kMostTogether + r;
        hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, low01, low23)), d, to);
        hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, low01, low23)), d, to + kMostTogether);
        hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, high01, high23)), d, to + 2 * kMostTogether);
        hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, high01, high23)), d, to + 3 * kMostTogether);
      }
    }
  }
  for (; whole < k; ++whole)
    for (int r = 0; r < rows; ++r) turned[whole * kMostTogether + r] = a[r * a_row + whole * a_column];
}

// Rows that go over B 16 columns at a time, all in one pass: then what comes from memory is asked for evenly, and the
// processor neither waits for it nor lets it rest. B is read in blocks of 16 KB; the four passes over one ask for the
// next, each for a quarter of its lines in the order of memory, which is what the processor's own prefetching takes up.
// A is turned first, a piece of k at a time.
template <int ROWS, class Number>
HWY_INLINE void Together(const float *a, int64_t a_row, int64_t a_column, int rows, const Number *b, int64_t panel_stride,
                         int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate) {
  if constexpr (ROWS > kMostTogether) {
    return;
  } else {
    if (rows != ROWS)
      return Together<ROWS + 1>(a, a_row, a_column, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
    constexpr int64_t kPiece = 512, kBlock = 256 / sizeof(Number), kLanes = hn::MaxLanes(D());
    float turned[kPiece * kMostTogether];
    for (int64_t i = 0; i < k; i += kPiece) {
      const int64_t piece = i + kPiece < k ? kPiece : k - i;
      Turn(a + i * a_column, a_row, a_column, ROWS, piece, turned);
      for (int64_t first = begin; first < end;) {
        const int64_t last = first / 64 * 64 + 64 < end ? first / 64 * 64 + 64 : end;
        const Number *const panel = b + first / 64 * panel_stride + i * 64;
        for (int64_t d = 0; d < piece; d += kBlock) {
          const bool inside = d + kBlock < piece;
          const char *next = reinterpret_cast<const char *>(panel + (inside ? (d + kBlock) * 64 : panel_stride));
          for (int64_t j = first; j < last; j += kLanes, next += 4096)
            Tile<ROWS, 1>(turned + d * kMostTogether, 1, kMostTogether, ColumnOf(panel + d * 64, j % 64), inside ? kBlock : piece - d,
                          Ahead{next, 64, 1}, c + j, c_row, accumulate || i + d > 0);
        }
        first = last;
      }
    }
  }
}
#endif

template <class Number>
HWY_INLINE void Product(const float *a, int64_t a_row, int64_t a_column, int rows, const Number *b,
                        int64_t panel_stride, int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row,
                        bool accumulate) {
  constexpr int64_t kLanes = hn::MaxLanes(D());
#if HWY_MAX_BYTES >= 64
  if (rows > kRows && rows <= kMostTogether)
    return Together<kRows + 1>(a, a_row, a_column, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
#endif
  for (int64_t j = begin; j < end;) {
    const Number *column = ColumnOf(b + j / 64 * panel_stride, j % 64);
    const int64_t inside = end - j < 64 - j % 64 ? end - j : 64 - j % 64;  // columns left of this panel
    if (inside >= 4 * kLanes) {
      TileRows<4>(a, a_row, a_column, rows, column, panel_stride, k, c + j, c_row, accumulate);
      j += 4 * kLanes;
    } else {
      TileRows<1>(a, a_row, a_column, rows, column, panel_stride, k, c + j, c_row, accumulate);
      j += kLanes;
    }
  }
}

}  // namespace product

void PanelProductF32(const float *a, int64_t a_row, int64_t a_column, int rows, const float *b, int64_t panel_stride,
                     int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate) {
  product::Product(a, a_row, a_column, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
}
void PanelProductBf16(const float *a, int64_t a_row, int64_t a_column, int rows, const uint16_t *b,
                      int64_t panel_stride, int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row,
                      bool accumulate) {
  product::Product(a, a_row, a_column, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
}

}  // namespace HWY_NAMESPACE
}  // namespace infini
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
