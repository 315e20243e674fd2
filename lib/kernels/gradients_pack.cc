// The packing of gradients.h for every instruction set: this file includes itself once for each (Highway's
// foreach_target).
#include "kernels/gradients.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gradients_pack.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/rest-inl.h"

HWY_BEFORE_NAMESPACE();
namespace infini {
namespace HWY_NAMESPACE {

void PackRowsF32(const float *from, int64_t stride, int64_t k, int64_t n, float *panels, int64_t panel_stride) {
  for (int64_t j = 0; j < n; j += kPanel) {
    const int64_t inside = n - j < kPanel ? n - j : kPanel;
    float *to = panel_element(panels, panel_stride, 0, j);
    for (int64_t i = 0; i < k; ++i, to += kPanel) {
      std::memcpy(to, from + i * stride + j, static_cast<size_t>(inside) * sizeof(float));
      if (inside < kPanel) std::memset(to + inside, 0, static_cast<size_t>(kPanel - inside) * sizeof(float));
    }
  }
}

// Lane j: the bf16 of `even` below, that of `odd` above.
HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> Pair(V even, V odd) {
  const hn::RebindToUnsigned<D> du;
  return hn::Or(hn::ShiftRight<16>(RoundedBits(even)), hn::And(RoundedBits(odd), hn::Set(du, 0xffff0000u)));
}

void PackRowsBf16(const float *from, int64_t stride, int64_t k, int64_t n, uint16_t *panels, int64_t panel_stride) {
  const D d;
  const hn::RebindToUnsigned<D> du;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t j = 0; j < n; j += kPanel) {
    auto *to = reinterpret_cast<uint32_t *>(panel_element(panels, panel_stride, 0, j));
    for (int64_t i = 0; i < k; i += 2, to += kPanel) {
      const float *even = from + i * stride, *odd = even + stride;
      for (int64_t c = 0; c < kPanel; c += lanes) {
        const int64_t left = n - j - c;
        const V below = left > 0 ? Load(d, even + j + c, left) : hn::Zero(d);
        const V above = left > 0 && i + 1 < k ? Load(d, odd + j + c, left) : hn::Zero(d);
        hn::StoreU(Pair(below, above), du, to + c);
      }
    }
  }
}

void PackRows16(const uint16_t *from, int64_t stride, int64_t k, int64_t n, uint16_t *panels, int64_t panel_stride) {
  const D d;
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint16_t, D> d16;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t j = 0; j < n; j += kPanel) {
    auto *to = reinterpret_cast<uint32_t *>(panel_element(panels, panel_stride, 0, j));
    for (int64_t i = 0; i < k; i += 2, to += kPanel) {
      const uint16_t *even = from + i * stride + j, *odd = even + stride;
      int64_t c = 0;
      for (; c + lanes <= kPanel && j + c + lanes <= n; c += lanes) {
        auto pair = hn::PromoteTo(du, hn::LoadU(d16, even + c));
        if (i + 1 < k) pair = hn::Or(pair, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, odd + c))));
        hn::StoreU(pair, du, to + c);
      }
      for (; c < kPanel; ++c) {
        const bool inside = j + c < n;
        to[c] = (inside ? even[c] : 0u) | (inside && i + 1 < k ? static_cast<uint32_t>(odd[c]) << 16 : 0u);
      }
    }
  }
}

void UnpackRows16(const uint16_t *panel, int64_t k, int64_t n, uint16_t *to, int64_t stride) {
  const D d;
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint16_t, D> d16;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < k; i += 2, panel += 2 * kPanel) {
    const auto *pairs = reinterpret_cast<const uint32_t *>(panel);
    uint16_t *even = to + i * stride, *odd = even + stride;
    int64_t c = 0;
    for (; c + lanes <= n; c += lanes) {
      const auto pair = hn::LoadU(du, pairs + c);
      hn::StoreU(hn::TruncateTo(d16, pair), d16, even + c);
      if (i + 1 < k) hn::StoreU(hn::TruncateTo(d16, hn::ShiftRight<16>(pair)), d16, odd + c);
    }
    for (; c < n; ++c) {
      even[c] = static_cast<uint16_t>(pairs[c]);
      if (i + 1 < k) odd[c] = static_cast<uint16_t>(pairs[c] >> 16);
    }
  }
}

#if HWY_TARGET != HWY_SCALAR && !HWY_HAVE_SCALABLE
// Of as many rows as there are lanes, the four numbers from `from` on of every fourth row: one row in four lanes.
template <class Tag>
HWY_INLINE hn::Vec<Tag> LoadBlocks(Tag d, const float *from, int64_t stride) {
  constexpr int64_t kHalf = static_cast<int64_t>(hn::MaxLanes(Tag())) / 2;
  if constexpr (kHalf <= 2) {
    return hn::LoadU(d, from);
  } else {
    const hn::Half<Tag> half;
    return hn::Combine(d, LoadBlocks(half, from + kHalf * stride, stride), LoadBlocks(half, from, stride));
  }
}
#endif

