// Numbers: floats, whether they are finite, and bf16, the upper half of one.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>

namespace infini {

inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }  // exactly 0 for minus infinity

inline bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

inline float bf16_to_float(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

// Nearest, ties to even; NaN stays NaN.
inline uint16_t float_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Of what products read: rows, panels, and the keys and values of a window, which alone may be I8, with a scale each.
enum class NumberType : uint8_t { F32, BF16, I8 };
constexpr int bytes_of(NumberType type) { return type == NumberType::F32 ? 4 : type == NumberType::BF16 ? 2 : 1; }
constexpr const char *name_of(NumberType type) {
  return type == NumberType::F32 ? "f32" : type == NumberType::BF16 ? "bf16" : "int8";
}
// f(the numbers from `at` on) of a buffer of f32 or bf16.
template <class Function>
decltype(auto) as_numbers(NumberType type, void *data, int64_t at, const Function &f) {
  if (type == NumberType::F32) return f(static_cast<float *>(data) + at);
  return f(static_cast<uint16_t *>(data) + at);
}

}  // namespace infini
