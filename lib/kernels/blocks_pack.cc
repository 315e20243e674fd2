// Into strips, when a model is opened, and out of them a column at a time: without SIMD.
#include <cstring>

#include "kernels/blocks.h"
#include "kernels/blocks_scalar.h"

namespace infini {
namespace {

// One plane of a block: its BITS of each number, from bit `low` on. quads: four rows of a column in a word.
template <int BITS>
void pack_plane(const uint32_t (&quads)[8][kStrip], int low, uint8_t *to) {
  constexpr uint32_t kMask = ((1u << BITS) - 1) * 0x01010101u;
  for (int line = 0; line < BITS; ++line) {
    uint32_t words[kStrip] = {};
    for (int field = 0; field < 8 / BITS; ++field)
      for (int c = 0; c < kStrip; ++c) words[c] |= (quads[field * BITS + line][c] >> low & kMask) << (field * BITS);
    std::memcpy(to + line * 64, words, sizeof words);
  }
}

}  // namespace

void pack_unit(BlockType type, const BlockParts columns[kStrip], uint8_t *unit) {
  const BlockSpec &spec = spec_of(type);
  const auto put_half = [&](int index, int column, uint16_t bits) {
    std::memcpy(unit + spec.half_at(index, column), &bits, sizeof bits);
  };
  for (int c = 0; c < kStrip; ++c) {
    const BlockParts &from = columns[c];
    if (!spec.nested) {
      for (int part = 0; part < 2; ++part) {
        put_half(part, c, from.scale[part]);
        if (spec.minimum) put_half(spec.first_minimum() + part, c, from.minimum[part]);
      }
      continue;
    }
    put_half(0, c, from.scale[0]);
    put_half(1, c, spec.minimum ? from.minimum[0] : uint16_t{0});
    for (int part = 0; part < spec.scales(); ++part) {
      uint8_t &scale = unit[spec.scale_at(part, c)];
      scale = static_cast<uint8_t>(from.scales[part]);
      if (spec.shared()) scale = static_cast<uint8_t>(scale | from.minimums[part] << 4);
      else if (spec.minimum) unit[spec.minimum_at(part, c)] = from.minimums[part];
    }
  }
  uint8_t *to = unit + spec.head_bytes();
  for (int block = 0; block < spec.unit() / kBlock; ++block, to += spec.block_bytes()) {
    uint32_t quads[8][kStrip];
    for (int c = 0; c < kStrip; ++c)
      for (int quad = 0; quad < 8; ++quad)
        std::memcpy(&quads[quad][c], columns[c].quants + block * kBlock + 4 * quad, sizeof(uint32_t));
    switch (spec.bits) {
      case 8: pack_plane<8>(quads, 0, to); break;
      case 6: pack_plane<4>(quads, 0, to), pack_plane<2>(quads, 4, to + 256); break;
      case 5: pack_plane<4>(quads, 0, to), pack_plane<1>(quads, 4, to + 256); break;
      case 4: pack_plane<4>(quads, 0, to); break;
      case 3: pack_plane<2>(quads, 0, to), pack_plane<1>(quads, 2, to + 128); break;
      default: pack_plane<2>(quads, 0, to); break;
    }
  }
}

namespace {

template <BlockType TYPE>
void strip_column(const uint8_t *unit, int64_t k, int column, float *to) {
  constexpr BlockSpec kSpec = spec_of(TYPE);
  const auto half = [&](int index) {
    uint16_t bits;
    std::memcpy(&bits, unit + kSpec.half_at(index, column), sizeof bits);
    return scalar::half_to_float(bits);
  };
  for (int64_t first = 0; first < k; first += kSpec.unit(), unit += kSpec.unit_bytes()) {
    const float d = half(0), dmin = kSpec.nested && kSpec.minimum ? half(kSpec.first_minimum()) : 0;
    for (int row = 0; row < kSpec.unit() && first + row < k; row += 4) {
      const int part = row / kSpec.rows, quad = row % kBlock / 4;
      float scale = d, minimum = 0;
      if constexpr (kSpec.nested) {
        const uint8_t byte = unit[kSpec.scale_at(part, column)];
        scale = d * static_cast<float>(kSpec.shared() ? byte & 15 : static_cast<int8_t>(byte));
        if constexpr (kSpec.minimum)
          minimum = -(dmin * static_cast<float>(kSpec.shared() ? byte >> 4 : unit[kSpec.minimum_at(part, column)]));
      } else {
        if (part > 0) scale = half(part);
        if constexpr (kSpec.minimum) minimum = half(kSpec.first_minimum() + part);
      }
      const uint8_t *plane = unit + kSpec.head_bytes() + row / kBlock * kSpec.block_bytes() + 4 * column;
      uint32_t four = 0;
      int low = 0;
      for (const int bits : {8, 4, 2, 1}) {  // planes, the low bits of a weight first
        if (kSpec.bits == 8 ? bits != 8 : bits == 8 || !(kSpec.bits & bits)) continue;
        uint32_t word;
        std::memcpy(&word, plane + quad % bits * 64, sizeof word);
        four |= (word >> (quad / bits * bits) & ((1u << bits) - 1) * 0x01010101u) << low;
        plane += bits * 64, low += bits;
      }
      for (int i = 0; i < 4 && first + row + i < k; ++i) {
        const int q = static_cast<int>(four >> (8 * i) & 255);
        const float value = scale * static_cast<float>((kSpec.table ? kBlockTable[q] : q) - kSpec.offset);
        to[first + row + i] = kSpec.minimum ? value + minimum : value;
      }
    }
  }
}

}  // namespace

void unpack_strip_column(BlockType type, const uint8_t *strip, int64_t k, int column, float *to) {
  for_block_type(type, [&]<BlockType TYPE>() { strip_column<TYPE>(strip, k, column, to); });
}

}  // namespace infini
