#include "format/quant.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "base/status.h"

namespace infini {
namespace {

// Every product below is exact in f32 (a half times at most 13 bits), so that only a final sum rounds:
// neither fusing nor the order of the factors can change a result.

// Masks instead of branches: compilers then turn a loop of it into SIMD.
inline float half(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, exponent = bits & 0x7c00u;
  const uint32_t infinite = 0u - (exponent == 0x7c00u), subnormal = 0u - (exponent == 0);
  const uint32_t rebased = ((bits & 0x7fffu) << 13) + (112u << 23) + (infinite & 112u << 23);
  // A subnormal half is a normal float, which takes the place of the rebased bits: with the exponent
  // one up they read as 2^-14 too much.
  const float less = __builtin_bit_cast(float, rebased + (1u << 23)) - 0x1p-14f;
  return __builtin_bit_cast(float, (subnormal & __builtin_bit_cast(uint32_t, less)) | (~subnormal & rebased) | sign);
}

inline bool is_finite(uint16_t bits) { return (bits & 0x7c00u) != 0x7c00u; }

inline uint16_t load16(const uint8_t *bytes) { return static_cast<uint16_t>(bytes[0] | bytes[1] << 8); }
inline uint32_t load32(const uint8_t *bytes) { return load16(bytes) | static_cast<uint32_t>(load16(bytes + 2)) << 16; }

void unpack_f32(const uint8_t *values, int64_t n, float *out) { std::memcpy(out, values, static_cast<size_t>(n) * 4); }

void unpack_f16(const uint8_t *__restrict values, int64_t n, float *__restrict out) {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t bits;
    std::memcpy(&bits, values + 2 * i, 2);
    out[i] = half(bits);
  }
}

void unpack_bf16(const uint8_t *__restrict values, int64_t n, float *__restrict out) {
  for (int64_t i = 0; i < n; ++i) {
    uint16_t bits;
    std::memcpy(&bits, values + 2 * i, 2);
    out[i] = bf16_to_float(bits);
  }
}

// Blocks of 32, of which a unit has two: `i` is 0 or 1. Byte j of the quants holds element j in its low and element j +
// 16 in its high nibble.
inline void nibbles(const uint8_t *__restrict bytes, uint8_t *__restrict quants) {
  for (int j = 0; j < 16; ++j) quants[j] = bytes[j] & 15;
  for (int j = 0; j < 16; ++j) quants[j + 16] = bytes[j] >> 4;
}
// Adds 32 fifth bits, element 0 lowest.
inline void fifth_bits(uint32_t bits, uint8_t *quants) {
  for (unsigned j = 0; j < 32; ++j) quants[j] = static_cast<uint8_t>(quants[j] | (bits >> j & 1u) << 4);
}

// half d; 32 signed bytes: d * q
void parts_q8_0(const uint8_t *block, int i, BlockParts &parts) {
  parts.scale[i] = load16(block);
  for (int j = 0; j < 32; ++j) parts.quants[32 * i + j] = block[2 + j] ^ 0x80;
}
// half d; 16 bytes of nibbles: d * (q - 8), or d * table[q]
void parts_q4_0(const uint8_t *block, int i, BlockParts &parts) {
  parts.scale[i] = load16(block);
  nibbles(block + 2, parts.quants + 32 * i);
}
// half d, m; 16 bytes of nibbles: d * q + m
void parts_q4_1(const uint8_t *block, int i, BlockParts &parts) {
  parts.scale[i] = load16(block), parts.minimum[i] = load16(block + 2);
  nibbles(block + 4, parts.quants + 32 * i);
}
// half d; 32 fifth bits; 16 bytes of nibbles: d * (q - 16)
void parts_q5_0(const uint8_t *block, int i, BlockParts &parts) {
  parts.scale[i] = load16(block);
  nibbles(block + 6, parts.quants + 32 * i);
  fifth_bits(load32(block + 2), parts.quants + 32 * i);
}
// half d, m; 32 fifth bits; 16 bytes of nibbles: d * q + m
void parts_q5_1(const uint8_t *block, int i, BlockParts &parts) {
  parts.scale[i] = load16(block), parts.minimum[i] = load16(block + 2);
  nibbles(block + 8, parts.quants + 32 * i);
  fifth_bits(load32(block + 4), parts.quants + 32 * i);
}

// Blocks of 256, in sub-blocks of 16 or 32 that have a scale of their own, and some a minimum that is subtracted.

// Two bits of each element. Each half block takes 32 bytes: bits 0-1 are its first 32 elements, bits 2-3 the next, ...
inline void pairs_of_bits(const uint8_t *__restrict bytes, int left, uint8_t *__restrict quants) {
  for (int i = 0; i < 256; i += 32)
    for (int j = 0; j < 32; ++j)
      quants[i + j] = static_cast<uint8_t>(quants[i + j] | (bytes[i / 128 * 32 + j] >> (i % 128 / 16) & 3) << left);
}
// Each 32 bytes hold one sub-block of 32 in their low nibbles and the next in their high ones.
inline void nibbles_of_32(const uint8_t *__restrict bytes, uint8_t *__restrict quants) {
  for (int i = 0; i < 256; i += 64)
    for (int j = 0; j < 32; ++j) quants[i + j] = bytes[i / 2 + j] & 15, quants[i + 32 + j] = bytes[i / 2 + j] >> 4;
}
// Bit b of byte j belongs to element 32 b + j.
inline void bits_of_32(const uint8_t *__restrict bytes, int left, uint8_t *__restrict quants) {
  for (int i = 0; i < 256; ++i) quants[i] = static_cast<uint8_t>(quants[i] | (bytes[i % 32] >> (i / 32) & 1) << left);
}

// 16 bytes of scale (low nibble) and minimum (high); 64 bytes of 2-bit quants; half d, dmin.
void parts_q2_k(const uint8_t *block, int, BlockParts &parts) {
  parts.scale[0] = load16(block + 80), parts.minimum[0] = load16(block + 82);
  for (int sub = 0; sub < 16; ++sub)
    parts.scales[sub] = static_cast<int8_t>(block[sub] & 15), parts.minimums[sub] = block[sub] >> 4;
  std::memset(parts.quants, 0, sizeof parts.quants);
  pairs_of_bits(block + 16, 0, parts.quants);
}

// 32 bytes of third bits; 64 bytes of 2-bit quants as in Q2_K; 12 bytes of 6-bit scales; half d. Scale i: low 4 bits in
// nibble i of the first 8 bytes (low nibbles first), high 2 in bits 2 (i / 4) of byte 8 + i % 4; less 32.
void parts_q3_k(const uint8_t *block, int, BlockParts &parts) {
  const uint8_t *scales = block + 96;
  parts.scale[0] = load16(block + 108);
  for (int sub = 0; sub < 16; ++sub) {
    const int low = sub < 8 ? scales[sub] & 15 : scales[sub - 8] >> 4;
    const int high = scales[8 + sub % 4] >> (sub / 4 * 2) & 3;
    parts.scales[sub] = static_cast<int8_t>((low | high << 4) - 32);
  }
  std::memset(parts.quants, 0, sizeof parts.quants);
  pairs_of_bits(block + 32, 0, parts.quants);
  bits_of_32(block, 2, parts.quants);
}

// Of the 8 sub-blocks of Q4_K and Q5_K: 6 bits each, packed in 12 bytes. Those of sub-blocks 0 to 3 are the low 6 bits
// of bytes 0-3 and 4-7; those of 4 to 7 have their low nibbles in bytes 8-11 and their high 2 bits at the top of bytes
// 0-3 and 4-7.
inline void scales_and_minimums(const uint8_t *packed, BlockParts &parts) {
  for (int i = 0; i < 4; ++i) {
    parts.scales[i] = packed[i] & 63, parts.minimums[i] = packed[i + 4] & 63;
    parts.scales[i + 4] = static_cast<int8_t>((packed[i + 8] & 15) | packed[i] >> 6 << 4);
    parts.minimums[i + 4] = static_cast<uint8_t>(packed[i + 8] >> 4 | packed[i + 4] >> 6 << 4);
  }
}

// half d, dmin; 12 bytes of scales and minima; 128 bytes of nibbles.
void parts_q4_k(const uint8_t *block, int, BlockParts &parts) {
  parts.scale[0] = load16(block), parts.minimum[0] = load16(block + 2);
  scales_and_minimums(block + 4, parts);
  nibbles_of_32(block + 16, parts.quants);
}

// As Q4_K, with 32 bytes of fifth bits before the nibbles.
void parts_q5_k(const uint8_t *block, int, BlockParts &parts) {
  parts.scale[0] = load16(block), parts.minimum[0] = load16(block + 2);
  scales_and_minimums(block + 4, parts);
  nibbles_of_32(block + 48, parts.quants);
  bits_of_32(block + 16, 4, parts.quants);
}

// 128 bytes of low nibbles; 64 bytes of high 2-bit parts; 16 signed scales; half d. Each half block of 128 takes
// 64 bytes of nibbles (low ones: elements 0-63, high ones: 64-127) and 32 of high parts, packed as in Q2_K.
void parts_q6_k(const uint8_t *block, int, BlockParts &parts) {
  parts.scale[0] = load16(block + 208);
  std::memcpy(parts.scales, block + 192, 16);
  for (int i = 0; i < 256; i += 64)
    for (int j = 0; j < 64; ++j)
      parts.quants[i + j] = static_cast<uint8_t>(block[i / 128 * 64 + j] >> (i % 128 / 16) & 15);
  pairs_of_bits(block + 128, 4, parts.quants);
}

// half d; 16 bits of high and 4 bytes of low parts of the scales, less 32; 128 bytes of nibbles, 16 bytes a sub-block:
// d * scale * table[q]
void parts_iq4_xs(const uint8_t *block, int, BlockParts &parts) {
  parts.scale[0] = load16(block);
  const int high = load16(block + 2);
  for (int sub = 0; sub < 8; ++sub) {
    const int low = block[4 + sub / 2] >> (sub % 2 * 4) & 15;
    parts.scales[sub] = static_cast<int8_t>((low | (high >> (2 * sub) & 3) << 4) - 32);
    nibbles(block + 8 + sub * 16, parts.quants + sub * 32);
  }
}

// The floats of a block, by its parts.
template <BlockType TYPE>
void block_values(const BlockParts &parts, float *__restrict out) {
  constexpr BlockSpec kSpec = spec_of(TYPE);
  const float d = half(parts.scale[0]), dmin = kSpec.minimum ? half(parts.minimum[0]) : 0;
  for (int sub = 0; sub < (kSpec.nested ? kSpec.scales() : 1); ++sub) {
    const float scale = kSpec.nested ? d * static_cast<float>(parts.scales[sub]) : d;
    const float minimum = !kSpec.minimum ? 0 : kSpec.nested ? -(dmin * static_cast<float>(parts.minimums[sub])) : dmin;
    for (int j = 0; j < kSpec.rows; ++j) {
      const int q = parts.quants[sub * kSpec.rows + j];
      const float value = scale * static_cast<float>((kSpec.table ? kBlockTable[q] : q) - kSpec.offset);
      out[sub * kSpec.rows + j] = kSpec.minimum ? value + minimum : value;
    }
  }
}

using Parts = void (*)(const uint8_t *block, int i, BlockParts &parts);

template <BlockType TYPE, int BYTES, Parts PARTS>
void each_block(const uint8_t *blocks, int64_t n, float *out) {
  constexpr int kElements = spec_of(TYPE).nested ? kLargestUnit : kBlock;
  BlockParts parts;
  for (int64_t i = 0; i < n / kElements; ++i) {
    PARTS(blocks + i * BYTES, 0, parts);
    block_values<TYPE>(parts, out + i * kElements);
  }
}

struct Format {
  TensorType type;
  TensorLayout layout;
  void (*unpack)(const uint8_t *, int64_t n, float *);
  Parts parts;
  BlockType blocks;
};

template <BlockType TYPE, int BYTES, Parts PARTS>
constexpr Format blocks(TensorType type, const char *name) {
  constexpr int kElements = spec_of(TYPE).nested ? kLargestUnit : kBlock;
  return {type, {name, kElements, BYTES}, each_block<TYPE, BYTES, PARTS>, PARTS, TYPE};
}

constexpr Format kFormats[] = {
    {TensorType::F32, {"F32", 1, 4}, unpack_f32, nullptr, {}},
    {TensorType::F16, {"F16", 1, 2}, unpack_f16, nullptr, {}},
    {TensorType::BF16, {"BF16", 1, 2}, unpack_bf16, nullptr, {}},
    blocks<BlockType::Q8_0, 34, parts_q8_0>(TensorType::Q8_0, "Q8_0"),
    blocks<BlockType::Q4_0, 18, parts_q4_0>(TensorType::Q4_0, "Q4_0"),
    blocks<BlockType::Q4_1, 20, parts_q4_1>(TensorType::Q4_1, "Q4_1"),
    blocks<BlockType::Q5_0, 22, parts_q5_0>(TensorType::Q5_0, "Q5_0"),
    blocks<BlockType::Q5_1, 24, parts_q5_1>(TensorType::Q5_1, "Q5_1"),
    blocks<BlockType::Q2_K, 84, parts_q2_k>(TensorType::Q2_K, "Q2_K"),
    blocks<BlockType::Q3_K, 110, parts_q3_k>(TensorType::Q3_K, "Q3_K"),
    blocks<BlockType::Q4_K, 144, parts_q4_k>(TensorType::Q4_K, "Q4_K"),
    blocks<BlockType::Q5_K, 176, parts_q5_k>(TensorType::Q5_K, "Q5_K"),
    blocks<BlockType::Q6_K, 210, parts_q6_k>(TensorType::Q6_K, "Q6_K"),
    blocks<BlockType::IQ4_NL, 18, parts_q4_0>(TensorType::IQ4_NL, "IQ4_NL"),
    blocks<BlockType::IQ4_XS, 136, parts_iq4_xs>(TensorType::IQ4_XS, "IQ4_XS"),
};

const Format *find_format(TensorType type) {
  for (const Format &format : kFormats)
    if (format.type == type) return &format;
  return nullptr;
}

}  // namespace

