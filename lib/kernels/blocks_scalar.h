// The plain references of blocks.h, which also compute where a target has no vectors for them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/blocks.h"
#include "kernels/scalar.h"

namespace infini::scalar {

inline float half_to_float(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const float size = exponent == 0    ? std::ldexp(static_cast<float>(mantissa), -24)
                     : exponent == 31 ? (mantissa ? NAN : INFINITY)
                                      : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
  return bits & 0x8000 ? -size : size;
}

// One element of a strip, in its parts.
struct BlockElement {
  int q;  // minus the offset
  float scale, minimum;
  float value() const { return scale * static_cast<float>(q) + minimum; }
};

inline BlockElement block_element(BlockType type, const uint8_t *strip, int64_t i, int column) {
  const BlockSpec &spec = spec_of(type);
  const uint8_t *const unit = strip + i / spec.unit() * spec.unit_bytes();
  const int row = static_cast<int>(i % spec.unit()), part = row / spec.rows;
  const auto half = [&](int index) {
    uint16_t bits;
    std::memcpy(&bits, unit + 2 * (index * kStrip + column), sizeof bits);
    return half_to_float(bits);
  };
  BlockElement element{0, 0, 0};
  if (spec.nested) {
    const uint8_t *const scales = unit + 4 * kStrip, *const minimums = scales + spec.scales() * kStrip;
    const int at = part * kStrip + column;
    const int scale = spec.shared() ? scales[at] & 15 : static_cast<int8_t>(scales[at]);
    const int minimum = !spec.minimum ? 0 : spec.shared() ? scales[at] >> 4 : minimums[at];
    element.scale = half(0) * static_cast<float>(scale);
    if (spec.minimum) element.minimum = -(half(1) * static_cast<float>(minimum));
  } else {
    element.scale = half(part);
    if (spec.minimum) element.minimum = half(2 + part);
  }
  const uint8_t *plane = unit + spec.head_bytes() + row / kBlock * spec.block_bytes();
  const int quad = row % kBlock / 4, byte = column * 4 + row % 4;
  int q = 0, shift = 0;
  for (const int bits : {8, 4, 2, 1}) {  // planes, the low bits of a weight first
    if (!(spec.bits & bits) || (bits != spec.bits && bits == 8)) continue;
    if (spec.bits == 3 && bits == 1) shift = 2;
    const int per_plane = bits;  // rows of 64 bytes
    const int line = quad % per_plane, field = quad / per_plane;
    q |= (plane[line * 64 + byte] >> (field * bits) & ((1 << bits) - 1)) << shift;
    plane += per_plane * 64, shift += bits;
  }
  element.q = (spec.table ? kBlockTable[q] : q) - spec.offset;
  return element;
}

// A row of a product, taken out of its group: of each of its parts the values, and where its numbers stand.
struct BlockRow {
  const BlockSpec &spec;
  uint8_t *first;
  int group, row;
  BlockRow(BlockType type, int64_t k, int64_t row_, int group_, uint8_t *rows)
      : spec(spec_of(type)), first(rows + block_rows_bytes(type, k, row_ / group_ * group_, group_)), group(group_),
        row(static_cast<int>(row_ % group_)) {}
  uint8_t *at(int64_t part) const { return first + part * row_part_bytes(spec, group); }
  int8_t *values(int64_t part) const { return reinterpret_cast<int8_t *>(at(part)) + row * spec.rows; }
  float scale(int64_t part) const {
    float number;
    std::memcpy(&number, at(part) + group * spec.rows + 4 * row, sizeof number);
    return number;
  }
  // sum: of its values.
  void set(int64_t part, float scale, int32_t sum) const {
    uint8_t *const to = at(part) + group * spec.rows + 4 * row;
    const float scaled = static_cast<float>(sum) * scale;
    const int32_t start = -spec.offset * sum;
    std::memcpy(to, &scale, sizeof scale);
    std::memcpy(to + 4 * group, spec.minimum ? static_cast<const void *>(&scaled) : &start, 4);
  }
};

inline void quantize_row(BlockType type, const float *x, int64_t k, int64_t row, int group, uint8_t *rows) {
  const BlockSpec &spec = spec_of(type);
  const BlockRow to(type, k, row, group, rows);
  const int64_t padded = (k + spec.unit() - 1) / spec.unit() * spec.unit();
  for (int64_t block = 0; block < padded / kBlock; ++block) {
    const int64_t first = block * kBlock, count = std::clamp<int64_t>(k - first, 0, kBlock);
    float largest = 0;
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(x[first + i]));
    const float inverse = largest > 0x1p-120f ? 127 / largest : 0, scale = largest > 0x1p-120f ? largest / 127 : 0;
    for (int64_t i = 0; i < kBlock; i += spec.rows) {
      const int64_t part = (first + i) / spec.rows;
      int32_t sum = 0;
      for (int64_t j = 0; j < spec.rows; ++j) {
        const auto value = static_cast<int8_t>(i + j < count ? std::nearbyint(x[first + i + j] * inverse) : 0);
        to.values(part)[j] = value;
        sum += value;
      }
      to.set(part, scale, sum);
    }
  }
}

inline void block_product(BlockType type, const BlockRows &x, int64_t rows, const uint8_t *strips, int64_t k,
                          int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate) {
  for (int64_t r = 0; r < rows; ++r) {
    const BlockRow row(type, k, r, x.group, const_cast<uint8_t *>(x.data));  // of which nothing is set here
    for (int64_t j = begin; j < end; ++j) {
      const uint8_t *const strip = strips + strip_begin(type, k, j);
      double sum = accumulate ? static_cast<double>(c[r * c_row + j]) : 0;
      for (int64_t i = 0; i < k; ++i) {
        const BlockElement b = block_element(type, strip, i, static_cast<int>(j % kStrip));
        const int64_t part = i / row.spec.rows;
        const double a = static_cast<double>(row.scale(part)) * row.values(part)[i % row.spec.rows];
        sum += a * (static_cast<double>(b.scale) * b.q + static_cast<double>(b.minimum));
      }
      c[r * c_row + j] = static_cast<float>(sum);
    }
  }
}

// Number by number into a panel.
template <class Number>
void unpack_strip(BlockType type, const uint8_t *strip, int64_t begin, int64_t end, Number *to) {
  for (int64_t i = begin; i < end; ++i) {
    for (int column = 0; column < kStrip; ++column) {
      const float value = block_element(type, strip, i, column).value();
      Number &place = to[panel_offset<Number>(i - begin, column)];
      if constexpr (sizeof(Number) == 4) place = value;
      else place = float_to_bf16(value);
    }
  }
}

}  // namespace infini::scalar
