// The tensor types of GGUF and the floats that their blocks stand for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "base/number.h"
#include "kernels/blocks.h"

namespace infini {

enum class TensorType : uint32_t {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q2_K = 10,
  Q3_K = 11,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  IQ4_NL = 20,
  IQ4_XS = 23,
  BF16 = 30,
};

struct TensorLayout {
  const char *name;
  int block_elements;  // elements of a row that share a block; 1 for the float types
  int block_bytes;
  int64_t bytes(int64_t n) const {
    return n / block_elements * block_bytes;
  }  // of n elements, a multiple of block_elements
};

// nullptr for a type that this library cannot read.
const TensorLayout *tensor_layout(TensorType type);
// What a type is called, also one that cannot be read here; its number where it is not known.
std::string tensor_type_name(TensorType type);
// Every type in the enumeration, as "F32, F16, ...": for messages.
const char *tensor_type_names();

// The floats of n elements that start at `blocks`; n is a multiple of block_elements.
// `blocks` may be unaligned. Exactly as the format defines them (f32 arithmetic, no reordering).
void unpack(TensorType type, const void *blocks, int64_t n, float *values);

// How blocks of a type are multiplied at their bits; nothing for the float types.
std::optional<BlockType> block_type(TensorType type);
TensorType tensor_type(BlockType type);  // whose blocks they are
// Packs a unit of a strip (kernels/blocks.h): of 16 columns two blocks of 32 each, or one of 256, one behind the other
// from columns[c]; nullptr: a column that is not there. What is past `blocks` blocks is zero. False where a scale is
// infinite or not a number.
bool pack_unit(TensorType type, const std::byte *const columns[kStrip], int64_t blocks, uint8_t *unit);

float half_to_float(uint16_t half);
uint16_t float_to_half(float value);  // nearest, ties to even

}  // namespace infini
