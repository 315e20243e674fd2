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

// Few rows wait for the weights: what comes later is asked for now, because the processor's own prefetching stops at
// the end of a page. A step along k asks for `lines` cache lines from `next` on.
struct Ahead {
  const char *next;
  int64_t step;  // bytes
  int lines;
};
HWY_INLINE void Ask(Ahead &ahead) {
  for (int line = 0; line < ahead.lines; ++line) hwy::Prefetch(ahead.next + 64 * line);
  ahead.next += ahead.step;
}
struct Nothing {};
HWY_INLINE void Ask(Nothing) {}

// ROWS x VECTORS sums over all of k. a is [ROWS rows][k], b [k][STRIDE], c [ROWS][VECTORS * lanes].
template <int STRIDE, int ROWS, int VECTORS, class Later>
HWY_INLINE void Sums(const float *HWY_RESTRICT a, int64_t a_row, int64_t a_column, const float *HWY_RESTRICT b,
                     int64_t k, Later ahead, V (&sum)[ROWS][VECTORS]) {
  const D d;
  constexpr int64_t kLanes = hn::MaxLanes(D());
  for (int64_t i = 0; i < k; ++i, b += STRIDE) {
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
template <int STRIDE, int ROWS, int VECTORS, class Later>
HWY_INLINE void Sums(const float *HWY_RESTRICT a, int64_t a_row, int64_t a_column, const uint16_t *HWY_RESTRICT b,
                     int64_t k, Later ahead, V (&sum)[ROWS][VECTORS]) {
  const D d;
  const hn::RebindToUnsigned<D> du;
  constexpr int64_t kLanes = hn::MaxLanes(D());
  const auto high = hn::Set(du, 0xffff0000u);
  int64_t i = 0;
  for (; i + 1 < k; i += 2, b += 2 * STRIDE) {
    Ask(ahead);
    V even[VECTORS], odd[VECTORS];
    for (int v = 0; v < VECTORS; ++v) {
      const auto pair = hn::LoadU(du, reinterpret_cast<const uint32_t *>(b) + v * kLanes);
      even[v] = hn::BitCast(d, hn::ShiftLeft<16>(pair));
      odd[v] = hn::BitCast(d, hn::And(pair, high));
    }
    for (int r = 0; r < ROWS; ++r) {
      const V value0 = hn::Set(d, a[r * a_row + i * a_column]), value1 = hn::Set(d, a[r * a_row + (i + 1) * a_column]);
      for (int v = 0; v < VECTORS; ++v) {
        sum[r][v] = hn::MulAdd(value0, even[v], sum[r][v]);
        sum[r][v] = hn::MulAdd(value1, odd[v], sum[r][v]);
      }
    }
  }
  if (i == k) return;
  for (int v = 0; v < VECTORS; ++v) {  // of an odd k, whose last row is alone
    const V even = hn::BitCast(d, hn::ShiftLeft<16>(hn::LoadU(du, reinterpret_cast<const uint32_t *>(b) + v * kLanes)));
    for (int r = 0; r < ROWS; ++r) sum[r][v] = hn::MulAdd(hn::Set(d, a[r * a_row + i * a_column]), even, sum[r][v]);
  }
}

// Number j of the four in each 32-bit lane.
template <int J>
HWY_INLINE V Quarter(hn::Vec<hn::RebindToSigned<D>> four) {
  return hn::ConvertTo(D(), hn::ShiftRight<24>(hn::ShiftLeft<24 - 8 * J>(four)));
}

// The same with B in int8, whose 32-bit lanes hold rows 4i to 4i + 3 of a column.
template <int STRIDE, int ROWS, int VECTORS, class Later>
HWY_INLINE void Sums(const float *HWY_RESTRICT a, int64_t a_row, int64_t a_column, const int8_t *HWY_RESTRICT b,
                     int64_t k, Later ahead, V (&sum)[ROWS][VECTORS]) {
  const D d;
  const hn::RebindToSigned<D> di;
  constexpr int64_t kLanes = hn::MaxLanes(D());
  for (int64_t i = 0; i < k; i += 4, b += 4 * STRIDE) {
    Ask(ahead);
    const auto add = [&]<int J>() HWY_ATTR {
      if (i + J >= k) return;
      V column[VECTORS];
      for (int v = 0; v < VECTORS; ++v)
        column[v] = Quarter<J>(hn::LoadU(di, reinterpret_cast<const int32_t *>(b) + v * kLanes));
      for (int r = 0; r < ROWS; ++r) {
        const V value = hn::Set(d, a[r * a_row + (i + J) * a_column]);
        for (int v = 0; v < VECTORS; ++v) sum[r][v] = hn::MulAdd(value, column[v], sum[r][v]);
      }
    };
    add.template operator()<0>();
    add.template operator()<1>();
    add.template operator()<2>();
    add.template operator()<3>();
  }
}

template <int ROWS, int VECTORS, int STRIDE = 64, class Number, class Later>
HWY_NOINLINE void Tile(const float *a, int64_t a_row, int64_t a_column, const Number *b, int64_t k, Later ahead,
                       float *c, int64_t c_row, bool accumulate) {
  const D d;
  constexpr int64_t kLanes = hn::MaxLanes(D());
  V sum[ROWS][VECTORS];
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < VECTORS; ++v) sum[r][v] = accumulate ? hn::LoadU(d, c + r * c_row + v * kLanes) : hn::Zero(d);
  Sums<STRIDE>(a, a_row, a_column, b, k, ahead, sum);
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < VECTORS; ++v) hn::StoreU(sum[r][v], d, c + r * c_row + v * kLanes);
}

