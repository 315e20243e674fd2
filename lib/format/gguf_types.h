// What reading and writing a GGUF file share: value types, limits, and the checks of alignment and shape.
#pragma once

#include <bit>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

#include "format/gguf.h"

namespace infini::gguf {

static_assert(std::endian::native == std::endian::little, "GGUF values are copied as they stand in the file");

struct ValueType {
  const char *name;
  uint32_t bytes;  // 0: of no fixed size
};

// By type number, which is also the index of the alternative of GgufValue.
inline constexpr ValueType kValueTypes[] = {{"u8", 1},  {"i8", 1},  {"u16", 2},  {"i16", 2},    {"u32", 4},
                                            {"i32", 4}, {"f32", 4}, {"bool", 1}, {"string", 0}, {"array", 0},
                                            {"u64", 8}, {"i64", 8}, {"f64", 8}};
inline constexpr uint32_t kF32 = 6, kBool = 7, kString = 8, kArray = 9;
static_assert(std::size(kValueTypes) == std::variant_size_v<GgufValue>);

inline constexpr std::string_view kMagic = "GGUF";
inline constexpr uint32_t kVersion = 3;
inline constexpr size_t kLongestKey = 65535;
inline constexpr size_t kMostDimensions = 4;
inline constexpr const char *kAlignmentKey = "general.alignment";
inline constexpr int64_t kAlignmentIfAbsent = 32, kLargestAlignment = int64_t{1} << 24;

// A name from a file in quotes, fit for a message: printable ASCII, the rest as \xNN, cut where it is long.
std::string quoted(std::string_view name);
// "u32 7", "string 'llama'", "an array of 5 f32".
std::string describe(const GgufValue &value);

// Bytes to whose multiples tensors are aligned; a FORMAT error where the key is not a power of two up to 2^24
// (more would only make padding). `name` is the file's.
uint64_t alignment(const Gguf &gguf, const std::string &name);
// Bytes of a tensor. An Error with `status` starting with `where` for a shape that is not 1 to 4 positive
// extents, of rows that are whole blocks, with a size that fits in 63 bits; UNSUPPORTED for other types.
uint64_t tensor_bytes(Status status, const std::string &where, TensorType type, std::span<const int64_t> shape);

inline uint64_t padding(uint64_t position, uint64_t alignment) { return (0 - position) & (alignment - 1); }

}  // namespace infini::gguf
