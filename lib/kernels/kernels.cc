// kernels.h for every instruction set: this file includes itself once for each (Highway's foreach_target).
#include "kernels/kernels.h"

#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/lanes-inl.h"
#include "kernels/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace infini {
namespace HWY_NAMESPACE {

#if HWY_MAX_BYTES >= 64
int ProductRows() { return product::kMostTogether; }
#else
int ProductRows() { return product::kSlicedRows; }
#endif
void PanelProductF32(const float *a, int64_t a_row, int64_t a_column, int rows, const float *b, int64_t panel_stride,
                     int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate) {
  product::Product(a, a_row, a_column, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
}
void PanelProductBf16(const float *a, int64_t a_row, int64_t a_column, int rows, const uint16_t *b,
                      int64_t panel_stride, int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row,
                      bool accumulate) {
  product::Product(a, a_row, a_column, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
}
namespace hn = hwy::HWY_NAMESPACE;

// y[i] = f(x1[i], x2[i]) for every i.
template <class Number, class Function>
HWY_INLINE void Map(const float *x1, const float *x2, int64_t n, Number *y, const Function &f) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) StoreLanes(d, f(hn::LoadU(d, x1 + i), hn::LoadU(d, x2 + i)), y + i);
  if (i < n) StoreRest(d, f(LoadRest(d, x1 + i, n - i), LoadRest(d, x2 + i, n - i)), n - i, y + i);
}

template <class Number>
HWY_INLINE void RmsNorm(const float *x, const float *weight, int64_t n, float epsilon, Number *y) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V squares = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V v = hn::LoadU(d, x + i);
    squares = hn::MulAdd(v, v, squares);
  }
  if (i < n) {
    const V v = LoadRest(d, x + i, n - i);
    squares = hn::MulAdd(v, v, squares);
  }
  const float mean = hn::GetLane(hn::SumOfLanes(d, squares)) / static_cast<float>(n);
  const V scale = hn::Set(d, 1.0f / std::sqrt(mean + epsilon));
  Map(x, weight, n, y, [&](V v, V w) { return hn::Mul(hn::Mul(v, scale), w); });
}
void RmsNormF32(const float *x, const float *weight, int64_t n, float epsilon, float *y) {
  RmsNorm(x, weight, n, epsilon, y);
}
void RmsNormBf16(const float *x, const float *weight, int64_t n, float epsilon, uint16_t *y) {
  RmsNorm(x, weight, n, epsilon, y);
}

template <class Number>
HWY_INLINE void SiluMultiply(const float *gate, const float *up, int64_t n, Number *y) {
  const D d;
  Map(gate, up, n, y, [&](V g, V u) { return hn::Mul(hn::Mul(g, Sigmoid(d, g)), u); });
}
void SiluMultiplyF32(const float *gate, const float *up, int64_t n, float *y) { SiluMultiply(gate, up, n, y); }
void SiluMultiplyBf16(const float *gate, const float *up, int64_t n, uint16_t *y) { SiluMultiply(gate, up, n, y); }

template <class Number>
HWY_INLINE void GeluMultiply(const float *gate, const float *up, int64_t n, Number *y) {
  const D d;
  const V linear = hn::Set(d, kGeluLinear), cubic = hn::Set(d, kGeluCubic);
  Map(gate, up, n, y, [&](V g, V u) {
    const V inner = hn::Mul(g, hn::MulAdd(hn::Mul(g, g), cubic, linear));
    return hn::Mul(hn::Mul(g, Sigmoid(d, inner)), u);
  });
}
void GeluMultiplyF32(const float *gate, const float *up, int64_t n, float *y) { GeluMultiply(gate, up, n, y); }
void GeluMultiplyBf16(const float *gate, const float *up, int64_t n, uint16_t *y) { GeluMultiply(gate, up, n, y); }