// f<rows>() for the one to five rows that are left over; nothing for none.
template <class Function>
HWY_INLINE void ForRest(int rows, const Function &f) {
  switch (rows) {
    case 1: return f.template operator()<1>();
    case 2: return f.template operator()<2>();
    case 3: return f.template operator()<3>();
    case 4: return f.template operator()<4>();
    case 5: return f.template operator()<5>();
  }
}

template <int VECTORS, class Number>
HWY_INLINE void TileRows(const float *a, int64_t a_row, int64_t a_column, int rows, const Number *b,
                         int64_t panel_stride, int64_t k, float *c, int64_t c_row, bool accumulate) {
  const int passes = (rows + kRows - 1) / kRows;
  // One pass over B asks for all that comes a page later; several, which find the panel in the cache from the second
  // on, share the lines of the next panel.
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
  ForRest(rows - r, [&]<int ROWS>() HWY_ATTR {
    Tile<ROWS, VECTORS>(a + r * a_row, a_row, a_column, b, k, ahead(pass), c + r * c_row, c_row, accumulate);
  });
}

#if HWY_MAX_BYTES >= 64
constexpr int kMostTogether = 16, kTogetherRows = 8;

// Up to 16 rows go over B two vectors of columns at a time: ten loads for sixteen products, where few rows and many
// columns would wait for the loads. B is read in blocks of 16 KB; the passes over one ask for the next, each for a part
// of its lines in the order of memory, which is what the processor's own prefetching takes up: so that what comes from
// memory is asked for evenly, and the processor neither waits for it nor lets it rest.
template <int ROWS, class Number>
HWY_INLINE void Together(const float *a, int64_t a_row, int64_t a_column, int rows, const Number *b,
                         int64_t panel_stride, int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row,
                         bool accumulate) {
  if constexpr (ROWS > kMostTogether) {
    return;
  } else {
    if (rows != ROWS)
      return Together<ROWS + 1>(a, a_row, a_column, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
    constexpr int kUpper = ROWS < kTogetherRows ? ROWS : kTogetherRows, kLower = ROWS - kUpper,
                  kLines = kLower > 0 ? 1 : 2;
    constexpr int64_t kBlock = 256 / sizeof(Number), kLanes = hn::MaxLanes(D()), kLine = 64;
    for (int64_t first = begin; first < end;) {
      const int64_t next_panel = first / kPanel * kPanel + kPanel, last = next_panel < end ? next_panel : end;
      const Number *const panel = b + panel_begin(first, panel_stride);
      for (int64_t i = 0; i < k; i += kBlock) {
        const int64_t depth = i + kBlock < k ? kBlock : k - i;
        const char *next = reinterpret_cast<const char *>(panel + (i + depth < k ? (i + depth) * 64 : panel_stride));
        const auto tiles = [&]<int VECTORS>(int64_t j) HWY_ATTR {
          const Number *const block = panel + panel_offset<Number>(i, j % kPanel);
          const float *const left = a + i * a_column;
          const bool sums = accumulate || i > 0;
          const Ahead ahead{next, kLines * kLine, kLines};
          Tile<kUpper, VECTORS>(left, a_row, a_column, block, depth, ahead, c + j, c_row, sums);
          next += 4096 * kLines;
          if constexpr (kLower > 0) {
            Tile<kLower, VECTORS>(left + kUpper * a_row, a_row, a_column, block, depth, Ahead{next, kLine, 1},
                                  c + kUpper * c_row + j, c_row, sums);
            next += 4096;
          }
        };
        int64_t j = first;
        for (; j + 2 * kLanes <= last; j += 2 * kLanes) tiles.template operator()<2>(j);
        if (j < last) tiles.template operator()<1>(j);
      }
      first = last;
    }
  }
}
#endif

// So many vectors of columns of a panel in bf16, as f32 [k, or one more where that is odd][VECTORS * lanes].
template <int VECTORS>
HWY_INLINE void WidenColumns(const uint16_t *b, int64_t k, float *to) {
  constexpr int64_t kLanes = hn::MaxLanes(D()), kRow = VECTORS * kLanes;
  const D d;
  const hn::RebindToUnsigned<D> du;
  const auto high = hn::Set(du, 0xffff0000u);
  for (int64_t i = 0; i < k; i += 2, b += 128, to += 2 * kRow)
    for (int v = 0; v < VECTORS; ++v) {
      const auto pair = hn::LoadU(du, reinterpret_cast<const uint32_t *>(b) + v * kLanes);  // row i below row i + 1
      hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(pair)), d, to + v * kLanes);
      hn::StoreU(hn::BitCast(d, hn::And(pair, high)), d, to + kRow + v * kLanes);
    }
}