// body(i, column i, column i + 1) for the k columns of `left` rows, as many as there are lanes at most; behind the last
// one and the last row there are zeros. Columns are made of rows four by four: to gather them takes five times as long
// (Zen 4).
template <class Body>
HWY_INLINE void EachTwoColumns(D d, const float *from, int64_t stride, int64_t k, int64_t left, const Body &body) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; left <= 0 && i < k; i += 2) body(i, hn::Zero(d), hn::Zero(d));
#if HWY_TARGET != HWY_SCALAR && !HWY_HAVE_SCALABLE
  if (left >= lanes) {
    const hn::RepartitionToWide<decltype(hn::RebindToUnsigned<D>())> pairs;
    for (; i + 4 <= k; i += 4) {
      const V a = LoadBlocks(d, from + i, stride), b = LoadBlocks(d, from + i + stride, stride);
      const V c = LoadBlocks(d, from + i + 2 * stride, stride), e = LoadBlocks(d, from + i + 3 * stride, stride);
      const auto ab01 = hn::BitCast(pairs, hn::InterleaveLower(d, a, b)),
                 ab23 = hn::BitCast(pairs, hn::InterleaveUpper(d, a, b));
      const auto ce01 = hn::BitCast(pairs, hn::InterleaveLower(d, c, e)),
                 ce23 = hn::BitCast(pairs, hn::InterleaveUpper(d, c, e));
      body(i, hn::BitCast(d, hn::InterleaveLower(pairs, ab01, ce01)),
           hn::BitCast(d, hn::InterleaveUpper(pairs, ab01, ce01)));
      body(i + 2, hn::BitCast(d, hn::InterleaveLower(pairs, ab23, ce23)),
           hn::BitCast(d, hn::InterleaveUpper(pairs, ab23, ce23)));
    }
  }
#endif
  const auto column = [&](int64_t at) {
    Rest<float> rest;
    for (int64_t lane = 0; at < k && lane < std::min(left, lanes); ++lane) rest.lanes[lane] = from[lane * stride + at];
    return hn::Load(d, rest.lanes);
  };
  for (; i < k; i += 2) body(i, column(i), column(i + 1));
}

void PackColumnsF32(const float *from, int64_t stride, int64_t k, int64_t n, float *panels, int64_t panel_stride) {
  const D d;
  for (int64_t j = 0; j < (n + kPanel - 1) / kPanel * kPanel; j += static_cast<int64_t>(hn::Lanes(d))) {
    float *to = panel_element(panels, panel_stride, 0, j);
    EachTwoColumns(d, from + j * stride, stride, k, n - j, [&](int64_t i, V even, V odd) {
      hn::StoreU(even, d, to + i * kPanel);
      if (i + 1 < k) hn::StoreU(odd, d, to + (i + 1) * kPanel);
    });
  }
}

void PackColumnsBf16(const float *from, int64_t stride, int64_t k, int64_t n, uint16_t *panels, int64_t panel_stride) {
  const D d;
  const hn::RebindToUnsigned<D> du;
  for (int64_t j = 0; j < (n + kPanel - 1) / kPanel * kPanel; j += static_cast<int64_t>(hn::Lanes(d))) {
    auto *to = reinterpret_cast<uint32_t *>(panel_element(panels, panel_stride, 0, j));
    EachTwoColumns(d, from + j * stride, stride, k, n - j,
                   [&](int64_t i, V even, V odd) { hn::StoreU(Pair(even, odd), du, to + i / 2 * kPanel); });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace infini
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace infini {

HWY_EXPORT(PackRowsF32);
HWY_EXPORT(PackRowsBf16);
HWY_EXPORT(PackRows16);
HWY_EXPORT(UnpackRows16);
HWY_EXPORT(PackColumnsF32);
HWY_EXPORT(PackColumnsBf16);

void pack_rows(const float *from, int64_t stride, int64_t k, int64_t n, float *panels, int64_t panel_stride) {
  HWY_DYNAMIC_DISPATCH(PackRowsF32)(from, stride, k, n, panels, panel_stride);
}
void pack_rows(const float *from, int64_t stride, int64_t k, int64_t n, uint16_t *panels, int64_t panel_stride) {
  HWY_DYNAMIC_DISPATCH(PackRowsBf16)(from, stride, k, n, panels, panel_stride);
}
void pack_rows(const uint16_t *from, int64_t stride, int64_t k, int64_t n, uint16_t *panels, int64_t panel_stride) {
  HWY_DYNAMIC_DISPATCH(PackRows16)(from, stride, k, n, panels, panel_stride);
}
void unpack_rows(const uint16_t *panel, int64_t k, int64_t n, uint16_t *to, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(UnpackRows16)(panel, k, n, to, stride);
}
void pack_columns(const float *from, int64_t stride, int64_t k, int64_t n, float *panels, int64_t panel_stride) {
  HWY_DYNAMIC_DISPATCH(PackColumnsF32)(from, stride, k, n, panels, panel_stride);
}
void pack_columns(const float *from, int64_t stride, int64_t k, int64_t n, uint16_t *panels, int64_t panel_stride) {
  HWY_DYNAMIC_DISPATCH(PackColumnsBf16)(from, stride, k, n, panels, panel_stride);
}

}  // namespace infini
#endif  // HWY_ONCE
