// Loads, stores and exponentials that the kernel files share, for one instruction set.
#include <cstdint>
#include <cstring>

#include <hwy/highway.h>

#if defined(INFINI_KERNELS_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef INFINI_KERNELS_LANES_INL_H_
#undef INFINI_KERNELS_LANES_INL_H_
#else
#define INFINI_KERNELS_LANES_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace infini {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// The bits of f32 lanes rounded to bf16 (ties to even), in the upper half of each lane; what is below is not cleared.
using Bits = hn::Vec<hn::RebindToUnsigned<D>>;
HWY_INLINE Bits RoundedNumbers(V v) {  // a NaN may become any number
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  return hn::Add(hn::Add(bits, hn::Set(du, 0x7fffu)), odd);
}
HWY_INLINE Bits RoundedBits(V v) {  // NaN stays NaN
  const hn::RebindToUnsigned<D> du;
  const auto quiet = hn::Or(hn::BitCast(du, v), hn::Set(du, 0x400000u));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, RoundedNumbers(v));
}

// e^x, within 1.2 units of the last place; 0 below -87.3, and NaN of NaN. x is at most 88. With x / log(2) = n + f,
// where n is the nearest whole number, it is 2^n times 2^f, and that a polynomial for f from -0.5 to 0.5.
HWY_INLINE V Exp(D d, V x) {
  const V whole = hn::Set(d, 1.44269502f), rest = hn::Set(d, 1.92596299e-8f);  // 1 / log(2)
  const V shift = hn::Set(
      d, 12582912.0f + 127);  // 1.5 * 2^23: sums are whole, and their last bits are n + 127, the exponent of 2^n
  const V shifted = hn::MulAdd(x, whole, shift);
  const V f = hn::MulAdd(x, rest, hn::MulSub(x, whole, hn::Sub(shifted, shift)));
  V power = hn::Set(d, 1.54614449e-4f);
  for (const float c : {1.34004280e-3f, 9.61805694e-3f, 5.55032715e-2f, 0.240226507f, 0.693147182f, 1.0f})
    power = hn::MulAdd(power, f, hn::Set(d, c));
  const V size = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(hn::RebindToUnsigned<D>(), shifted)));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.3f)), hn::Mul(power, size));
}
// 1 / (1 + e^-x), and 0 below -88.
HWY_INLINE V Sigmoid(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -88.0f)), hn::Div(one, hn::Add(one, Exp(d, hn::Neg(x)))));
}

// GELU of g, by its tanh u: (1 + tanh(u)) / 2 is the sigmoid of 2 u = g (linear + cubic g^2).
constexpr float kGeluLinear = 1.5957691216057308f, kGeluCubic = 0.0713548162726f;

// f32 lanes to where the caller wants them: as they are, or rounded to bf16.
HWY_INLINE void StoreLanes(D d, V v, float *to) { hn::StoreU(v, d, to); }
HWY_INLINE hn::Vec<hn::Rebind<uint16_t, D>> Bf16(V v) {
  return hn::TruncateTo(hn::Rebind<uint16_t, D>(), hn::ShiftRight<16>(RoundedBits(v)));
}
HWY_INLINE void StoreLanes(D, V v, uint16_t *to) { hn::StoreU(Bf16(v), hn::Rebind<uint16_t, D>(), to); }
// Two vectors, side by side, in fewer steps: RoundedNumbers.
HWY_INLINE void StoreTwo(D d, V v0, V v1, float *to) {
  hn::StoreU(v0, d, to);
  hn::StoreU(v1, d, to + hn::Lanes(d));
}
HWY_INLINE void StoreTwo([[maybe_unused]] D d, V v0, V v1, uint16_t *to) {
#if HWY_TARGET == HWY_SCALAR
  StoreLanes(d, v0, to);
  StoreLanes(d, v1, to + 1);
#else
  const hn::Repartition<uint16_t, D> d16;
  hn::StoreU(hn::ConcatOdd(d16, hn::BitCast(d16, RoundedNumbers(v1)), hn::BitCast(d16, RoundedNumbers(v0))), d16, to);
#endif
}

// Lanes past `count` are 0 when they are loaded and not written when they are stored.
template <class Number>
struct Rest {
  HWY_ALIGN Number lanes[hn::MaxLanes(D())] = {};
};
#if HWY_MEM_OPS_MIGHT_FAULT  // where masks are not the processor's own, whole vectors may be touched
HWY_INLINE V LoadRest(D d, const float *from, int64_t count) {
  Rest<float> rest;
  std::memcpy(rest.lanes, from, static_cast<size_t>(count) * sizeof(float));
  return hn::Load(d, rest.lanes);
}
template <class Number>
HWY_INLINE void StoreRest(D d, V v, int64_t count, Number *to) {
  Rest<Number> rest;
  StoreLanes(d, v, rest.lanes);
  std::memcpy(to, rest.lanes, static_cast<size_t>(count) * sizeof(Number));
}
#else
HWY_INLINE V LoadRest(D d, const float *from, int64_t count) {
  return hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(count)), d, from);
}
HWY_INLINE void StoreRest(D d, V v, int64_t count, float *to) {
  hn::BlendedStore(v, hn::FirstN(d, static_cast<size_t>(count)), d, to);
}
HWY_INLINE void StoreRest(D, V v, int64_t count, uint16_t *to) {
  const hn::Rebind<uint16_t, D> d16;
  hn::BlendedStore(Bf16(v), hn::FirstN(d16, static_cast<size_t>(count)), d16, to);
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace infini
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
