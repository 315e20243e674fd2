// Every check of the GGUF reader, fed with the file that it is for.
#include "allocations.h"
#include "format/gguf.h"
#include "gguf_bytes.h"
#include "support.h"

using namespace infini;
using test::every_value_type;
using test::GgufBytes;

namespace {

// Parses a copy that ends where its memory ends, so that a sanitizer sees any byte read past it.
Error error_of(const std::string &bytes) {
  const std::vector<char> exact(bytes.begin(), bytes.end());
  try {
    Gguf::parse(std::as_bytes(std::span(exact)), "bad.gguf");
  } catch (const Error &error) { return error; }
  return {Status::OK, ""};
}

void check_refused(const GgufBytes &file, Status status, const std::vector<std::string> &parts) {
  const Error error = error_of(file.bytes);
  const std::string message = error.what();
  CAPTURE(message);
  CHECK(status_name(error.status()) == std::string(status_name(status)));
  CHECK(message.starts_with("bad.gguf: "));
  for (const std::string &part : parts) {
    CAPTURE(part);
    CHECK(message.find(part) != std::string::npos);
  }
}

GgufBytes file_with_tensor(const std::vector<uint64_t> &shape, uint32_t type = 0, uint64_t offset = 0) {
  GgufBytes file;
  file.header(1, 0).tensor("blk.0.w", shape, type, offset).align().fill(4096);
  return file;
}

GgufBytes with_alignment(uint32_t value) { return GgufBytes().header(0, 1).key("general.alignment", 4).number(value); }

constexpr uint64_t kExtremes[] = {
    1000000,          uint64_t{1} << 32, (uint64_t{1} << 61) + 1, (uint64_t{1} << 63) - 1, uint64_t{1} << 63,
    ~uint64_t{0} - 7, ~uint64_t{0}};

}  // namespace

TEST_CASE("a wrong magic is refused and shown") {
  check_refused(GgufBytes{"ggml\3\0\0\0"}, Status::FORMAT, {"'ggml'", "GGUF"});
  check_refused(GgufBytes{"PK\3\4........"}, Status::FORMAT, {"'PK\\x03\\x04'"});
  check_refused(GgufBytes{"FUGG"}, Status::FORMAT, {"'FUGG'"});
  check_refused(GgufBytes{"x"}, Status::FORMAT, {"'x'"});
}

TEST_CASE("version 0, 1, byte-swapped and future each get their own error") {
  check_refused(GgufBytes().header(0, 0, 0), Status::FORMAT, {"version 0"});
  check_refused(GgufBytes().header(0, 0, 1), Status::UNSUPPORTED, {"version 1"});
  check_refused(GgufBytes().header(0, 0, 0x03000000), Status::FORMAT, {"big-endian"});
  check_refused(GgufBytes().header(0, 0, 4), Status::VERSION, {"version 4", "3"});
  check_refused(GgufBytes().header(0, 0, 0xffffffff), Status::VERSION, {"version 4294967295"});
}

TEST_CASE("counts that the file cannot hold are refused") {
  for (const uint64_t count : kExtremes) {
    check_refused(GgufBytes().header(count, 0).fill(100), Status::TRUNCATED, {"tensor count", std::to_string(count)});
    check_refused(GgufBytes().header(0, count).fill(100), Status::TRUNCATED, {"key count", std::to_string(count)});
    check_refused(GgufBytes().header(count, count).fill(100), Status::TRUNCATED, {std::to_string(count)});
  }
}

TEST_CASE("lengths that the file cannot hold are refused, naming the key") {
  for (const uint64_t count : kExtremes) {
    const std::string number = std::to_string(count);
    check_refused(GgufBytes().header(0, 1).number(count).fill(20), Status::TRUNCATED, {"key 1 of 1", number});
    check_refused(GgufBytes().header(0, 1).key("some.key", 8).number(count).fill(20), Status::TRUNCATED,
                  {"'some.key'", number});
    for (const uint32_t type : {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12})
      check_refused(GgufBytes().header(0, 1).array("some.key", type, count).fill(20), Status::TRUNCATED,
                    {"'some.key'", number});
    check_refused(GgufBytes().header(0, 1).array("some.key", 8, 2).text("x").number(count).fill(8), Status::TRUNCATED,
                  {"'some.key'", number});
    check_refused(GgufBytes().header(1, 0).number(count).fill(40), Status::TRUNCATED, {"tensor 1 of 1", number});
  }
}

