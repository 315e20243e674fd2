// blocks.h for every instruction set: this file includes itself once for each (Highway's foreach_target), and
// blocks-inl.h once for each kind of byte product that the set has: four products at once (VNNI, or ARM's dot
// products), pairs of them in 16 bits. Sets without either have the plain references, which nothing fast should ask
// for.
#include "kernels/blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/blocks_scalar.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/blocks.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace infini {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
#define INFINI_BLOCK_VECTORS 1
#else
#define INFINI_BLOCK_VECTORS 0
#endif

#if INFINI_BLOCK_VECTORS
namespace blocks {

using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
using Bytes = hn::Repartition<uint8_t, D>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(D())), kVectors = kStrip / kLanes, kByteLanes = 4 * kLanes;
using Whole = hn::Vec<hn::Rebind<int32_t, D>>;

HWY_INLINE int32_t Quad(const int8_t *a) {
  int32_t quad;
  std::memcpy(&quad, a, sizeof quad);
  return quad;
}
// Of a row, where nothing else is needed.
template <bool WIDE>
HWY_INLINE Whole RowOf(const int8_t *a) {
  return hn::Set(hn::Rebind<int32_t, D>(), Quad(a));
}
// Where products are summed in 32 bits at once.
namespace at_once {
using Held = Whole;
constexpr int kWidePlanes = 1;
constexpr int held_quads(int) { return kBlock / 4; }
HWY_INLINE Held Begin(Whole sum) { return sum; }
HWY_INLINE Whole End(Whole, Held held, int) { return held; }
}  // namespace at_once

#if HWY_TARGET == HWY_NEON
namespace pairs {

using namespace at_once;
constexpr bool kWideApart = true;

// The sum of two products of at most seven bits fits in 16 bits, one of eight unsigned and eight signed bits alone too.
template <bool WIDE>
HWY_INLINE Whole Step(Whole sum, hn::Vec<Bytes> q, Whole row) {
  const int8x16_t a = vreinterpretq_s8_s32(row.raw);
  if constexpr (!WIDE) {
    const int8x16_t b = vreinterpretq_s8_u8(q.raw);
    const int16x8_t low = vmull_s8(vget_low_s8(b), vget_low_s8(a)), high = vmull_high_s8(b, a);
    return Whole{vpadalq_s16(sum.raw, vpaddq_s16(low, high))};
  }
  const int16x8_t wide = vmovl_s8(vget_low_s8(a));
  const int16x8_t low = vmulq_s16(vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(q.raw))), wide),
                  high = vmulq_s16(vreinterpretq_s16_u16(vmovl_high_u8(q.raw)), wide);
  return Whole{vaddq_s32(sum.raw, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)))};
}

#include "kernels/blocks-inl.h"

}  // namespace pairs
#else
// Products of bytes, summed over neighbours: of two in 16 bits, of two of those in 32.
HWY_INLINE auto PairSums(__m256i q, __m256i a) { return _mm256_maddubs_epi16(q, a); }
HWY_INLINE auto QuadSums(__m256i pairs, __m256i by) { return _mm256_madd_epi16(pairs, by); }
#if HWY_MAX_BYTES >= 64
HWY_INLINE auto PairSums(__m512i q, __m512i a) { return _mm512_maddubs_epi16(q, a); }
HWY_INLINE auto QuadSums(__m512i pairs, __m512i by) { return _mm512_madd_epi16(pairs, by); }
#endif

namespace pairs {

// Pairs of products are summed in 16 bits for as many quads as cannot exceed them: |a| is 127 at most. Weights of eight
// bits are split into two planes of four, of which the upper one counts 16 times.
constexpr bool kWideApart = true;
constexpr int kWidePlanes = 2;
constexpr int held_quads(int bits) {
  const int most = 32767 / (2 * 127 * ((1 << bits) - 1));
  return most >= 8 ? 8 : most >= 4 ? 4 : 2;
}
using Held = hn::Vec<hn::Repartition<int16_t, D>>;
HWY_INLINE Held Begin(Whole) { return hn::Zero(hn::Repartition<int16_t, D>()); }
template <bool WIDE>
HWY_INLINE Held Step(Held held, hn::Vec<Bytes> q, Whole row) {
  held = hn::Add(held, Held{PairSums(q.raw, row.raw)});
  // Compilers would compute all products before they add any, and have no registers left for the sums.
  asm volatile("" : "+v"(held.raw));
  return held;
}
HWY_INLINE Whole End(Whole sum, Held held, int plane) {
  const Held by = hn::Set(hn::Repartition<int16_t, D>(), static_cast<int16_t>(plane == 1 ? 16 : 1));
  return hn::Add(sum, Whole{QuadSums(held.raw, by.raw)});
}

#include "kernels/blocks-inl.h"

}  // namespace pairs
#endif