void SoftCap(float *x, int64_t n, float cap) {
  const D d;
  const V c = hn::Set(d, cap), inverse = hn::Set(d, 1 / cap), one = hn::Set(d, 1.0f);
  Map(x, x, n, x, [&](V v, V) {
    // tanh near zero by its continued fraction, which keeps small numbers' digits, and elsewhere by the sigmoid.
    const V u = hn::Mul(v, inverse), square = hn::Mul(u, u);
    const V above = hn::MulAdd(hn::MulAdd(hn::Add(square, hn::Set(d, 378.0f)), square, hn::Set(d, 17325.0f)), square,
                               hn::Set(d, 135135.0f));
    const V below =
        hn::MulAdd(hn::MulAdd(hn::MulAdd(hn::Set(d, 28.0f), square, hn::Set(d, 3150.0f)), square, hn::Set(d, 62370.0f)),
                   square, hn::Set(d, 135135.0f));
    const V small = hn::Mul(u, hn::Div(above, below)), s = Sigmoid(d, hn::Add(u, u));
    return hn::Mul(c, hn::IfThenElse(hn::Lt(square, one), small, hn::Sub(hn::Add(s, s), one)));
  });
}

void Rotate(const float *x, const float *cosine, const float *sine, int64_t n, bool adjacent, float scale, float *y) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), half = n / 2;
  const V s = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    V x0, x1;
    if (adjacent) {
      hn::LoadInterleaved2(d, x + 2 * i, x0, x1);
    } else {
      x0 = hn::LoadU(d, x + i);
      x1 = hn::LoadU(d, x + i + half);
    }
    x0 = hn::Mul(x0, s);
    x1 = hn::Mul(x1, s);
    const V c = hn::LoadU(d, cosine + i), t = hn::LoadU(d, sine + i);
    const V y0 = hn::NegMulAdd(x1, t, hn::Mul(x0, c)), y1 = hn::MulAdd(x0, t, hn::Mul(x1, c));
    if (adjacent) {
      hn::StoreInterleaved2(y0, y1, d, y + 2 * i);
    } else {
      hn::StoreU(y0, d, y + i);
      hn::StoreU(y1, d, y + i + half);
    }
  }
  for (; i < half; ++i) {
    const int64_t first = adjacent ? 2 * i : i, second = adjacent ? 2 * i + 1 : i + half;
    const float x0 = x[first] * scale, x1 = x[second] * scale;
    y[first] = x0 * cosine[i] - x1 * sine[i];
    y[second] = x0 * sine[i] + x1 * cosine[i];
  }
}

void EluPlusOne(const float *x, int64_t n, float *y) {
  const D d;
  const V zero = hn::Zero(d), one = hn::Set(d, 1.0f);
  Map(x, x, n, y, [&](V v, V) { return hn::IfThenElse(hn::Gt(v, zero), hn::Add(v, one), Exp(d, v)); });
}

HWY_INLINE float Maximum(const float *x, int64_t n) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const float least = -std::numeric_limits<float>::infinity();
  V v = hn::Set(d, least), v1 = v, v2 = v, v3 = v;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    v = hn::Max(v, hn::LoadU(d, x + i));
    v1 = hn::Max(v1, hn::LoadU(d, x + i + lanes));
    v2 = hn::Max(v2, hn::LoadU(d, x + i + 2 * lanes));
    v3 = hn::Max(v3, hn::LoadU(d, x + i + 3 * lanes));
  }
  v = hn::Max(hn::Max(v, v1), hn::Max(v2, v3));
  for (; i + lanes <= n; i += lanes) v = hn::Max(v, hn::LoadU(d, x + i));
  if (i < n)
    v = hn::Max(
        v, hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(n - i)), LoadRest(d, x + i, n - i), hn::Set(d, least)));
  return hn::GetLane(hn::MaxOfLanes(d, v));
}

template <class Number>
HWY_INLINE SoftmaxPart PartOfSoftmax(const float *scores, int64_t valid, int64_t n, Number *p) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  SoftmaxPart part{Maximum(scores, valid), 0};
  const V maximum = hn::Set(d, part.maximum);
  const auto weight = [&](V score) HWY_ATTR { return Exp(d, hn::Sub(score, maximum)); };
  V sum = hn::Zero(d), sum1 = sum;
  int64_t i = 0;
  for (; i + 2 * lanes <= valid; i += 2 * lanes) {  // where a score is NaN, the sum is, whatever its weight is
    const V e = weight(hn::LoadU(d, scores + i)), e1 = weight(hn::LoadU(d, scores + i + lanes));
    sum = hn::Add(sum, e);
    sum1 = hn::Add(sum1, e1);
    StoreTwo(d, e, e1, p + i);
  }
  sum = hn::Add(sum, sum1);
  for (; i + lanes <= valid; i += lanes) {
    const V e = weight(hn::LoadU(d, scores + i));
    sum = hn::Add(sum, e);
    StoreLanes(d, e, p + i);
  }
  if (i < valid) {
    const auto inside = hn::FirstN(d, static_cast<size_t>(valid - i));
    const V e = hn::IfThenElseZero(inside, weight(LoadRest(d, scores + i, valid - i)));
    sum = hn::Add(sum, e);
    StoreRest(d, e, valid - i, p + i);
  }
  std::memset(p + valid, 0, static_cast<size_t>(n - valid) * sizeof(Number));
  part.sum = hn::GetLane(hn::SumOfLanes(d, sum));
  return part;
}
SoftmaxPart SoftmaxPartF32(const float *scores, int64_t valid, int64_t n, float *p) {
  return PartOfSoftmax(scores, valid, n, p);
}
SoftmaxPart SoftmaxPartBf16(const float *scores, int64_t valid, int64_t n, uint16_t *p) {
  return PartOfSoftmax(scores, valid, n, p);
}

