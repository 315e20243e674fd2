#include "format/quant.h"

#include <iterator>

#include <cstring>

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

inline uint16_t load16(const uint8_t *bytes) { return static_cast<uint16_t>(bytes[0] | bytes[1] << 8); }
inline float load_half(const uint8_t *bytes) { return half(load16(bytes)); }
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

// Blocks of 32. Byte j of the quants holds element j in its low and element j + 16 in its high nibble.

// half d; 32 signed bytes: d * q
void block_q8_0(const uint8_t *__restrict block, float *__restrict out) {
  const float d = load_half(block);
  for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(static_cast<int8_t>(block[2 + j]));
}

// half d; 16 bytes of nibbles: d * (q - 8)
void block_q4_0(const uint8_t *__restrict block, float *__restrict out) {
  const float d = load_half(block);
  const uint8_t *quants = block + 2;
  for (int j = 0; j < 16; ++j) out[j] = d * static_cast<float>((quants[j] & 15) - 8);
  for (int j = 0; j < 16; ++j) out[j + 16] = d * static_cast<float>((quants[j] >> 4) - 8);
}

// half d, m; 16 bytes of nibbles: d * q + m
void block_q4_1(const uint8_t *__restrict block, float *__restrict out) {
  const float d = load_half(block), m = load_half(block + 2);
  const uint8_t *quants = block + 4;
  for (int j = 0; j < 16; ++j) out[j] = d * static_cast<float>(quants[j] & 15) + m;
  for (int j = 0; j < 16; ++j) out[j + 16] = d * static_cast<float>(quants[j] >> 4) + m;
}

// half d; 32 fifth bits, element 0 lowest; 16 bytes of nibbles: d * (q - 16)
void block_q5_0(const uint8_t *__restrict block, float *__restrict out) {
  const float d = load_half(block);
  const uint32_t fifth = load32(block + 2);
  const uint8_t *quants = block + 6;
  for (unsigned j = 0; j < 16; ++j) {
    const uint32_t low = (quants[j] & 15u) | (fifth >> j & 1u) << 4;
    const uint32_t high = static_cast<uint32_t>(quants[j] >> 4) | (fifth >> (j + 16) & 1u) << 4;
    out[j] = d * static_cast<float>(static_cast<int>(low) - 16);
    out[j + 16] = d * static_cast<float>(static_cast<int>(high) - 16);
  }
}

// half d, m; 32 fifth bits; 16 bytes of nibbles: d * q + m
void block_q5_1(const uint8_t *__restrict block, float *__restrict out) {
  const float d = load_half(block), m = load_half(block + 2);
  const uint32_t fifth = load32(block + 4);
  const uint8_t *quants = block + 8;
  for (unsigned j = 0; j < 16; ++j) {
    const uint32_t low = (quants[j] & 15u) | (fifth >> j & 1u) << 4;
    const uint32_t high = static_cast<uint32_t>(quants[j] >> 4) | (fifth >> (j + 16) & 1u) << 4;
    out[j] = d * static_cast<float>(static_cast<int>(low)) + m;
    out[j + 16] = d * static_cast<float>(static_cast<int>(high)) + m;
  }
}

// Blocks of 256, in sub-blocks of 16 or 32 that have a scale of their own.

// 16 bytes of scale (low nibble) and minimum (high); 64 bytes of 2-bit quants; half d, dmin.
// Each half block takes 32 bytes of quants: bits 0-1 are its first 32 elements, bits 2-3 the next, ...
void block_q2_k(const uint8_t *__restrict block, float *__restrict out) {
  const uint8_t *scales = block, *quants = block + 16;
  const float d = load_half(block + 80), dmin = load_half(block + 82);
  for (int sub = 0; sub < 16; ++sub) {
    const float scale = d * static_cast<float>(scales[sub] & 15), least = dmin * static_cast<float>(scales[sub] >> 4);
    const uint8_t *bytes = quants + sub / 8 * 32 + sub % 2 * 16;
    const int shift = sub % 8 / 2 * 2;
    for (int j = 0; j < 16; ++j) out[sub * 16 + j] = scale * static_cast<float>(bytes[j] >> shift & 3) - least;
  }
}

// 32 bytes of third bits; 64 bytes of 2-bit quants as in Q2_K; 12 bytes of 6-bit scales; half d.
// Bit b of third[j] belongs to element 32 b + j. Scale i: low 4 bits in nibble i of the first 8 bytes
// (low nibbles first), high 2 in bits 2 (i / 4) of byte 8 + i % 4; less 32.
void block_q3_k(const uint8_t *__restrict block, float *__restrict out) {
  const uint8_t *third = block, *quants = block + 32, *scales = block + 96;
  const float d = load_half(block + 108);
  for (int sub = 0; sub < 16; ++sub) {
    const int low = sub < 8 ? scales[sub] & 15 : scales[sub - 8] >> 4;
    const int high = scales[8 + sub % 4] >> (sub / 4 * 2) & 3;
    const float scale = d * static_cast<float>((low | high << 4) - 32);
    const uint8_t *bytes = quants + sub / 8 * 32 + sub % 2 * 16, *bits = third + sub % 2 * 16;
    const int shift = sub % 8 / 2 * 2, bit = sub / 2;
    for (int j = 0; j < 16; ++j) {
      const int quant = (bytes[j] >> shift & 3) | (bits[j] >> bit & 1) << 2;
      out[sub * 16 + j] = scale * static_cast<float>(quant - 4);
    }
  }
}

