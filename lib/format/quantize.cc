#include "format/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "base/status.h"

namespace infini {
namespace {

constexpr int kLanes = 8;  // sums that the compiler keeps side by side

// What numbers of a block stand for, before the scale.
struct Levels {
  int bits;
  int offset;
  bool table;
  int count() const { return 1 << bits; }
  int low() const { return (table ? kBlockTable[0] : 0) - offset; }
  int high() const { return (table ? kBlockTable[15] : count() - 1) - offset; }
};

// The number whose level is nearest to each of y, and that level.
void nearest(const Levels &levels, const float *y, int n, uint8_t *q, float *level) {
  if (levels.table) {
    for (int i = 0; i < n; ++i) {
      int index = 0;
      for (int k = 0; k < 15; ++k) index += y[i] + 128 > 0.5f * static_cast<float>(kBlockTable[k] + kBlockTable[k + 1]);
      q[i] = static_cast<uint8_t>(index);
      level[i] = static_cast<float>(kBlockTable[index] - levels.offset);
    }
    return;
  }
  const auto low = static_cast<float>(levels.low()), high = static_cast<float>(levels.high());
  constexpr float kRound = 12582912;  // 1.5 * 2^23: what is added to it loses its fraction
  for (int i = 0; i < n; ++i) {
    const float inside = std::min(std::max(y[i], low), high);
    level[i] = (inside + kRound) - kRound;
    q[i] = static_cast<uint8_t>(static_cast<int>(level[i]) + levels.offset);
  }
}

float sum(const float (&lanes)[kLanes]) {
  float total = 0;
  for (const float lane : lanes) total += lane;
  return total;
}
float dot(const float *a, const float *b, int n) {
  float lanes[kLanes] = {};
  for (int i = 0; i < n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) lanes[j] += a[i + j] * b[i + j];
  return sum(lanes);
}

// Of n numbers that share a scale: x ~ scale * level + minimum.
struct Fit {
  float scale = 0, minimum = 0;
};

// The best of a few scales: each puts the number of largest size a little above or below the last level, rounds, and is
// then refitted to the levels by least squares.
Fit fit_scale(const Levels &levels, const float *x, int n) {
  float extreme = 0;
  for (int i = 0; i < n; ++i)
    if (std::abs(x[i]) > std::abs(extreme)) extreme = x[i];
  if (extreme == 0) return {};
  if (levels.bits == 8) return {std::abs(extreme) / 127, 0};
  Fit best;
  float most = -1;
  uint8_t q[kBlock];
  float y[kBlock], level[kBlock];
  for (int step = -4; step <= 4; ++step) {
    const float last = static_cast<float>(levels.low()) * (1 + 0.025f * static_cast<float>(step)),
                inverse = last / extreme;
    for (int i = 0; i < n; ++i) y[i] = x[i] * inverse;
    nearest(levels, y, n, q, level);
    const float along = dot(x, level, n), size = dot(level, level, n);
    if (size > 0 && along * along > most * size) most = along * along / size, best.scale = along / size;
  }
  return best;
}

// The same with a minimum, of at most zero where `negative`.
Fit fit_both(const Levels &levels, const float *x, int n, bool negative) {
  const auto [least, greatest] = std::minmax_element(x, x + n);
  const float low = negative ? std::min(0.0f, *least) : *least, high = *greatest;
  if (!(high > low)) return {0, low};
  Fit best;
  float least_error = -1;
  uint8_t q[kBlock];
  float y[kBlock], level[kBlock], rest[kBlock];
  float ones[kBlock];
  std::fill_n(ones, n, 1.0f);
  const auto count = static_cast<float>(n);
  const auto consider = [&](float scale, float minimum) {
    if (negative && minimum > 0) minimum = 0;
    if (!(scale > 0)) return;
    const float inverse = 1 / scale;
    for (int i = 0; i < n; ++i) y[i] = (x[i] - minimum) * inverse;
    nearest(levels, y, n, q, level);
    for (int i = 0; i < n; ++i) rest[i] = scale * level[i] + minimum - x[i];
    const float error = dot(rest, rest, n);
    if (least_error < 0 || error < least_error) least_error = error, best = {scale, minimum};
  };
  for (int step = -4; step <= 4; ++step) {
    const float scale = (high - low) / (static_cast<float>(levels.high()) + 0.2f * static_cast<float>(step));
    consider(scale, low);
    // Regression on the numbers that this gave.
    const float l = dot(level, ones, n), ll = dot(level, level, n), lx = dot(level, x, n), sx = dot(x, ones, n);
    const float determinant = count * ll - l * l;
    if (!(determinant > 0)) continue;
    float slope = (count * lx - l * sx) / determinant, minimum = (sx - slope * l) / count;
    if (negative && minimum > 0) minimum = 0, slope = ll > 0 ? lx / ll : 0;
    consider(slope, minimum);
  }
  return best;
}

uint16_t half_of(float value) { return float_to_half(std::clamp(value, -65504.0f, 65504.0f)); }
float inverse_of(float scale) { return scale != 0 && std::isfinite(1 / scale) ? 1 / scale : 0; }

// The scales of n sub-blocks as whole multiples of a half, whose bits are returned.
uint16_t share_scale(const float *scales, int n, int low, int high, int8_t *whole) {
  float extreme = 0;
  for (int i = 0; i < n; ++i)
    if (std::abs(scales[i]) > std::abs(extreme)) extreme = scales[i];
  const uint16_t bits = half_of(extreme / static_cast<float>(low < 0 ? low : high));
  const float inverse = inverse_of(half_to_float(bits));
  for (int i = 0; i < n; ++i)
    whole[i] = static_cast<int8_t>(
        std::clamp(std::nearbyint(scales[i] * inverse), static_cast<float>(low), static_cast<float>(high)));
  return bits;
}

// A block, or a unit of one column.
template <BlockType TYPE>
void fit_block(const float *x, BlockParts &parts) {
  constexpr BlockSpec kSpec = spec_of(TYPE);
  constexpr Levels kLevels{kSpec.bits, kSpec.offset, kSpec.table};
  constexpr int kParts = kSpec.nested ? kSpec.scales() : 1;
  Fit fits[kParts];
  for (int part = 0; part < kParts; ++part) {
    const float *const from = x + part * kSpec.rows;
    fits[part] =
        kSpec.minimum ? fit_both(kLevels, from, kSpec.rows, kSpec.nested) : fit_scale(kLevels, from, kSpec.rows);
  }
  if constexpr (kSpec.nested) {
    float scales[kParts], minimums[kParts];
    for (int part = 0; part < kParts; ++part) scales[part] = fits[part].scale, minimums[part] = -fits[part].minimum;
    // Signed ones of eight bits or of six, else unsigned ones of six or of four.
    constexpr int kHigh = TYPE == BlockType::Q6_K ? 127 : !kSpec.minimum ? 31 : kSpec.shared() ? 15 : 63;
    constexpr int kLow = kSpec.minimum ? 0 : -kHigh - 1;
    parts.scale[0] = share_scale(scales, kParts, kLow, kHigh, parts.scales);
    int8_t whole[kParts] = {};
    if (kSpec.minimum) parts.minimum[0] = share_scale(minimums, kParts, 0, kHigh, whole);
    const float d = half_to_float(parts.scale[0]), dmin = kSpec.minimum ? half_to_float(parts.minimum[0]) : 0;
    for (int part = 0; part < kParts; ++part) {
      parts.minimums[part] = static_cast<uint8_t>(whole[part]);
      fits[part] = {d * static_cast<float>(parts.scales[part]), -(dmin * static_cast<float>(whole[part]))};
    }
  } else {
    parts.scale[0] = half_of(fits[0].scale);
    parts.minimum[0] = half_of(fits[0].minimum);
    fits[0] = {half_to_float(parts.scale[0]), kSpec.minimum ? half_to_float(parts.minimum[0]) : 0};
  }
  for (int part = 0; part < kParts; ++part) {
    float y[kBlock], level[kBlock];
    const float inverse = inverse_of(fits[part].scale);
    for (int i = 0; i < kSpec.rows; ++i) y[i] = (x[part * kSpec.rows + i] - fits[part].minimum) * inverse;
    nearest(kLevels, y, kSpec.rows, parts.quants + part * kSpec.rows, level);
  }
}

// --- Blocks from their parts; format/quant.cc says how each lies.

void store16(uint8_t *to, uint16_t bits) {
  to[0] = static_cast<uint8_t>(bits), to[1] = static_cast<uint8_t>(bits >> 8);
}

void put_nibbles(const uint8_t *quants, uint8_t *to) {
  for (int j = 0; j < 16; ++j) to[j] = static_cast<uint8_t>((quants[j] & 15) | (quants[j + 16] & 15) << 4);
}
void put_fifth_bits(const uint8_t *quants, uint8_t *to) {
  std::memset(to, 0, 4);
  for (int j = 0; j < 32; ++j) to[j / 8] = static_cast<uint8_t>(to[j / 8] | (quants[j] >> 4) << (j % 8));
}
void put_pairs_of_bits(const uint8_t *quants, int right, uint8_t *to) {
  std::memset(to, 0, 64);
  for (int i = 0; i < 256; i += 32)
    for (int j = 0; j < 32; ++j) {
      uint8_t &byte = to[i / 128 * 32 + j];
      byte = static_cast<uint8_t>(byte | (quants[i + j] >> right & 3) << (i % 128 / 16));
    }
}
void put_nibbles_of_32(const uint8_t *quants, uint8_t *to) {
  for (int i = 0; i < 256; i += 64)
    for (int j = 0; j < 32; ++j)
      to[i / 2 + j] = static_cast<uint8_t>((quants[i + j] & 15) | (quants[i + 32 + j] & 15) << 4);
}
void put_bits_of_32(const uint8_t *quants, int right, uint8_t *to) {
  std::memset(to, 0, 32);
  for (int i = 0; i < 256; ++i) to[i % 32] = static_cast<uint8_t>(to[i % 32] | (quants[i] >> right & 1) << (i / 32));
}
void put_scales_and_minimums(const BlockParts &parts, uint8_t *to) {
  for (int i = 0; i < 4; ++i) {
    const int high = parts.scales[i + 4], minimum = parts.minimums[i + 4];
    to[i] = static_cast<uint8_t>(parts.scales[i] | (high >> 4) << 6);
    to[i + 4] = static_cast<uint8_t>(parts.minimums[i] | (minimum >> 4) << 6);
    to[i + 8] = static_cast<uint8_t>((high & 15) | (minimum & 15) << 4);
  }
}

template <BlockType TYPE>
void put_block(const BlockParts &parts, uint8_t *to) {
  using enum BlockType;
  const uint8_t *const q = parts.quants;
  if constexpr (TYPE == Q8_0) {
    store16(to, parts.scale[0]);
    for (int j = 0; j < 32; ++j) to[2 + j] = q[j] ^ 0x80;
  } else if constexpr (TYPE == Q4_0 || TYPE == IQ4_NL) {
    store16(to, parts.scale[0]);
    put_nibbles(q, to + 2);
  } else if constexpr (TYPE == Q4_1) {
    store16(to, parts.scale[0]), store16(to + 2, parts.minimum[0]);
    put_nibbles(q, to + 4);
  } else if constexpr (TYPE == Q5_0) {
    store16(to, parts.scale[0]);
    put_fifth_bits(q, to + 2), put_nibbles(q, to + 6);
  } else if constexpr (TYPE == Q5_1) {
    store16(to, parts.scale[0]), store16(to + 2, parts.minimum[0]);
    put_fifth_bits(q, to + 4), put_nibbles(q, to + 8);
  } else if constexpr (TYPE == Q2_K) {
    for (int sub = 0; sub < 16; ++sub) to[sub] = static_cast<uint8_t>(parts.scales[sub] | parts.minimums[sub] << 4);
    put_pairs_of_bits(q, 0, to + 16);
    store16(to + 80, parts.scale[0]), store16(to + 82, parts.minimum[0]);
  } else if constexpr (TYPE == Q3_K) {
    put_bits_of_32(q, 2, to), put_pairs_of_bits(q, 0, to + 32);
    std::memset(to + 96, 0, 12);
    for (int sub = 0; sub < 16; ++sub) {
      const int scale = parts.scales[sub] + 32;
      uint8_t &low = to[96 + sub % 8], &high = to[104 + sub % 4];
      low = static_cast<uint8_t>(low | (scale & 15) << (sub / 8 * 4));
      high = static_cast<uint8_t>(high | (scale >> 4) << (sub / 4 * 2));
    }
    store16(to + 108, parts.scale[0]);
  } else if constexpr (TYPE == Q4_K) {
    store16(to, parts.scale[0]), store16(to + 2, parts.minimum[0]);
    put_scales_and_minimums(parts, to + 4), put_nibbles_of_32(q, to + 16);
  } else if constexpr (TYPE == Q5_K) {
    store16(to, parts.scale[0]), store16(to + 2, parts.minimum[0]);
    put_scales_and_minimums(parts, to + 4), put_bits_of_32(q, 4, to + 16), put_nibbles_of_32(q, to + 48);
  } else if constexpr (TYPE == Q6_K) {
    for (int i = 0; i < 256; i += 128)
      for (int j = 0; j < 64; ++j) to[i / 2 + j] = static_cast<uint8_t>((q[i + j] & 15) | (q[i + 64 + j] & 15) << 4);
    put_pairs_of_bits(q, 4, to + 128);
    std::memcpy(to + 192, parts.scales, 16);
    store16(to + 208, parts.scale[0]);
  } else {
    static_assert(TYPE == IQ4_XS);
    store16(to, parts.scale[0]);
    std::memset(to + 2, 0, 6);
    unsigned high = 0;
    for (int sub = 0; sub < 8; ++sub) {
      const int scale = parts.scales[sub] + 32;
      to[4 + sub / 2] = static_cast<uint8_t>(to[4 + sub / 2] | (scale & 15) << (sub % 2 * 4));
      high |= static_cast<unsigned>(scale >> 4) << (2 * sub);
      put_nibbles(q + sub * 32, to + 8 + sub * 16);
    }
    store16(to + 2, static_cast<uint16_t>(high));
  }
}

}  // namespace

void quantize(TensorType type, const float *values, int64_t n, void *blocks) {
  const TensorLayout *layout = tensor_layout(type);
  if (!layout) fail(Status::UNSUPPORTED, "tensor type ", tensor_type_name(type), " is none of ", tensor_type_names());
  if (n % layout->block_elements != 0)
    fail(Status::INVALID_ARGUMENT, n, " elements are not whole blocks of ", layout->block_elements, ", as ",
         layout->name, " needs");
  auto *to = static_cast<uint8_t *>(blocks);
  const std::optional<BlockType> in_blocks = block_type(type);
  if (!in_blocks) {
    if (type == TensorType::F32) std::memcpy(to, values, static_cast<size_t>(n) * 4);
    for (int64_t i = 0; type != TensorType::F32 && i < n; ++i)
      store16(to + 2 * i, type == TensorType::BF16 ? float_to_bf16(values[i]) : half_of(values[i]));
    return;
  }
  for_block_type(*in_blocks, [&]<BlockType TYPE>() {
    BlockParts parts;
    for (int64_t i = 0; i < n; i += layout->block_elements, to += layout->block_bytes) {
      fit_block<TYPE>(values + i, parts);
      put_block<TYPE>(parts, to);
    }
  });
}

std::optional<TensorType> tensor_type_of(std::string_view name) {
  std::string upper(name);
  for (char &letter : upper)
    if (letter >= 'a' && letter <= 'z') letter = static_cast<char>(letter - 'a' + 'A');
  for (uint32_t number = 0; number < 64; ++number) {
    const auto type = static_cast<TensorType>(number);
    if (const TensorLayout *layout = tensor_layout(type); layout && upper == layout->name) return type;
  }
  return std::nullopt;
}

TensorType type_for_rows(TensorType asked, int64_t k) {
  using enum TensorType;
  const auto divides = [&](TensorType type) { return k % tensor_layout(type)->block_elements == 0; };
  if (divides(asked)) return asked;
  TensorType other = F16;
  switch (asked) {
    case Q2_K:
    case Q3_K:
    case IQ4_XS: other = IQ4_NL; break;
    case Q4_K: other = Q5_0; break;
    case Q5_K: other = Q5_1; break;
    case Q6_K: other = Q8_0; break;
    default: break;
  }
  return divides(other) ? other : F16;
}

TensorType type_for_output(TensorType asked, int64_t k) {
  const TensorLayout &layout = *tensor_layout(asked);
  const bool few_bits = layout.block_bytes * 8 < 6 * layout.block_elements;
  return type_for_rows(few_bits ? TensorType::Q6_K : asked, k);
}

}  // namespace infini
