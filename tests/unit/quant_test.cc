#include "format/quant.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "support.h"

using namespace infini;

namespace {

const TensorType kTypes[] = {TensorType::F32,  TensorType::F16,  TensorType::BF16, TensorType::Q8_0, TensorType::Q4_0,
                             TensorType::Q4_1, TensorType::Q5_0, TensorType::Q5_1, TensorType::Q2_K, TensorType::Q3_K,
                             TensorType::Q4_K, TensorType::Q5_K, TensorType::Q6_K};

nlohmann::json golden_index() { return nlohmann::json::parse(test::read_text(test::fixture("quant/index.json"))); }

size_t different_bits(const std::vector<float> &a, const std::vector<float> &b) {
  REQUIRE(a.size() == b.size());
  size_t count = 0;
  for (size_t i = 0; i < a.size(); ++i) count += std::memcmp(&a[i], &b[i], sizeof(float)) != 0;
  return count;
}

// What a half stands for, by the definition of the format.
double half_by_definition(unsigned bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31), mantissa = static_cast<int>(bits & 1023);
  double size = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  if (exponent == 31) size = mantissa ? std::nan("") : std::numeric_limits<double>::infinity();
  return bits & 0x8000 ? -size : size;
}

float next_up(float value) { return std::nextafter(value, std::numeric_limits<float>::infinity()); }
float next_down(float value) { return std::nextafter(value, -std::numeric_limits<float>::infinity()); }

}  // namespace

TEST_CASE("every block type gives its golden floats, bit for bit") {
  const nlohmann::json index = golden_index();
  CHECK(index.size() == 12);
  for (const auto &[name, facts] : index.items()) {
    CAPTURE(name);
    const auto type = static_cast<TensorType>(facts["type_id"].get<uint32_t>());
    const auto blocks = test::read_numbers<std::byte>(test::fixture("quant/" + name + ".blocks"));
    const auto expected = test::read_numbers<float>(test::fixture("quant/" + name + ".f32"));
    std::vector<float> actual(expected.size());
    unpack(type, blocks.data(), static_cast<int64_t>(actual.size()), actual.data());
    CHECK(different_bits(actual, expected) == 0);
  }
}

TEST_CASE("layouts are those of the golden index") {
  const nlohmann::json index = golden_index();
  for (const auto &[name, facts] : index.items()) {
    const TensorLayout *layout = tensor_layout(static_cast<TensorType>(facts["type_id"].get<uint32_t>()));
    REQUIRE(layout != nullptr);
    CHECK(layout->name == name);
    CHECK(layout->block_elements == facts["block_elements"].get<int>());
    CHECK(layout->block_bytes == facts["block_bytes"].get<int>());
  }
}

TEST_CASE("blocks may lie at any address, and exactly n floats are written") {
  for (const TensorType type : kTypes) {
    const TensorLayout &layout = *tensor_layout(type);
    CAPTURE(layout.name);
    const int blocks = 3;
    std::vector<uint8_t> bytes(static_cast<size_t>(blocks * layout.block_bytes));
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 37 % 120);
    const auto n = static_cast<size_t>(blocks * layout.block_elements);
    std::vector<float> aligned(n);
    unpack(type, bytes.data(), static_cast<int64_t>(n), aligned.data());
    for (size_t shift = 1; shift < 8; ++shift) {
      std::vector<uint8_t> shifted(bytes.size() + shift);
      std::copy(bytes.begin(), bytes.end(), shifted.begin() + static_cast<std::ptrdiff_t>(shift));
      std::vector<float> actual(n + 1, 12345.0f);
      unpack(type, shifted.data() + shift, static_cast<int64_t>(n), actual.data());
      CHECK(actual.back() == 12345.0f);
      actual.pop_back();
      CHECK(different_bits(actual, aligned) == 0);
    }
  }
}