#if HWY_MAX_BYTES < 64
constexpr int kSliceRows = 6, kSliceVectors = 2, kSliceDepth = 256, kSlicedRows = 96, kWorthSlicing = 8;

// Many rows, with sixteen registers: six of them and two vectors of columns at a time, eight loads for twelve products.
// What they read of B is copied first, for up to 96 rows: its lines, four apart in a panel, would share a quarter of
// the nearest cache. The first six rows ask for what is copied next (in bf16 as often for what comes two slices later).
// Sums go on from what C holds, so that they are those of one pass over k.
HWY_INLINE void CopySlice(const float *b, int64_t depth, float *to) {
  constexpr int64_t kLanes = hn::MaxLanes(D());
  const D d;
  for (int64_t i = 0; i < depth; ++i, b += 64, to += kSliceVectors * kLanes)
    for (int v = 0; v < kSliceVectors; ++v) hn::StoreU(hn::LoadU(d, b + v * kLanes), d, to + v * kLanes);
}
HWY_INLINE void CopySlice(const uint16_t *b, int64_t depth, float *to) { WidenColumns<kSliceVectors>(b, depth, to); }
HWY_INLINE void CopySlice(const int8_t *b, int64_t depth, float *to) {
  constexpr int64_t kLanes = hn::MaxLanes(D()), kRow = kSliceVectors * kLanes;
  const D d;
  const hn::RebindToSigned<D> di;
  for (int64_t i = 0; i < depth; i += 4, b += 256, to += 4 * kRow)
    for (int v = 0; v < kSliceVectors; ++v) {
      const auto four = hn::LoadU(di, reinterpret_cast<const int32_t *>(b) + v * kLanes);
      hn::StoreU(Quarter<0>(four), d, to + v * kLanes);
      hn::StoreU(Quarter<1>(four), d, to + kRow + v * kLanes);
      hn::StoreU(Quarter<2>(four), d, to + 2 * kRow + v * kLanes);
      hn::StoreU(Quarter<3>(four), d, to + 3 * kRow + v * kLanes);
    }
}

template <class Number>
HWY_INLINE void Sliced(const float *a, int64_t a_row, int64_t a_column, int rows, const Number *b, int64_t panel_stride,
                       int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate) {
  constexpr int kRow = kSliceVectors * static_cast<int>(hn::MaxLanes(D()));
  static_assert(16 % kRow == 0);  // columns come in units of 16
  HWY_ALIGN float slice[kSliceDepth * kRow];
  const int blocks = (rows + kSlicedRows - 1) / kSlicedRows;  // of much the same size
  const int block = ((rows + blocks - 1) / blocks + kSliceRows - 1) / kSliceRows * kSliceRows;
  for (int first = 0; first < rows; first += block) {
    const int last = first + block < rows ? first + block : rows;
    for (int64_t i = 0; i < k; i += kSliceDepth) {
      const int64_t depth = i + kSliceDepth < k ? kSliceDepth : k - i;
      for (int64_t j = begin; j < end; j += kRow) {
        CopySlice(panel_element(b, panel_stride, i, j), depth, slice);
        const auto tile = [&]<int ROWS>(int r, auto ahead) HWY_ATTR {
          Tile<ROWS, kSliceVectors, kRow>(a + r * a_row + i * a_column, a_row, a_column, slice, depth, ahead,
                                          c + r * c_row + j, c_row, accumulate || i > 0);
        };
        const bool ends = j + kRow >= end;
        const int64_t next_j = ends ? begin : j + kRow, next_i = ends ? i + depth : i;
        const Number *const next = panel_element(b, panel_stride, next_i, next_j);
        int r = first;
        for (; r + kSliceRows <= last; r += kSliceRows) {
          if (r == first)
            tile.template operator()<kSliceRows>(r,
                                                 Ahead{reinterpret_cast<const char *>(next), 64 * sizeof(Number), 1});
          else tile.template operator()<kSliceRows>(r, Nothing());
        }
        ForRest(last - r, [&]<int ROWS>() HWY_ATTR { tile.template operator()<ROWS>(r, Nothing()); });
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
#else
  if (rows >= kWorthSlicing)
    return Sliced(a, a_row, a_column, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
#endif
  for (int64_t j = begin; j < end;) {
    const Number *column = panel_element(b, panel_stride, 0, j);
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

}  // namespace HWY_NAMESPACE
}  // namespace infini
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
