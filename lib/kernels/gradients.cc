// gradients.h for every instruction set: this file includes itself once for each (Highway's foreach_target).
#include "kernels/gradients.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gradients.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

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
HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> Pair(D d, V even, V odd) {
  const hn::RebindToUnsigned<D> du;
  return hn::Or(hn::ShiftRight<16>(RoundedBits(d, even)), hn::And(RoundedBits(d, odd), hn::Set(du, 0xffff0000u)));
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
        hn::StoreU(Pair(d, below, above), du, to + c);
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
                   [&](int64_t i, V even, V odd) { hn::StoreU(Pair(d, even, odd), du, to + i / 2 * kPanel); });
  }
}

void RotatePairs(const float *x, const float *cosine, const float *sine, int64_t n, float scale, float *y) {
  const D d;
  const V s = hn::Set(d, scale);
  Each(n, [&](int64_t i, int64_t count) {
    const V v = Load(d, x + i, count);
    const V rotated = hn::MulAdd(v, Load(d, cosine + i, count), hn::Mul(hn::Reverse2(d, v), Load(d, sine + i, count)));
    Store(d, hn::Mul(rotated, s), count, y + i);
  });
}

// With s = 1 / sqrt(mean(x^2) + epsilon), y = x s w:  dx = s w dy - x s^3 / n sum(w dy x),  dw = dy x s.
void RmsNormGradient(const float *x, const float *weight, const float *dy, int64_t n, float epsilon, float *dx,
                     float *dweight) {
  const D d;
  V squares = hn::Zero(d), products = hn::Zero(d);
  Each(n, [&](int64_t i, int64_t count) {
    const V v = Load(d, x + i, count);
    squares = hn::MulAdd(v, v, squares);
    products = hn::MulAdd(hn::Mul(v, Load(d, weight + i, count)), Load(d, dy + i, count), products);
  });
  const float size = static_cast<float>(n);
  const float scale = 1.0f / std::sqrt(hn::GetLane(hn::SumOfLanes(d, squares)) / size + epsilon);
  const float along = hn::GetLane(hn::SumOfLanes(d, products)) * scale * scale * scale / size;
  const V s = hn::Set(d, scale), a = hn::Set(d, along);
  Each(n, [&](int64_t i, int64_t count) {
    const V v = Load(d, x + i, count), g = hn::Mul(Load(d, dy + i, count), s);
    const V change = hn::NegMulAdd(v, a, hn::Mul(g, Load(d, weight + i, count)));
    Store(d, hn::Add(Load(d, dx + i, count), change), count, dx + i);
    Store(d, hn::MulAdd(g, v, Load(d, dweight + i, count)), count, dweight + i);
  });
}

template <class Number>
HWY_INLINE void SiluGradient(const float *gate, const float *up, const float *dy, int64_t n, Number *dgate,
                             Number *dup) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  Each(n, [&](int64_t i, int64_t count) {
    const V g = Load(d, gate + i, count), y = Load(d, dy + i, count);
    const V sigmoid = Sigmoid(d, g);
    // silu'(g) = sigmoid (1 + g (1 - sigmoid))
    const V slope = hn::Mul(sigmoid, hn::MulAdd(g, hn::Sub(one, sigmoid), one));
    Store(d, hn::Mul(hn::Mul(y, Load(d, up + i, count)), slope), count, dgate + i);
    Store(d, hn::Mul(y, hn::Mul(g, sigmoid)), count, dup + i);
  });
}
void SiluGradientF32(const float *gate, const float *up, const float *dy, int64_t n, float *dgate, float *dup) {
  SiluGradient(gate, up, dy, n, dgate, dup);
}
void SiluGradientBf16(const float *gate, const float *up, const float *dy, int64_t n, uint16_t *dgate, uint16_t *dup) {
  SiluGradient(gate, up, dy, n, dgate, dup);
}

void SoftmaxGradient(float *scores, float log_sum, float mean, int64_t valid, int64_t n, float *dp) {
  const D d;
  const V l = hn::Set(d, log_sum), m = hn::Set(d, mean);
  Each(valid, [&](int64_t i, int64_t count) {
    const V p = Exp(d, hn::Sub(Load(d, scores + i, count), l));
    Store(d, hn::Mul(p, hn::Sub(Load(d, dp + i, count), m)), count, dp + i);
    Store(d, p, count, scores + i);
  });
  std::memset(scores + valid, 0, static_cast<size_t>(n - valid) * sizeof(float));
  std::memset(dp + valid, 0, static_cast<size_t>(n - valid) * sizeof(float));
}

void AddEluGradient(const float *sigma, const float *dsigma, int64_t n, float *dx) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  Each(n, [&](int64_t i, int64_t count) {
    const V slope = hn::Min(Load(d, sigma + i, count), one);
    Store(d, hn::MulAdd(Load(d, dsigma + i, count), slope, Load(d, dx + i, count)), count, dx + i);
  });
}

