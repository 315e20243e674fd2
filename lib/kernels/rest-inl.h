// Loops over any number of elements, for gradients.h: compiled for every instruction set, as lanes-inl.h is.
#if defined(INFINI_KERNELS_REST_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef INFINI_KERNELS_REST_INL_H_
#undef INFINI_KERNELS_REST_INL_H_
#else
#define INFINI_KERNELS_REST_INL_H_
#endif

#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace infini {
namespace HWY_NAMESPACE {

HWY_INLINE V Load(D d, const float *from, int64_t count) {
  return count >= static_cast<int64_t>(hn::Lanes(d)) ? hn::LoadU(d, from) : LoadRest(d, from, count);
}
template <class Number>
HWY_INLINE void Store(D d, V v, int64_t count, Number *to) {
  if (count >= static_cast<int64_t>(hn::Lanes(d))) StoreLanes(d, v, to);
  else StoreRest(d, v, count, to);
}

// body(i, count): from i on there are `count` elements, of which a vector takes as many as it has lanes.
template <class Body>
HWY_INLINE void Each(int64_t n, const Body &body) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  for (int64_t i = 0; i < n; i += lanes) body(i, n - i);
}

}  // namespace HWY_NAMESPACE
}  // namespace infini
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