TEST_CASE("an unknown type has no layout, and unpacking it lists the known ones") {
  for (const uint32_t number : {4u, 5u, 9u, 15u, 16u, 29u, 31u, 0xffffffffu})
    CHECK(tensor_layout(static_cast<TensorType>(number)) == nullptr);
  for (const TensorType type : kTypes)
    CHECK(std::string(tensor_type_names()).find(tensor_layout(type)->name) != std::string::npos);
  float out = 0;
  try {
    unpack(static_cast<TensorType>(16), "x", 1, &out);
    FAIL("type 16 was unpacked");
  } catch (const Error &error) {
    CHECK(error.status() == Status::UNSUPPORTED);
    CHECK(std::string(error.what()).find("16") != std::string::npos);
    CHECK(std::string(error.what()).find("Q6_K") != std::string::npos);
  }
}

TEST_CASE("a part of a block is refused") {
  std::vector<float> out(256);
  const std::vector<std::byte> block(300);
  for (const TensorType type : kTypes) {
    if (tensor_layout(type)->block_elements == 1) continue;
    CHECK_THROWS_AS(unpack(type, block.data(), 16, out.data()), Error);
  }
}

TEST_CASE("a half becomes the float it stands for, and comes back") {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const float value = half_to_float(static_cast<uint16_t>(bits));
    const double expected = half_by_definition(bits);
    const bool same = std::isnan(expected) ? std::isnan(value) : value == expected;
    if (!same || std::signbit(value) != ((bits & 0x8000) != 0)) FAIL_CHECK("half " << bits << " gives " << value);
    const uint16_t back = float_to_half(value);
    const bool nan_stays = std::isnan(expected) && (back & 0x7c00) == 0x7c00 && (back & 0x3ff) != 0;
    if (back != bits && !nan_stays) FAIL_CHECK("half " << bits << " comes back as " << back);
  }
}

TEST_CASE("a float becomes the nearest half, ties to even") {
  for (unsigned bits = 0; bits < 0x7bff; ++bits) {
    const float low = half_to_float(static_cast<uint16_t>(bits)), high = half_to_float(static_cast<uint16_t>(bits + 1));
    const float middle = (low + high) / 2;  // exact
    const unsigned even = bits + (bits & 1);
    for (const float sign : {1.0f, -1.0f}) {
      const unsigned mark = sign < 0 ? 0x8000 : 0;
      const bool good = float_to_half(sign * middle) == (even | mark) &&
                        float_to_half(sign * next_up(middle)) == ((bits + 1) | mark) &&
                        float_to_half(sign * next_down(middle)) == (bits | mark);
      if (!good) FAIL_CHECK("between halves " << bits << " and " << bits + 1);
    }
  }
  CHECK(float_to_half(65504.0f) == 0x7bff);
  CHECK(float_to_half(next_down(65520.0f)) == 0x7bff);
  CHECK(float_to_half(65520.0f) == 0x7c00);
  CHECK(float_to_half(std::numeric_limits<float>::infinity()) == 0x7c00);
  CHECK(float_to_half(-std::numeric_limits<float>::max()) == 0xfc00);
  CHECK(float_to_half(std::numeric_limits<float>::denorm_min()) == 0);
}

TEST_CASE("a float becomes the nearest bf16, ties to even") {
  for (unsigned bits = 0; bits < 0x7f7f; ++bits) {
    const float low = bf16_to_float(static_cast<uint16_t>(bits));
    const float middle = __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, low) | 0x8000u);
    const bool good = float_to_bf16(low) == bits && float_to_bf16(middle) == bits + (bits & 1) &&
                      float_to_bf16(next_up(middle)) == bits + 1 && float_to_bf16(next_down(middle)) == bits;
    if (!good) FAIL_CHECK("after bf16 " << bits);
  }
  CHECK(float_to_bf16(std::numeric_limits<float>::max()) == 0x7f80);
  CHECK(std::isnan(bf16_to_float(float_to_bf16(__builtin_bit_cast(float, 0x7f800001u)))));
}
