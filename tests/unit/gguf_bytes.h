// GGUF files put together byte by byte, so that tests can make bad ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace test {

struct GgufBytes {
  std::string bytes;

  template <class T>
  GgufBytes &number(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes.append(raw, sizeof(T));
    return *this;
  }
  GgufBytes &text(const std::string &value) {
    number(uint64_t{value.size()});
    bytes += value;
    return *this;
  }
  GgufBytes &header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    bytes += "GGUF";
    return number(version).number(tensors).number(keys);
  }
  // Its value follows.
  GgufBytes &key(const std::string &name, uint32_t type) { return text(name).number(type); }
  // Its elements follow.
  GgufBytes &array(const std::string &name, uint32_t type, uint64_t count) {
    return key(name, 9).number(type).number(count);
  }
  GgufBytes &tensor(const std::string &name, const std::vector<uint64_t> &shape, uint32_t type, uint64_t offset) {
    text(name).number(static_cast<uint32_t>(shape.size()));
    for (const uint64_t extent : shape) number(extent);
    return number(type).number(offset);
  }
  GgufBytes &align(size_t unit = 32) {
    bytes.append((unit - bytes.size() % unit) % unit, '\0');
    return *this;
  }
  GgufBytes &fill(size_t size, char byte = 1) {
    bytes.append(size, byte);
    return *this;
  }
};

inline std::span<const std::byte> as_bytes(const std::string &text) {
  return std::as_bytes(std::span<const char>(text));
}

// A good file: one key of every value type, arrays of every element type, and two tensors.
inline GgufBytes every_value_type() {
  GgufBytes file;
  file.header(2, 26).key("u8", 0).number(uint8_t{200}).key("i8", 1).number(int8_t{-100});
  file.key("u16", 2).number(uint16_t{60000}).key("i16", 3).number(int16_t{-30000});
  file.key("u32", 4).number(uint32_t{4000000000u}).key("i32", 5).number(int32_t{-2000000000});
  file.key("f32", 6).number(1.5f).key("true", 7).number(uint8_t{1}).key("false", 7).number(uint8_t{0});
  file.key("string", 8).text(std::string("h\xc3\xa9llo\0!", 8)).key("empty", 8).text("");
  file.key("u64", 10).number(uint64_t{18000000000000000000u}).key("i64", 11).number(int64_t{-9000000000000000000});
  file.key("f64", 12).number(0.1);
  file.array("u8s", 0, 2).number(uint8_t{1}).number(uint8_t{255});
  file.array("i8s", 1, 2).number(int8_t{-1}).number(int8_t{5});
  file.array("u16s", 2, 1).number(uint16_t{65535}).array("i16s", 3, 1).number(int16_t{-32768});
  file.array("i32s", 5, 3).number(int32_t{-1}).number(int32_t{0}).number(int32_t{7});
  file.array("f32s", 6, 2).number(0.25f).number(-2.0f).array("bools", 7, 2).number(uint8_t{0}).number(uint8_t{1});
  file.array("strings", 8, 3).text("a").text("").text("ccc").array("none", 8, 0).array("zero", 4, 0);
  file.array("u64s", 10, 1).number(~uint64_t{0}).array("f64s", 12, 1).number(1e300);
  file.tensor("matrix", {32, 2}, 8, 0).tensor("vector", {3}, 0, 96).align();
  for (int row = 0; row < 2; ++row) file.number(uint16_t{0x3c00}).fill(32, static_cast<char>(row + 1));
  return file.align().number(1.0f).number(2.0f).number(3.0f).align();
}

}  // namespace test
