// gradients.h for every instruction set: this file includes itself once for each (Highway's foreach_target).
#include "kernels/gradients.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gradients.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/rest-inl.h"

HWY_BEFORE_NAMESPACE();
namespace infini {
namespace HWY_NAMESPACE {

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

// activation(g, slope) gives the activation of g, and its slope.
template <class Number, class Activation>
HWY_INLINE void GateGradient(const float *gate, const float *up, const float *dy, int64_t n, Number *dgate, Number *dup,
                             const Activation &activation) {
  const D d;
  Each(n, [&](int64_t i, int64_t count) {
    V slope;
    const V y = Load(d, dy + i, count), active = activation(Load(d, gate + i, count), slope);
    Store(d, hn::Mul(hn::Mul(y, Load(d, up + i, count)), slope), count, dgate + i);
    Store(d, hn::Mul(y, active), count, dup + i);
  });
}

template <class Number>
HWY_INLINE void SiluGradient(const float *gate, const float *up, const float *dy, int64_t n, Number *dgate,
                             Number *dup) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  GateGradient(gate, up, dy, n, dgate, dup, [&](V g, V &slope) {
    const V sigmoid = Sigmoid(d, g);
    slope = hn::Mul(sigmoid, hn::MulAdd(g, hn::Sub(one, sigmoid), one));
    return hn::Mul(g, sigmoid);
  });
}
void SiluGradientF32(const float *gate, const float *up, const float *dy, int64_t n, float *dgate, float *dup) {
  SiluGradient(gate, up, dy, n, dgate, dup);
}
void SiluGradientBf16(const float *gate, const float *up, const float *dy, int64_t n, uint16_t *dgate, uint16_t *dup) {
  SiluGradient(gate, up, dy, n, dgate, dup);
}

// gelu(g) = g s, where s is the sigmoid of u = g (linear + cubic g^2): its slope is s + g s (1 - s) u'.
template <class Number>
HWY_INLINE void GeluGradient(const float *gate, const float *up, const float *dy, int64_t n, Number *dgate,
                             Number *dup) {
  const D d;
  const V linear = hn::Set(d, kGeluLinear), cubic = hn::Set(d, kGeluCubic), one = hn::Set(d, 1.0f);
  const V three_cubic = hn::Set(d, 3 * kGeluCubic);
  GateGradient(gate, up, dy, n, dgate, dup, [&](V g, V &slope) {
    const V square = hn::Mul(g, g), s = Sigmoid(d, hn::Mul(g, hn::MulAdd(square, cubic, linear)));
    const V gelu = hn::Mul(g, s);
    slope = hn::MulAdd(hn::Mul(gelu, hn::Sub(one, s)), hn::MulAdd(square, three_cubic, linear), s);
    return gelu;
  });
}
void GeluGradientF32(const float *gate, const float *up, const float *dy, int64_t n, float *dgate, float *dup) {
  GeluGradient(gate, up, dy, n, dgate, dup);
}
void GeluGradientBf16(const float *gate, const float *up, const float *dy, int64_t n, uint16_t *dgate, uint16_t *dup) {
  GeluGradient(gate, up, dy, n, dgate, dup);
}

void SoftCapGradient(const float *y, int64_t n, float cap, float *dy) {
  const D d;
  const V inverse = hn::Set(d, 1 / cap), one = hn::Set(d, 1.0f);
  Each(n, [&](int64_t i, int64_t count) {
    const V tanh = hn::Mul(Load(d, y + i, count), inverse);
    Store(d, hn::Mul(Load(d, dy + i, count), hn::NegMulAdd(tanh, tanh, one)), count, dy + i);
  });
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

HWY_EXPORT(RotatePairs);
HWY_EXPORT(RmsNormGradient);
HWY_EXPORT(SiluGradientF32);
HWY_EXPORT(SiluGradientBf16);
HWY_EXPORT(GeluGradientF32);
HWY_EXPORT(GeluGradientBf16);
HWY_EXPORT(SoftCapGradient);
HWY_EXPORT(SoftmaxGradient);
HWY_EXPORT(AddEluGradient);
HWY_EXPORT(CrossEntropyF32);
HWY_EXPORT(CrossEntropyBf16);
HWY_EXPORT(SumOfSquares);
HWY_EXPORT(AdamUpdate);

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
void gelu_multiply_gradient(const float *gate, const float *up, const float *dy, int64_t n, float *dgate, float *dup) {
  HWY_DYNAMIC_DISPATCH(GeluGradientF32)(gate, up, dy, n, dgate, dup);
}
void gelu_multiply_gradient(const float *gate, const float *up, const float *dy, int64_t n, uint16_t *dgate,
                            uint16_t *dup) {
  HWY_DYNAMIC_DISPATCH(GeluGradientBf16)(gate, up, dy, n, dgate, dup);
}
void soft_cap_gradient(const float *y, int64_t n, float cap, float *dy) {
  HWY_DYNAMIC_DISPATCH(SoftCapGradient)(y, n, cap, dy);
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