const TensorLayout *tensor_layout(TensorType type) {
  const Format *format = find_format(type);
  return format ? &format->layout : nullptr;
}

std::string tensor_type_name(TensorType type) {
  // By their numbers; those that are missing were given up.
  static constexpr const char *const names[] = {
      "F32",    "F16",      "Q4_0",     "Q4_1",     nullptr, nullptr, "Q5_0",    "Q5_1",   "Q8_0",    "Q8_1",
      "Q2_K",   "Q3_K",     "Q4_K",     "Q5_K",     "Q6_K",  "Q8_K",  "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S",
      "IQ4_NL", "IQ3_S",    "IQ2_S",    "IQ4_XS",   "I8",    "I16",   "I32",     "I64",    "F64",     "IQ1_M",
      "BF16",   "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "TQ1_0", "TQ2_0", nullptr,   nullptr,  nullptr,   "MXFP4"};
  const auto number = static_cast<uint32_t>(type);
  return number < std::size(names) && names[number] ? names[number] : cat("number ", number);
}

const char *tensor_type_names() {
  static const std::string names = [] {
    std::string list;
    for (const Format &format : kFormats) list += cat(list.empty() ? "" : ", ", format.layout.name);
    return list;
  }();
  return names.c_str();
}

void unpack(TensorType type, const void *blocks, int64_t n, float *values) {
  const Format *format = find_format(type);
  if (!format) fail(Status::UNSUPPORTED, "tensor type ", tensor_type_name(type), " is none of ", tensor_type_names());
  if (n % format->layout.block_elements != 0)
    fail(Status::INVALID_ARGUMENT, n, " elements of type ", format->layout.name, " are not whole blocks of ",
         format->layout.block_elements);
  format->unpack(static_cast<const uint8_t *>(blocks), n, values);
}

std::optional<BlockType> block_type(TensorType type) {
  const Format *format = find_format(type);
  return format && format->parts ? std::optional(format->blocks) : std::nullopt;
}

TensorType tensor_type(BlockType type) {
  static_assert(std::size(kFormats) == 3 + kBlockTypes);
  return std::ranges::find_if(kFormats, [&](const Format &f) { return f.parts && f.blocks == type; })->type;
}

namespace {

// Types of whole bytes or nibbles, whose order in a block is that of a strip: four neighbours of a column after the
// other. HALVES before the numbers, which FLIP makes unsigned.
template <int HALVES, int QUADS, uint32_t FLIP>
bool pack_directly(const std::byte *const columns[kStrip], int64_t blocks, uint8_t *unit) {
  constexpr int kBytes = 2 * HALVES + 4 * QUADS, kHead = BlockSpec::half_at(2 * HALVES, 0);
  bool good = true;
  for (int c = 0; c < kStrip; ++c) {
    for (int i = 0; i < 2; ++i) {
      const auto *block = reinterpret_cast<const uint8_t *>(columns[c]) + i * kBytes;
      const bool there = columns[c] && i < blocks;
      for (int part = 0; part < HALVES; ++part) {
        const uint16_t bits = there ? load16(block + 2 * part) : uint16_t{0};
        good = good && is_finite(bits);
        std::memcpy(unit + BlockSpec::half_at(2 * part + i, c), &bits, sizeof bits);
      }
      for (int quad = 0; quad < QUADS; ++quad) {
        uint32_t four = there ? load32(block + 2 * HALVES + 4 * quad) ^ FLIP : 0;
        std::memcpy(unit + kHead + ((i * QUADS + quad) * kStrip + c) * 4, &four, sizeof four);
      }
    }
  }
  return good;
}

// The parts of a unit of a column.
bool take_apart(const Format &format, const void *unit, int64_t blocks, BlockParts &parts) {
  const BlockSpec &spec = spec_of(format.blocks);
  bool good = true;
  for (int i = 0; i < (spec.nested ? 1 : 2); ++i) {
    if (i < blocks) {
      format.parts(static_cast<const uint8_t *>(unit) + i * format.layout.block_bytes, i, parts);
      good = good && is_finite(parts.scale[i]) && (!spec.minimum || is_finite(parts.minimum[i]));
    } else {
      parts.scale[i] = parts.minimum[i] = 0;
      std::memset(parts.quants + 32 * i, 0, 32);
    }
  }
  return good;
}

}  // namespace

bool pack_unit(TensorType type, const std::byte *const columns[kStrip], int64_t blocks, uint8_t *unit) {
  switch (type) {
    case TensorType::Q8_0: return pack_directly<1, 8, 0x80808080u>(columns, blocks, unit);
    case TensorType::Q4_0:
    case TensorType::IQ4_NL: return pack_directly<1, 4, 0>(columns, blocks, unit);
    case TensorType::Q4_1: return pack_directly<2, 4, 0>(columns, blocks, unit);
    default: break;
  }
  BlockParts parts[kStrip];
  bool good = true;
  for (int c = 0; c < kStrip; ++c) {
    if (columns[c]) good = take_apart(*find_format(type), columns[c], blocks, parts[c]) && good;
    else std::memset(&parts[c], 0, sizeof parts[c]);
  }
  pack_unit(*block_type(type), parts, unit);
  return good;
}

float half_to_float(uint16_t bits) { return half(bits); }

uint16_t float_to_half(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value), size = bits & 0x7fffffffu;
  const uint32_t sign = bits >> 16 & 0x8000u;
  if (size > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | (size >> 13 & 0x3ffu));
  if (size >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and more round to infinity
  if (size < 0x38800000u) {
    // Below the least normal half: a float of exponent 0 ends at 2^-24, as subnormal halves do.
    const float rounded = __builtin_bit_cast(float, size) + 0.5f;
    return static_cast<uint16_t>(sign | (__builtin_bit_cast(uint32_t, rounded) - 0x3f000000u));
  }
  return static_cast<uint16_t>(sign | (size + 0xfffu + (size >> 13 & 1u) - (112u << 23)) >> 13);
}

}  // namespace infini