template <class Number>
HWY_INLINE float CrossEntropy(const float *logits, int64_t n, int64_t target, float scale, Number *y) {
  const D d;
  const float log_sum = log_sum_exp(logits, n);
  const V l = hn::Set(d, log_sum), s = hn::Set(d, scale);
  Each(n, [&](int64_t i, int64_t count) {
    Store(d, hn::Mul(s, Exp(d, hn::Sub(Load(d, logits + i, count), l))), count, y + i);
  });
  const V own = hn::Set(d, scale * (std::exp(logits[target] - log_sum) - 1));
  StoreRest(d, own, 1, y + target);
  return log_sum - logits[target];
}
float CrossEntropyF32(const float *logits, int64_t n, int64_t target, float scale, float *y) {
  return CrossEntropy(logits, n, target, scale, y);
}
float CrossEntropyBf16(const float *logits, int64_t n, int64_t target, float scale, uint16_t *y) {
  return CrossEntropy(logits, n, target, scale, y);
}

double SumOfSquares(const float *x, int64_t n) {
  const D d;
  double total = 0;  // there may be millions: sums of 4,096 are added in double
  for (int64_t begin = 0; begin < n; begin += 4096) {
    V sum = hn::Zero(d);
    Each(n - begin < 4096 ? n - begin : 4096, [&](int64_t i, int64_t count) {
      const V v = Load(d, x + begin + i, count);
      sum = hn::MulAdd(v, v, sum);
    });
    total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
  }
  return total;
}

void AdamUpdate(const AdamStep &step, const float *gradient, int64_t n, float *m, float *v, float *x) {
  const D d;
  const V scale = hn::Set(d, step.scale), b1 = hn::Set(d, step.beta1), b2 = hn::Set(d, step.beta2);
  const V c1 = hn::Set(d, 1 - step.beta1), c2 = hn::Set(d, 1 - step.beta2), rate = hn::Set(d, step.rate);
  const V v_scale = hn::Set(d, step.v_scale), epsilon = hn::Set(d, step.epsilon), keep = hn::Set(d, 1 - step.decay);
  Each(n, [&](int64_t i, int64_t count) {
    const V g = hn::Mul(Load(d, gradient + i, count), scale);
    const V first = hn::MulAdd(Load(d, m + i, count), b1, hn::Mul(g, c1));
    const V second = hn::MulAdd(Load(d, v + i, count), b2, hn::Mul(hn::Mul(g, g), c2));
    const V change = hn::Div(first, hn::MulAdd(hn::Sqrt(second), v_scale, epsilon));
    Store(d, hn::NegMulAdd(rate, change, hn::Mul(Load(d, x + i, count), keep)), count, x + i);
    Store(d, first, count, m + i);
    Store(d, second, count, v + i);
  });
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
HWY_EXPORT(RotatePairs);
HWY_EXPORT(RmsNormGradient);
HWY_EXPORT(SiluGradientF32);
HWY_EXPORT(SiluGradientBf16);
HWY_EXPORT(SoftmaxGradient);
HWY_EXPORT(AddEluGradient);
HWY_EXPORT(CrossEntropyF32);
HWY_EXPORT(CrossEntropyBf16);
HWY_EXPORT(SumOfSquares);
HWY_EXPORT(AdamUpdate);

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
void rotate_pairs(const float *x, const float *cosine, const float *sine, int64_t n, float scale, float *y) {
  HWY_DYNAMIC_DISPATCH(RotatePairs)(x, cosine, sine, n, scale, y);
}
void rms_norm_gradient(const float *x, const float *weight, const float *dy, int64_t n, float epsilon, float *dx,
                       float *dweight) {
  HWY_DYNAMIC_DISPATCH(RmsNormGradient)(x, weight, dy, n, epsilon, dx, dweight);
}
void silu_multiply_gradient(const float *gate, const float *up, const float *dy, int64_t n, float *dgate, float *dup) {
  HWY_DYNAMIC_DISPATCH(SiluGradientF32)(gate, up, dy, n, dgate, dup);
}
void silu_multiply_gradient(const float *gate, const float *up, const float *dy, int64_t n, uint16_t *dgate,
                            uint16_t *dup) {
  HWY_DYNAMIC_DISPATCH(SiluGradientBf16)(gate, up, dy, n, dgate, dup);
}
void softmax_gradient(float *scores, float log_sum, float mean, int64_t valid, int64_t n, float *dp) {
  HWY_DYNAMIC_DISPATCH(SoftmaxGradient)(scores, log_sum, mean, valid, n, dp);
}
void add_elu_gradient(const float *sigma, const float *dsigma, int64_t n, float *dx) {
  HWY_DYNAMIC_DISPATCH(AddEluGradient)(sigma, dsigma, n, dx);
}
float cross_entropy_gradient(const float *logits, int64_t n, int64_t target, float scale, float *y) {
  return HWY_DYNAMIC_DISPATCH(CrossEntropyF32)(logits, n, target, scale, y);
}
float cross_entropy_gradient(const float *logits, int64_t n, int64_t target, float scale, uint16_t *y) {
  return HWY_DYNAMIC_DISPATCH(CrossEntropyBf16)(logits, n, target, scale, y);
}
double sum_of_squares(const float *x, int64_t n) { return HWY_DYNAMIC_DISPATCH(SumOfSquares)(x, n); }
void adam_update(const AdamStep &step, const float *gradient, int64_t n, float *m, float *v, float *x) {
  HWY_DYNAMIC_DISPATCH(AdamUpdate)(step, gradient, n, m, v, x);
}

}  // namespace infini
#endif  // HWY_ONCE