float Dot(const float *x, const float *y, int64_t n) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) sum = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), sum);
  if (i < n) sum = hn::MulAdd(LoadRest(d, x + i, n - i), LoadRest(d, y + i, n - i), sum);
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

void AddScaled(const float *x, float scale, int64_t n, float *y) {
  const D d;
  const V s = hn::Set(d, scale);
  Map(x, y, n, y, [&](V v, V w) { return hn::MulAdd(v, s, w); });
}

template <class Number>
HWY_INLINE void MixTo(const float *x, float x_scale, const float *y, float y_scale, int64_t n, Number *out) {
  const D d;
  const V xs = hn::Set(d, x_scale), ys = hn::Set(d, y_scale);
  Map(x, y, n, out, [&](V v, V w) { return hn::MulAdd(v, xs, hn::Mul(w, ys)); });
}
void MixF32(const float *x, float x_scale, const float *y, float y_scale, int64_t n, float *out) {
  MixTo(x, x_scale, y, y_scale, n, out);
}
void MixBf16(const float *x, float x_scale, const float *y, float y_scale, int64_t n, uint16_t *out) {
  MixTo(x, x_scale, y, y_scale, n, out);
}

void Widen(const uint16_t *x, int64_t n, float *y) {
  const D d;
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> du;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, x + i)))), d, y + i);
  for (; i < n; ++i) {
    const uint32_t bits = static_cast<uint32_t>(x[i]) << 16;
    std::memcpy(y + i, &bits, sizeof bits);
  }
}

void WidenPanel(const uint16_t *x, int64_t k, float *y) {
  product::WidenColumns<kPanel / static_cast<int>(hn::MaxLanes(product::D()))>(x, k, y);
}

void Narrow(const float *x, int64_t n, uint16_t *y) {
  Map(x, x, n, y, [](V v, V) { return v; });
}

