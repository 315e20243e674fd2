// The kernels of int8_panel.h for every instruction set: this file includes itself once for each (Highway's
// foreach_target).
#include "kernels/int8_panel.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/int8_panel.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/product-inl.h"
#include "kernels/rest-inl.h"

HWY_BEFORE_NAMESPACE();
namespace infini {
namespace HWY_NAMESPACE {

void PanelProductI8(const float *a, int64_t a_row, int64_t a_column, int rows, const int8_t *b, int64_t panel_stride,
                    int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate) {
  product::Product(a, a_row, a_column, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
}

float ToInt8(const float *x, int64_t n, int8_t *y) {
  const D d;
  const hn::RebindToSigned<D> di;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V largest = hn::Zero(d), zeros = hn::Zero(d);  // or NaN, where a number is not finite
  Each(n, [&](int64_t i, int64_t count) HWY_ATTR {
    const V number = Load(d, x + i, count);
    largest = hn::Max(largest, hn::Abs(number));
    zeros = hn::MulAdd(number, hn::Zero(d), zeros);
  });
  const float scale = hn::GetLane(hn::MaxOfLanes(d, largest)) / 127 + hn::GetLane(hn::SumOfLanes(d, zeros));
  const V inverse = hn::Set(d, scale > 1e-30f ? 1 / scale : 0);
  HWY_ALIGN int32_t whole[hn::MaxLanes(D())];
  Each(n, [&](int64_t i, int64_t count) HWY_ATTR {
    hn::Store(hn::NearestInt(hn::Mul(Load(d, x + i, count), inverse)), di, whole);
    for (int64_t j = 0; j < std::min(count, lanes); ++j) y[i + j] = static_cast<int8_t>(whole[j]);
  });
  return scale;
}

// Rows i and i + 1 to where they go in a panel.
HWY_INLINE void StoreRows(D d, V even, V odd, float *to) {
  hn::StoreU(even, d, to);
  hn::StoreU(odd, d, to + kPanel);
}
HWY_INLINE void StoreRows(D, V even, V odd, uint16_t *to) {  // pairs; even below
  const hn::RebindToUnsigned<D> du;
  const auto below = hn::ShiftRight<16>(RoundedNumbers(even)),
             above = hn::And(RoundedNumbers(odd), hn::Set(du, 0xffff0000u));
  hn::StoreU(hn::Or(below, above), du, reinterpret_cast<uint32_t *>(to));
}

template <class Number>
HWY_INLINE void WidenRows(const int8_t *x, int64_t k, ScaleOf of, const float *scale, Number *y) {
  const D d;
  const hn::RebindToSigned<D> di;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  constexpr int64_t kTogether = 4 / sizeof(Number);  // columns of a row are so far apart
  for (int64_t i = 0; i < k; i += 4, x += 4 * kPanel, y += 4 * kPanel) {
    for (int64_t j = 0; j < kPanel; j += lanes) {
      const auto four = hn::LoadU(di, reinterpret_cast<const int32_t *>(x) + j);
      const auto number = [&]<int ROW>() HWY_ATTR {
        const V by = of == ScaleOf::COLUMN ? hn::LoadU(d, scale + j) : hn::Set(d, i + ROW < k ? scale[i + ROW] : 0);
        return hn::Mul(hn::ConvertTo(d, hn::ShiftRight<24>(hn::ShiftLeft<24 - 8 * ROW>(four))), by);
      };
      StoreRows(d, number.template operator()<0>(), number.template operator()<1>(), y + kTogether * j);
      StoreRows(d, number.template operator()<2>(), number.template operator()<3>(), y + 2 * kPanel + kTogether * j);
    }
  }
}
void WidenF32(const int8_t *x, int64_t k, ScaleOf of, const float *scale, float *y) { WidenRows(x, k, of, scale, y); }
void WidenBf16(const int8_t *x, int64_t k, ScaleOf of, const float *scale, uint16_t *y) {
  WidenRows(x, k, of, scale, y);
}

void Multiply(const float *scale, int64_t n, float *y) {
  const D d;
  Each(n, [&](int64_t i, int64_t count)
              HWY_ATTR { Store(d, hn::Mul(Load(d, scale + i, count), Load(d, y + i, count)), count, y + i); });
}

}  // namespace HWY_NAMESPACE
}  // namespace infini
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace infini {

HWY_EXPORT(PanelProductI8);
HWY_EXPORT(ToInt8);
HWY_EXPORT(WidenF32);
HWY_EXPORT(WidenBf16);
HWY_EXPORT(Multiply);

void panel_product(const float *a, int64_t a_row, int64_t a_column, int rows, const int8_t *b, int64_t panel_stride,
                   int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(PanelProductI8)(a, a_row, a_column, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
}
float to_int8(const float *x, int64_t n, int8_t *y) { return HWY_DYNAMIC_DISPATCH(ToInt8)(x, n, y); }
void widen_panel(const int8_t *x, int64_t k, ScaleOf of, const float *scale, float *y) {
  HWY_DYNAMIC_DISPATCH(WidenF32)(x, k, of, scale, y);
}
void widen_panel(const int8_t *x, int64_t k, ScaleOf of, const float *scale, uint16_t *y) {
  HWY_DYNAMIC_DISPATCH(WidenBf16)(x, k, of, scale, y);
}
void multiply(const float *scale, int64_t n, float *y) { HWY_DYNAMIC_DISPATCH(Multiply)(scale, n, y); }

}  // namespace infini
#endif