TEST_CASE("no allocation is larger than the file justifies") {
  const auto check_bounded = [](const GgufBytes &file) {
    test::largest_allocation = 0;
    error_of(file.bytes);
    CHECK(test::largest_allocation <= 8 * file.bytes.size() + 4096);
  };
  for (const uint64_t count : {uint64_t{100}, uint64_t{124}, uint64_t{125}, uint64_t{1000}, uint64_t{1} << 40}) {
    check_bounded(GgufBytes().header(count, count).fill(1000));
    check_bounded(GgufBytes().header(count, 0).fill(1000));
    check_bounded(GgufBytes().header(0, count).fill(1000));
    check_bounded(GgufBytes().header(0, 1).key("k", 8).number(count).fill(1000));
    for (const uint32_t type : {0, 4, 7, 8, 12}) {
      check_bounded(GgufBytes().header(0, 1).array("k", type, count).fill(1000));
      check_bounded(GgufBytes().header(0, 1).array("k", type, count).fill(1000, '\0'));
    }
  }
  check_bounded(file_with_tensor({1 << 20, 1 << 10}));
}

TEST_CASE("empty, overlong and duplicate keys are refused") {
  check_refused(GgufBytes().header(0, 2).key("a", 0).number(uint8_t{1}).key("", 0).number(uint8_t{1}).fill(9),
                Status::FORMAT, {"key 2 of 2", "0 bytes"});
  check_refused(GgufBytes().header(0, 1).key(std::string(65536, 'k'), 0).number(uint8_t{1}), Status::FORMAT,
                {"65536", "65535"});
  CHECK(error_of(GgufBytes().header(0, 1).key(std::string(65535, 'k'), 0).number(uint8_t{1}).bytes).status() ==
        Status::OK);
  check_refused(GgufBytes().header(0, 2).key("a.b", 0).number(uint8_t{1}).key("a.b", 4).number(1u), Status::FORMAT,
                {"'a.b'", "twice"});
}

TEST_CASE("a name that is no text is shown as its bytes, and cut") {
  const std::string name = "a\n\xff" + std::string(200, 'k');
  check_refused(GgufBytes().header(0, 1).key(name, 13).fill(8), Status::FORMAT, {"'a\\x0a\\xffkkk", "...'"});
}

TEST_CASE("value and element types are checked") {
  for (const uint32_t type : {13u, 14u, 255u, 0xffffffffu}) {
    const std::string number = std::to_string(type);
    check_refused(GgufBytes().header(0, 1).key("some.key", type).fill(32), Status::FORMAT, {"'some.key'", number});
    check_refused(GgufBytes().header(0, 1).array("some.key", type, 0).fill(32), Status::FORMAT, {"'some.key'", number});
  }
  check_refused(GgufBytes().header(0, 1).array("some.key", 9, 1).number(4u).number(uint64_t{0}), Status::UNSUPPORTED,
                {"'some.key'", "array of arrays"});
}

TEST_CASE("a bool must be 0 or 1") {
  check_refused(GgufBytes().header(0, 1).key("some.key", 7).number(uint8_t{2}), Status::FORMAT, {"'some.key'", "2"});
  check_refused(GgufBytes().header(0, 1).array("some.key", 7, 3).fill(2).number(uint8_t{255}), Status::FORMAT,
                {"'some.key'", "255"});
}

TEST_CASE("the alignment must be a power of two") {
  for (const uint32_t value : {0u, 3u, 48u, 0xffffffffu, 1u << 31})
    check_refused(with_alignment(value), Status::FORMAT, {"'general.alignment'", std::to_string(value)});
  for (const uint32_t value : {1u, 8u, 32u, 4096u}) CHECK(error_of(with_alignment(value).bytes).status() == Status::OK);
  check_refused(GgufBytes().header(0, 1).key("general.alignment", 8).text("32"), Status::FORMAT,
                {"'general.alignment'", "string '32'"});
  check_refused(GgufBytes().header(0, 1).key("general.alignment", 5).number(int32_t{-32}), Status::FORMAT,
                {"'general.alignment'", "-32"});
}

TEST_CASE("the number of dimensions must be 1 to 4") {
  CHECK(error_of(file_with_tensor({2, 2, 2, 2}).bytes).status() == Status::OK);
  check_refused(file_with_tensor({}), Status::FORMAT, {"'blk.0.w'", "0 dimensions"});
  check_refused(file_with_tensor({1, 1, 1, 1, 1}), Status::FORMAT, {"'blk.0.w'", "5 dimensions"});
  GgufBytes file;
  file.header(1, 0).text("blk.0.w").number(0xffffffffu).fill(4096);
  check_refused(file, Status::FORMAT, {"'blk.0.w'", "4294967295 dimensions"});
}