struct ScaleAndMinimum {
  float scale, minimum;
};

// Of sub-block i (of 8) of Q4_K and Q5_K: 6 bits each, packed in 12 bytes. Those of sub-blocks 0 to 3 are the
// low 6 bits of bytes 0-3 and 4-7; those of 4 to 7 have their low nibbles in bytes 8-11 and their high 2 bits
// at the top of bytes 0-3 and 4-7.
inline ScaleAndMinimum scale_and_minimum(const uint8_t *packed, int i) {
  if (i < 4) return {static_cast<float>(packed[i] & 63), static_cast<float>(packed[i + 4] & 63)};
  return {static_cast<float>((packed[i + 4] & 15) | packed[i - 4] >> 6 << 4),
          static_cast<float>(packed[i + 4] >> 4 | packed[i] >> 6 << 4)};
}

// half d, dmin; 12 bytes of scales and minima; 128 bytes of nibbles.
// Each 32 bytes hold one sub-block in their low nibbles and the next in their high ones.
void block_q4_k(const uint8_t *__restrict block, float *__restrict out) {
  const float d = load_half(block), dmin = load_half(block + 2);
  for (int sub = 0; sub < 8; ++sub) {
    const ScaleAndMinimum packed = scale_and_minimum(block + 4, sub);
    const float scale = d * packed.scale, least = dmin * packed.minimum;
    const uint8_t *bytes = block + 16 + sub / 2 * 32;
    const int shift = sub % 2 * 4;
    for (int j = 0; j < 32; ++j) out[sub * 32 + j] = scale * static_cast<float>(bytes[j] >> shift & 15) - least;
  }
}

// As Q4_K, with 32 bytes of fifth bits before the nibbles; bit b of fifth[j] belongs to element 32 b + j.
void block_q5_k(const uint8_t *__restrict block, float *__restrict out) {
  const float d = load_half(block), dmin = load_half(block + 2);
  const uint8_t *fifth = block + 16;
  for (int sub = 0; sub < 8; ++sub) {
    const ScaleAndMinimum packed = scale_and_minimum(block + 4, sub);
    const float scale = d * packed.scale, least = dmin * packed.minimum;
    const uint8_t *bytes = block + 48 + sub / 2 * 32;
    const int shift = sub % 2 * 4;
    for (int j = 0; j < 32; ++j) {
      const int quant = (bytes[j] >> shift & 15) | (fifth[j] >> sub & 1) << 4;
      out[sub * 32 + j] = scale * static_cast<float>(quant) - least;
    }
  }
}

// 128 bytes of low nibbles; 64 bytes of high 2-bit parts; 16 signed scales; half d. Each half block of 128 takes
// 64 bytes of nibbles (low ones: elements 0-63, high ones: 64-127) and 32 of high parts, packed as in Q2_K.
void block_q6_k(const uint8_t *__restrict block, float *__restrict out) {
  const float d = load_half(block + 208);
  for (int sub = 0; sub < 16; ++sub) {
    const float scale = d * static_cast<float>(static_cast<int8_t>(block[192 + sub]));
    const uint8_t *low = block + sub / 8 * 64 + sub % 4 * 16, *high = block + 128 + sub / 8 * 32 + sub % 2 * 16;
    const int low_shift = sub % 8 / 4 * 4, high_shift = sub % 8 / 2 * 2;
    for (int j = 0; j < 16; ++j) {
      const int quant = (low[j] >> low_shift & 15) | (high[j] >> high_shift & 3) << 4;
      out[sub * 16 + j] = scale * static_cast<float>(quant - 32);
    }
  }
}

template <int Elements, int Bytes, void (*Block)(const uint8_t *, float *)>
void each_block(const uint8_t *blocks, int64_t n, float *out) {
  for (int64_t i = 0; i < n / Elements; ++i) Block(blocks + i * Bytes, out + i * Elements);
}

struct Format {
  TensorType type;
  TensorLayout layout;
  void (*unpack)(const uint8_t *, int64_t n, float *);
};

template <int Elements, int Bytes, void (*Block)(const uint8_t *, float *)>
constexpr Format blocks(TensorType type, const char *name) {
  return {type, {name, Elements, Bytes}, each_block<Elements, Bytes, Block>};
}

constexpr Format kFormats[] = {
    {TensorType::F32, {"F32", 1, 4}, unpack_f32},           {TensorType::F16, {"F16", 1, 2}, unpack_f16},
    {TensorType::BF16, {"BF16", 1, 2}, unpack_bf16},        blocks<32, 34, block_q8_0>(TensorType::Q8_0, "Q8_0"),
    blocks<32, 18, block_q4_0>(TensorType::Q4_0, "Q4_0"),   blocks<32, 20, block_q4_1>(TensorType::Q4_1, "Q4_1"),
    blocks<32, 22, block_q5_0>(TensorType::Q5_0, "Q5_0"),   blocks<32, 24, block_q5_1>(TensorType::Q5_1, "Q5_1"),
    blocks<256, 84, block_q2_k>(TensorType::Q2_K, "Q2_K"),  blocks<256, 110, block_q3_k>(TensorType::Q3_K, "Q3_K"),
    blocks<256, 144, block_q4_k>(TensorType::Q4_K, "Q4_K"), blocks<256, 176, block_q5_k>(TensorType::Q5_K, "Q5_K"),
    blocks<256, 210, block_q6_k>(TensorType::Q6_K, "Q6_K"),
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