float LogSumExp(const float *x, int64_t n) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const float maximum = Maximum(x, n);
  const V m = hn::Set(d, maximum);
  double total = 0;  // the vocabulary may be large: sums of 4,096 are added in double
  for (int64_t begin = 0; begin < n; begin += 4096) {
    const int64_t end = begin + 4096 < n ? begin + 4096 : n;
    V sum = hn::Zero(d);
    int64_t i = begin;
    for (; i + lanes <= end; i += lanes) sum = hn::Add(sum, Exp(d, hn::Sub(hn::LoadU(d, x + i), m)));
    total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
    for (; i < end; ++i) total += std::exp(static_cast<double>(x[i]) - static_cast<double>(maximum));
  }
  return static_cast<float>(static_cast<double>(maximum) + std::log(total));
}

}  // namespace HWY_NAMESPACE
}  // namespace infini
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace infini {

HWY_EXPORT(PanelProductF32);
HWY_EXPORT(ProductRows);
HWY_EXPORT(PanelProductBf16);
HWY_EXPORT(RmsNormF32);
HWY_EXPORT(RmsNormBf16);
HWY_EXPORT(SiluMultiplyF32);
HWY_EXPORT(SiluMultiplyBf16);
HWY_EXPORT(GeluMultiplyF32);
HWY_EXPORT(GeluMultiplyBf16);
HWY_EXPORT(SoftCap);
HWY_EXPORT(Rotate);
HWY_EXPORT(EluPlusOne);
HWY_EXPORT(SoftmaxPartF32);
HWY_EXPORT(SoftmaxPartBf16);
HWY_EXPORT(Dot);
HWY_EXPORT(AddScaled);
HWY_EXPORT(MixF32);
HWY_EXPORT(MixBf16);
HWY_EXPORT(Widen);
HWY_EXPORT(WidenPanel);
HWY_EXPORT(Narrow);
HWY_EXPORT(LogSumExp);

int product_rows() { return HWY_DYNAMIC_DISPATCH(ProductRows)(); }
void panel_product(const float *a, int64_t a_row, int64_t a_column, int rows, const float *b, int64_t panel_stride,
                   int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(PanelProductF32)(a, a_row, a_column, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
}
void panel_product(const float *a, int64_t a_row, int64_t a_column, int rows, const uint16_t *b, int64_t panel_stride,
                   int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(PanelProductBf16)
  (a, a_row, a_column, rows, b, panel_stride, k, begin, end, c, c_row, accumulate);
}
void rms_norm(const float *x, const float *weight, int64_t n, float epsilon, float *y) {
  HWY_DYNAMIC_DISPATCH(RmsNormF32)(x, weight, n, epsilon, y);
}
void rms_norm(const float *x, const float *weight, int64_t n, float epsilon, uint16_t *y) {
  HWY_DYNAMIC_DISPATCH(RmsNormBf16)(x, weight, n, epsilon, y);
}
void silu_multiply(const float *gate, const float *up, int64_t n, float *y) {
  HWY_DYNAMIC_DISPATCH(SiluMultiplyF32)(gate, up, n, y);
}
void silu_multiply(const float *gate, const float *up, int64_t n, uint16_t *y) {
  HWY_DYNAMIC_DISPATCH(SiluMultiplyBf16)(gate, up, n, y);
}
void gelu_multiply(const float *gate, const float *up, int64_t n, float *y) {
  HWY_DYNAMIC_DISPATCH(GeluMultiplyF32)(gate, up, n, y);
}
void gelu_multiply(const float *gate, const float *up, int64_t n, uint16_t *y) {
  HWY_DYNAMIC_DISPATCH(GeluMultiplyBf16)(gate, up, n, y);
}
void soft_cap(float *x, int64_t n, float cap) { HWY_DYNAMIC_DISPATCH(SoftCap)(x, n, cap); }
void rotate(const float *x, const float *cosine, const float *sine, int64_t n, bool adjacent, float scale, float *y) {
  HWY_DYNAMIC_DISPATCH(Rotate)(x, cosine, sine, n, adjacent, scale, y);
}
void elu_plus_one(const float *x, int64_t n, float *y) { HWY_DYNAMIC_DISPATCH(EluPlusOne)(x, n, y); }
SoftmaxPart softmax_part(const float *scores, int64_t valid, int64_t n, float *p) {
  return HWY_DYNAMIC_DISPATCH(SoftmaxPartF32)(scores, valid, n, p);
}
SoftmaxPart softmax_part(const float *scores, int64_t valid, int64_t n, uint16_t *p) {
  return HWY_DYNAMIC_DISPATCH(SoftmaxPartBf16)(scores, valid, n, p);
}
float dot(const float *x, const float *y, int64_t n) { return HWY_DYNAMIC_DISPATCH(Dot)(x, y, n); }
void add_scaled(const float *x, float scale, int64_t n, float *y) { HWY_DYNAMIC_DISPATCH(AddScaled)(x, scale, n, y); }
void mix(const float *x, float x_scale, const float *y, float y_scale, int64_t n, float *out) {
  HWY_DYNAMIC_DISPATCH(MixF32)(x, x_scale, y, y_scale, n, out);
}
void mix(const float *x, float x_scale, const float *y, float y_scale, int64_t n, uint16_t *out) {
  HWY_DYNAMIC_DISPATCH(MixBf16)(x, x_scale, y, y_scale, n, out);
}
void widen(const uint16_t *x, int64_t n, float *y) { HWY_DYNAMIC_DISPATCH(Widen)(x, n, y); }
void widen_panel(const uint16_t *x, int64_t k, float *y) { HWY_DYNAMIC_DISPATCH(WidenPanel)(x, k, y); }
void narrow(const float *x, int64_t n, uint16_t *y) { HWY_DYNAMIC_DISPATCH(Narrow)(x, n, y); }
float log_sum_exp(const float *x, int64_t n) { return HWY_DYNAMIC_DISPATCH(LogSumExp)(x, n); }

}  // namespace infini
#endif  // HWY_ONCE