// The instruction set of this part is wider. Clang takes the outermost of nested attributes, so that one ends here.
HWY_AFTER_NAMESPACE();
#if HWY_TARGET == HWY_NEON
HWY_PUSH_ATTRIBUTES("arch=armv8.2-a+crypto+dotprod")
#elif HWY_TARGET == HWY_AVX2
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avxvnni")
#else
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni")
#endif
namespace quads {

using namespace at_once;
#if HWY_TARGET == HWY_NEON
constexpr bool kWideApart = true;

// The products are of signed numbers: 128 less than eight bits are, and 128 times the sum of the row's numbers.
template <bool WIDE>
struct Row {
  Whole quad, start;
};
template <bool WIDE>
HWY_INLINE Row<WIDE> RowOf(const int8_t *a) {
  const Whole quad = hn::Set(hn::Rebind<int32_t, D>(), Quad(a)), zero = hn::Zero(hn::Rebind<int32_t, D>());
  if constexpr (!WIDE) return {quad, zero};
  return {quad, hn::ShiftLeft<7>(Whole{vdotq_s32(zero.raw, vdupq_n_s8(1), vreinterpretq_s8_s32(quad.raw))})};
}
template <bool WIDE>
HWY_INLINE Whole Step(Whole sum, hn::Vec<Bytes> q, Row<WIDE> row) {
  const int8x16_t a = vreinterpretq_s8_s32(row.quad.raw);
  if constexpr (!WIDE) return Whole{vdotq_s32(sum.raw, vreinterpretq_s8_u8(q.raw), a)};
  const uint8x16_t less = veorq_u8(q.raw, vdupq_n_u8(128));
  return hn::Add(row.start, Whole{vdotq_s32(sum.raw, vreinterpretq_s8_u8(less), a)});
}
#else
constexpr bool kWideApart = false;

template <bool WIDE>
HWY_INLINE Whole Step(Whole sum, hn::Vec<Bytes> q, Whole row) {
#if HWY_TARGET == HWY_AVX2
  return Whole{_mm256_dpbusd_avx_epi32(sum.raw, q.raw, row.raw)};
#else
  return Whole{_mm512_dpbusd_epi32(sum.raw, q.raw, row.raw)};
#endif
}
#endif

#include "kernels/blocks-inl.h"

}  // namespace quads
HWY_POP_ATTRIBUTES
HWY_BEFORE_NAMESPACE();

HWY_INLINE void StorePanel(V even, V odd, float *to) {
  hn::StoreU(even, D(), to);
  hn::StoreU(odd, D(), to + kPanel);
}
HWY_INLINE void StorePanel(V even, V odd, uint16_t *to) {
  const hn::RebindToUnsigned<D> du;
  const auto low = hn::ShiftRight<16>(RoundedBits(even)), high = hn::And(RoundedBits(odd), hn::Set(du, 0xffff0000u));
  hn::StoreU(hn::Or(low, high), du, reinterpret_cast<uint32_t *>(to));
}

template <BlockType TYPE, class Number>
HWY_NOINLINE void Unpack(const uint8_t *strip, int64_t begin, int64_t end, Number *to) {
  constexpr BlockSpec kSpec = spec_of(TYPE);
  const D d;
  const hn::Rebind<int32_t, D> d32;
  const auto mask = hn::Set(d32, 255), offset = hn::Set(d32, kSpec.offset);
  pairs::UnitTile tile;
  for (int64_t i = begin; i < end; i += kSpec.unit()) {
    pairs::UnpackUnit<TYPE>(strip + i / kSpec.unit() * kSpec.unit_bytes(), tile, 0);
    for (int quad = 0; quad < kSpec.unit() / 4; ++quad) {
      for (int v = 0; v < kVectors; ++v) {
        const V scale = hn::Load(d, tile.scales[4 * quad / kSpec.rows] + v * kLanes);
        const V minimum = kSpec.minimum ? hn::Load(d, tile.minimums[4 * quad / kSpec.rows] + v * kLanes) : hn::Zero(d);
        const auto q = hn::BitCast(d32, hn::Load(Bytes(), tile.quads[quad][0] + v * kByteLanes));
        const auto value = [&](auto whole) HWY_ATTR {
          const V number = hn::ConvertTo(d, hn::Sub(hn::And(whole, mask), offset));
          return kSpec.minimum ? hn::Add(hn::Mul(number, scale), minimum) : hn::Mul(number, scale);
        };
        const auto at = [&](int64_t row) HWY_ATTR { return to + panel_offset<Number>(i - begin + row, v * kLanes); };
        StorePanel(value(q), value(hn::ShiftRight<8>(q)), at(4 * quad));
        StorePanel(value(hn::ShiftRight<16>(q)), value(hn::ShiftRight<24>(q)), at(4 * quad + 2));
      }
    }
  }
}

}  // namespace blocks
#endif

