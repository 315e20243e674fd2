// Loads and stores that both kernel files share, for one instruction set.
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

// The bits of f32 lanes rounded to bf16 (ties to even; NaN stays NaN), in the upper half of each lane; what is
// below is not cleared.
HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> RoundedBits([[maybe_unused]] D d, V v) {
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7fffu)), odd);
  const auto quiet = hn::Or(bits, hn::Set(du, 0x400000u));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded);
}

// f32 lanes to where the caller wants them: as they are, or rounded to bf16.
HWY_INLINE void StoreLanes(D d, V v, float *to) { hn::StoreU(v, d, to); }
HWY_INLINE void StoreLanes(D d, V v, uint16_t *to) {
  const hn::Rebind<uint16_t, D> d16;
  hn::StoreU(hn::TruncateTo(d16, hn::ShiftRight<16>(RoundedBits(d, v))), d16, to);
}

// Lanes past `count` are 0 when they are loaded and not written when they are stored.
template <class Number>
struct Rest {
  HWY_ALIGN Number lanes[hn::MaxLanes(D())] = {};
};
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

}  // namespace HWY_NAMESPACE
}  // namespace infini
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