TEST_CASE("zero, negative and overflowing extents are refused") {
  check_refused(file_with_tensor({0}), Status::FORMAT, {"'blk.0.w'", "extent of 0"});
  check_refused(file_with_tensor({4, 0, 4}), Status::FORMAT, {"'blk.0.w'", "extent of 0"});
  check_refused(file_with_tensor({4, ~uint64_t{0}}), Status::FORMAT, {"'blk.0.w'", "extent of -1"});
  check_refused(file_with_tensor({uint64_t{1} << 63}), Status::FORMAT, {"'blk.0.w'", "extent of -9223372036854775808"});
  check_refused(file_with_tensor({uint64_t{1} << 32, uint64_t{1} << 32}), Status::FORMAT, {"'blk.0.w'", "63 bits"});
  check_refused(file_with_tensor({uint64_t{1} << 31, 1 << 16, 1 << 16, 2}), Status::FORMAT, {"'blk.0.w'", "63 bits"});
  check_refused(file_with_tensor({uint64_t{1} << 61}), Status::FORMAT, {"'blk.0.w'", "63 bits"});
  check_refused(file_with_tensor({uint64_t{1} << 60}), Status::TRUNCATED, {"'blk.0.w'", "4611686018427387904"});
}

TEST_CASE("a row must be made of whole blocks") {
  check_refused(file_with_tensor({33}, 8), Status::FORMAT, {"'blk.0.w'", "33", "Q8_0", "32"});
  check_refused(file_with_tensor({128, 2}, 12), Status::FORMAT, {"'blk.0.w'", "128", "Q4_K", "256"});
}

TEST_CASE("an unknown tensor type is UNSUPPORTED and lists the known ones") {
  for (const uint32_t type : {4u, 9u, 16u, 24u, 1000u})
    check_refused(file_with_tensor({32}, type), Status::UNSUPPORTED,
                  {"'blk.0.w'", tensor_type_name(static_cast<TensorType>(type)), tensor_type_names()});
}

TEST_CASE("tensors must have distinct names") {
  GgufBytes file;
  file.header(2, 0).tensor("blk.0.w", {1}, 0, 0).tensor("blk.0.w", {1}, 0, 32).align().fill(64);
  check_refused(file, Status::FORMAT, {"'blk.0.w'", "twice"});
  check_refused(GgufBytes().header(1, 0).tensor("", {1}, 0, 0).align().fill(64), Status::FORMAT,
                {"tensor 1 of 1", "empty name"});
}

TEST_CASE("tensor offsets must be aligned, in order and inside the file") {
  check_refused(file_with_tensor({4}, 0, 4), Status::FORMAT, {"'blk.0.w'", "offset 4", "32"});
  for (const uint64_t offset : {uint64_t{4096}, uint64_t{1} << 40, uint64_t{1} << 63, ~uint64_t{0} - 31})
    check_refused(file_with_tensor({4}, 0, offset), Status::TRUNCATED, {"'blk.0.w'", std::to_string(offset)});
  const auto two = [](uint64_t second) {
    return GgufBytes().header(2, 0).tensor("a", {16}, 0, 0).tensor("b", {1}, 0, second).align().fill(128);
  };
  check_refused(two(0), Status::FORMAT, {"'b'", "offset 0", "64"});
  check_refused(two(32), Status::FORMAT, {"'b'", "offset 32", "64"});
  CHECK(error_of(two(64).bytes).status() == Status::OK);
  CHECK(error_of(two(96).bytes).status() == Status::OK);
  check_refused(two(128), Status::TRUNCATED, {"'b'", "128"});
}

TEST_CASE("every file that stops short is TRUNCATED, wherever it stops") {
  const std::string whole = every_value_type().bytes, minimal = whole.substr(0, whole.size() - 20);
  CHECK(error_of(minimal).status() == Status::OK);  // the padding after the last tensor may be missing
  for (size_t size = 0; size < minimal.size(); ++size) {
    CAPTURE(size);
    check_refused(GgufBytes{minimal.substr(0, size)}, Status::TRUNCATED, {});
  }
  const std::string model = test::read_text(test::fixture("infini/delta-ungated-mqa.gguf"));
  for (size_t size = 0; size < model.size() - 32; size += 501) {
    CAPTURE(size);
    check_refused(GgufBytes{model.substr(0, size)}, Status::TRUNCATED, {});
  }
}