void BlockProduct(BlockType type, const BlockRows &x, int64_t rows, const uint8_t *strips, int64_t k, int64_t begin,
                  int64_t end, float *c, int64_t c_row, bool accumulate) {
#if !INFINI_BLOCK_VECTORS
  scalar::block_product(type, x, rows, strips, k, begin, end, c, c_row, accumulate);
#else
  for_block_type(type, [&]<BlockType TYPE>() HWY_ATTR {
    if (has_byte_dot()) return blocks::quads::Product<TYPE>(x, rows, strips, k, begin, end, c, c_row, accumulate);
    blocks::pairs::Product<TYPE>(x, rows, strips, k, begin, end, c, c_row, accumulate);
  });
#endif
}

template <class Number>
HWY_INLINE void UnpackTo(BlockType type, const uint8_t *strip, int64_t begin, int64_t end, Number *to) {
#if !INFINI_BLOCK_VECTORS
  scalar::unpack_strip(type, strip, begin, end, to);
#else
  for_block_type(type, [&]<BlockType TYPE>() HWY_ATTR { blocks::Unpack<TYPE>(strip, begin, end, to); });
#endif
}
void UnpackStripF32(BlockType type, const uint8_t *strip, int64_t begin, int64_t end, float *to) {
  UnpackTo(type, strip, begin, end, to);
}
void UnpackStripBf16(BlockType type, const uint8_t *strip, int64_t begin, int64_t end, uint16_t *to) {
  UnpackTo(type, strip, begin, end, to);
}

void QuantizeRow(BlockType type, const float *x, int64_t k, int64_t row, int group, uint8_t *rows) {
#if !INFINI_BLOCK_VECTORS
  scalar::quantize_row(type, x, k, row, group, rows);
#else
  const hn::CappedTag<float, 16> d;
  const hn::Rebind<int32_t, decltype(d)> d32;
  const hn::Rebind<int8_t, decltype(d)> d8;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(hn::CappedTag<float, 16>()));
  const scalar::BlockRow to(type, k, row, group, rows);
  const BlockSpec &spec = to.spec;
  const int64_t padded = (k + spec.unit() - 1) / spec.unit() * spec.unit();
  HWY_ALIGN float rest[kBlock];
  for (int64_t first = 0; first < padded; first += kBlock) {
    const float *from = x + first;
    if (first + kBlock > k) {
      const int64_t count = k > first ? k - first : 0;
      std::memset(rest, 0, sizeof rest);
      if (count) std::memcpy(rest, from, static_cast<size_t>(count) * sizeof(float));
      from = rest;
    }
    auto most = hn::Zero(d);
    for (int i = 0; i < kBlock; i += kLanes) most = hn::Max(most, hn::Abs(hn::LoadU(d, from + i)));
    const float largest = hn::GetLane(hn::MaxOfLanes(d, most));
    const bool any = largest > 0x1p-120f;
    const auto inverse = hn::Set(d, any ? 127 / largest : 0);
    const float scale = any ? largest / 127 : 0;
    for (int begin = 0; begin < kBlock; begin += spec.rows) {
      const int64_t part = (first + begin) / spec.rows;
      int8_t *const values = to.values(part);
      auto sum = hn::Zero(d32);
      for (int i = 0; i < spec.rows; i += kLanes) {
        const auto whole = hn::NearestInt(hn::Mul(hn::LoadU(d, from + begin + i), inverse));
        sum = hn::Add(sum, whole);
        hn::StoreU(hn::DemoteTo(d8, whole), d8, values + i);
      }
      to.set(part, scale, hn::GetLane(hn::SumOfLanes(d32, sum)));
    }
  }
#endif
}

#undef INFINI_BLOCK_VECTORS
}  // namespace HWY_NAMESPACE
}  // namespace infini
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace infini {

HWY_EXPORT(BlockProduct);
HWY_EXPORT(UnpackStripF32);
HWY_EXPORT(UnpackStripBf16);
HWY_EXPORT(QuantizeRow);

void block_product(BlockType type, const BlockRows &x, int64_t rows, const uint8_t *strips, int64_t k, int64_t begin,
                   int64_t end, float *c, int64_t c_row, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(BlockProduct)(type, x, rows, strips, k, begin, end, c, c_row, accumulate);
}
void unpack_strip(BlockType type, const uint8_t *strip, int64_t begin, int64_t end, float *to) {
  HWY_DYNAMIC_DISPATCH(UnpackStripF32)(type, strip, begin, end, to);
}
void unpack_strip(BlockType type, const uint8_t *strip, int64_t begin, int64_t end, uint16_t *to) {
  HWY_DYNAMIC_DISPATCH(UnpackStripBf16)(type, strip, begin, end, to);
}
void quantize_row(BlockType type, const float *x, int64_t k, int64_t row, int group, uint8_t *rows) {
  HWY_DYNAMIC_DISPATCH(QuantizeRow)(type, x, k, row, group, rows);
}

}  // namespace infini
#endif  // HWY_ONCE
