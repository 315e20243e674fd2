// The numbers of a file's blocks in float64, one by one, written from the published layout of each type and from
// nothing else: what the library unpacks and writes is compared with it.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

namespace reference {

inline double half(const uint8_t *bytes) {
  const unsigned bits = bytes[0] + 256u * bytes[1];
  const int exponent = static_cast<int>(bits >> 10 & 31), mantissa = static_cast<int>(bits & 1023);
  const double size = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits >> 15 ? -size : size;
}

// Element i of a block of 32, or of 256.
inline double block_value(const std::string &type, const uint8_t *b, int i) {
  static constexpr int kTable[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  const auto bit = [](const uint8_t *bytes, int at) { return bytes[at / 8] >> (at % 8) & 1; };
  // Types of 32: byte j has element j in its low nibble and j + 16 in its high one.
  const auto nibble = [&](const uint8_t *bytes) { return i < 16 ? bytes[i] & 15 : bytes[i - 16] >> 4; };
  if (type == "Q8_0") return half(b) * static_cast<int8_t>(b[2 + i]);
  if (type == "Q4_0") return half(b) * (nibble(b + 2) - 8);
  if (type == "Q4_1") return half(b) * nibble(b + 4) + half(b + 2);
  if (type == "Q5_0") return half(b) * (nibble(b + 6) + 16 * bit(b + 2, i) - 16);
  if (type == "Q5_1") return half(b) * (nibble(b + 8) + 16 * bit(b + 4, i)) + half(b + 2);
  if (type == "IQ4_NL") return half(b) * kTable[nibble(b + 2)];

  const int part = i / 128, in_part = i % 128;  // halves of a block of 256
  // Two bits: 32 bytes a half, whose quarters share bytes.
  const auto two_bits = [&](const uint8_t *bytes) { return bytes[32 * part + in_part % 32] >> (in_part / 32 * 2) & 3; };
  // Four bits: 32 bytes for every 64 elements, low nibbles first.
  const auto four_bits = [&](const uint8_t *bytes) { return bytes[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15; };
  // Six bits of scale and minimum j of eight.
  const auto six_bits = [](const uint8_t *bytes, int j, bool minimum) {
    const int row = j % 4 + (minimum ? 4 : 0);
    return j < 4 ? bytes[row] & 63 : (bytes[8 + j % 4] >> (minimum ? 4 : 0) & 15) + 16 * (bytes[row] >> 6);
  };
  if (type == "Q2_K") {
    const uint8_t scale = b[i / 16];
    return half(b + 80) * (scale & 15) * two_bits(b + 16) - half(b + 82) * (scale >> 4);
  }
  if (type == "Q3_K") {
    const int j = i / 16, low = b[96 + j % 8] >> (j / 8 * 4) & 15, high = b[104 + j % 4] >> (j / 4 * 2) & 3;
    const int third = b[i % 32] >> (i / 32) & 1;
    return half(b + 108) * (low + 16 * high - 32) * (two_bits(b + 32) + 4 * third - 4);
  }
  if (type == "Q4_K")
    return half(b) * six_bits(b + 4, i / 32, false) * four_bits(b + 16) - half(b + 2) * six_bits(b + 4, i / 32, true);
  if (type == "Q5_K") {
    const int fifth = b[16 + i % 32] >> (i / 32) & 1;
    return half(b) * six_bits(b + 4, i / 32, false) * (four_bits(b + 48) + 16 * fifth) -
           half(b + 2) * six_bits(b + 4, i / 32, true);
  }
  if (type == "Q6_K") {
    const int low = b[64 * part + in_part % 64] >> (in_part / 64 * 4) & 15;
    return half(b + 208) * static_cast<int8_t>(b[192 + i / 16]) * (low + 16 * two_bits(b + 128) - 32);
  }
  if (type == "IQ4_XS") {
    const int j = i / 32, low = b[4 + j / 2] >> (j % 2 * 4) & 15, high = (b[2] + 256 * b[3]) >> (2 * j) & 3;
    const int at = i % 32, q = at < 16 ? b[8 + 16 * j + at] & 15 : b[8 + 16 * j + at - 16] >> 4;
    return half(b) * (low + 16 * high - 32) * kTable[q];
  }
  return std::nan("");
}

}  // namespace reference
