#include "format/gguf.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <set>

#include "base/file.h"
#include "base/testing.h"
#include "gguf_bytes.h"
#include "support.h"
#include "temporary_folder.h"

using namespace infini;
using test::every_value_type;
using test::GgufBytes;

namespace {

std::vector<std::string> project_files() {
  std::vector<std::string> paths = {INFINI_SOURCE_DIR "/samples/models/stories260K.gguf"};
  for (const auto &entry : std::filesystem::directory_iterator(test::fixture("infini")))
    if (entry.path().extension() == ".gguf") paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

void check_equal(const Gguf &a, const Gguf &b) {
  CHECK(a.entries() == b.entries());
  REQUIRE(a.tensors().size() == b.tensors().size());
  for (size_t i = 0; i < a.tensors().size(); ++i) {
    const GgufTensor &left = a.tensors()[i], &right = b.tensors()[i];
    CAPTURE(left.name);
    CHECK(left.name == right.name);
    CHECK(left.type == right.type);
    CHECK(left.shape == right.shape);
    CHECK(std::ranges::equal(left.data, right.data));
  }
}

void check_error(Status status, const std::string &part, const std::function<void()> &action) {
  try {
    action();
    FAIL_CHECK("no error; expected " << status_name(status) << " with '" << part << "'");
  } catch (const Error &error) {
    CAPTURE(error.what());
    CHECK(status_name(error.status()) == std::string(status_name(status)));
    CHECK(std::string(error.what()).find(part) != std::string::npos);
  }
}

Gguf with_key(const std::string &key, GgufValue value) {
  Gguf gguf;
  gguf.set(key, std::move(value));
  return gguf;
}

template <class T>
GgufArray array_of(uint32_t type, const std::vector<T> &values) {
  const auto bytes = std::as_bytes(std::span<const T>(values));
  return {type, values.size(), {bytes.begin(), bytes.end()}, {}};
}

}  // namespace

TEST_CASE("every model of the project opens") {
  const auto paths = project_files();
  CHECK(paths.size() >= 10);
  for (const std::string &path : paths) {
    CAPTURE(path);
    const Gguf gguf = Gguf::open(path);
    CHECK(gguf.tensors().size() > 5);
    for (const GgufTensor &tensor : gguf.tensors()) {
      CHECK(gguf.find_tensor(tensor.name) == &tensor);
      std::vector<float> values(static_cast<size_t>(tensor.elements()));
      unpack(tensor.type, tensor.data.data(), tensor.elements(), values.data());
      CHECK(std::ranges::all_of(values, [](float value) { return std::isfinite(value); }));
    }
  }
}

TEST_CASE("the development data's models and tokenizers open" * test::needs_data()) {
  const std::string folder = test::data("tokenizers/ggml-vocab");
  for (const auto &entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".gguf") continue;
    CAPTURE(entry.path());
    const Gguf gguf = Gguf::open(entry.path().string());
    CHECK(gguf.tensors().empty());
    CHECK(gguf.get_strings("tokenizer.ggml.tokens").size() > 1000);
  }
  const Gguf tiny = Gguf::open(test::data("models/llama-2-tiny-random.gguf"));
  CHECK(tiny.find_tensor("token_embd.weight")->type == TensorType::F16);
}

TEST_CASE("every value type is read as it was written") {
  const std::string bytes = every_value_type().bytes;
  const Gguf gguf = Gguf::parse(test::as_bytes(bytes), "good.gguf");
  CHECK(gguf.entries().size() == 26);
  CHECK(gguf.entries()[2].first == "u16");
  CHECK(*gguf.find("u8") == GgufValue(uint8_t{200}));
  CHECK(*gguf.find("i8") == GgufValue(int8_t{-100}));
  CHECK(*gguf.find("u16") == GgufValue(uint16_t{60000}));
  CHECK(*gguf.find("i16") == GgufValue(int16_t{-30000}));
  CHECK(*gguf.find("u32") == GgufValue(uint32_t{4000000000u}));
  CHECK(*gguf.find("i32") == GgufValue(int32_t{-2000000000}));
  CHECK(*gguf.find("f32") == GgufValue(1.5f));
  CHECK(*gguf.find("true") == GgufValue(true));
  CHECK(*gguf.find("false") == GgufValue(false));
  CHECK(gguf.get_string("string") == std::string("h\xc3\xa9llo\0!", 8));
  CHECK(gguf.get_string("empty").empty());
  CHECK(*gguf.find("u64") == GgufValue(uint64_t{18000000000000000000u}));
  CHECK(gguf.get_int("i64") == -9000000000000000000);
  CHECK(gguf.get_double("f64") == 0.1);
  CHECK(gguf.get_ints("u8s") == std::vector<int64_t>{1, 255});
  CHECK(gguf.get_ints("i8s") == std::vector<int64_t>{-1, 5});
  CHECK(gguf.get_ints("u16s") == std::vector<int64_t>{65535});
  CHECK(gguf.get_ints("i16s") == std::vector<int64_t>{-32768});
  CHECK(gguf.get_ints("i32s") == std::vector<int64_t>{-1, 0, 7});
  CHECK(gguf.get_doubles("f32s") == std::vector<double>{0.25, -2});
  CHECK(gguf.get_doubles("i32s") == std::vector<double>{-1, 0, 7});
  CHECK(gguf.get_doubles("f64s") == std::vector<double>{1e300});
  CHECK(gguf.get_strings("strings") == std::vector<std::string>{"a", "", "ccc"});
  CHECK(gguf.get_strings("none").empty());
  CHECK(gguf.get_ints("zero").empty());
  const GgufTensor &matrix = *gguf.find_tensor("matrix");
  CHECK(matrix.shape == std::vector<int64_t>{32, 2});
  CHECK(matrix.rows() == 2);
  CHECK(matrix.elements() == 64);
  CHECK(matrix.data.size() == 68);
  std::vector<float> values(64);
  unpack(matrix.type, matrix.data.data(), 64, values.data());
  CHECK(values[0] == 1);
  CHECK(values[63] == 2);
  CHECK(gguf.find_tensor("vector")->rows() == 1);
  CHECK(gguf.find_tensor("absent") == nullptr);
  CHECK(gguf.find("absent") == nullptr);
}

TEST_CASE("version 2, a file without tensors, and one without anything are good") {
  GgufBytes file;
  file.header(0, 1, 2).key("general.name", 8).text("v2");
  CHECK(Gguf::parse(test::as_bytes(file.bytes), "v2").get_string("general.name") == "v2");
  CHECK(Gguf::parse(test::as_bytes(GgufBytes().header(0, 0).bytes), "nothing").entries().empty());
}

TEST_CASE("an alignment other than 32 is kept, in reading and in writing") {
  GgufBytes file;
  file.header(2, 1).key("general.alignment", 4).number(uint32_t{256});
  file.tensor("a", {2}, 0, 0).tensor("b", {1}, 0, 256).align(256).number(1.0f).number(2.0f).align(256).number(3.0f);
  const Gguf gguf = Gguf::parse(test::as_bytes(file.bytes), "aligned");
  const test::TemporaryFolder folder;
  gguf.save(folder.file("saved"));
  check_equal(gguf, Gguf::open(folder.file("saved")));
  CHECK(test::read_text(folder.file("saved")) == file.align(256).bytes);
}

TEST_CASE("a saved file has the keys and tensors of the one that was read") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("saved.gguf");
  for (const std::string &original : project_files()) {
    CAPTURE(original);
    const Gguf gguf = Gguf::open(original);
    gguf.save(path);
    check_equal(gguf, Gguf::open(path));
  }
  const std::string bytes = every_value_type().bytes;
  Gguf::parse(test::as_bytes(bytes), "good").save(path);
  CHECK(test::read_text(path) == bytes);
}

TEST_CASE("a file can be saved over itself, and a copy outlives the original") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("a.gguf"), bytes = every_value_type().bytes;
  std::ofstream(path, std::ios::binary) << bytes;
  auto gguf = std::make_unique<Gguf>(Gguf::open(path));
  gguf->set("f32", 2.5f);
  gguf->save(path);
  const Gguf copy = *gguf;
  gguf.reset();
  check_equal(copy, Gguf::open(path));
  CHECK(Gguf::open(path).get_double("f32") == 2.5);
}

TEST_CASE("a save that fails leaves the old file and no litter") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("a.gguf"), bytes = every_value_type().bytes;
  std::ofstream(path, std::ios::binary) << "old";
  const Gguf gguf = Gguf::parse(test::as_bytes(bytes), "good");
  for (size_t limit = 0; limit < bytes.size(); limit += 97) {
    set_write_failure(static_cast<long long>(limit));
    check_error(Status::NO_SPACE, path, [&] { gguf.save(path); });
    CHECK(test::read_text(path) == "old");
    CHECK(folder.names() == std::set<std::string>{"a.gguf"});
  }
  set_write_failure(-1);
  check_error(Status::IO, "/nowhere/a.gguf", [&] { gguf.save("/nowhere/a.gguf"); });
}

TEST_CASE("what is no file is refused without waiting") {
  const test::TemporaryFolder folder;
  REQUIRE(mkfifo(folder.file("pipe").c_str(), 0600) == 0);
  check_error(Status::IO, "pipe", [&] { Gguf::open(folder.file("pipe")); });
  check_error(Status::IO, folder.path(), [&] { Gguf::open(folder.path()); });
  check_error(Status::IO, "absent", [&] { Gguf::open(folder.file("absent")); });
}

TEST_CASE("integers convert where the value fits, and nothing else does") {
  CHECK(with_key("k", uint8_t{7}).get_int("k") == 7);
  CHECK(with_key("k", int8_t{-7}).get_int("k") == -7);
  CHECK(with_key("k", uint64_t{7}).get_int("k") == 7);
  CHECK(with_key("k", 0.5f).get_double("k") == 0.5);
  CHECK(with_key("k", true).get_bool("k", false));
  check_error(Status::FORMAT, "'k' is u64 9223372036854775808", [] { with_key("k", uint64_t{1} << 63).get_int("k"); });
  check_error(Status::FORMAT, "'k' is f32 1.5", [] { with_key("k", 1.5f).get_int("k"); });
  check_error(Status::FORMAT, "'k' is bool true", [] { with_key("k", true).get_int("k"); });
  check_error(Status::FORMAT, "'k' is u8 65, but must be f32", [] { with_key("k", uint8_t{65}).get_double("k"); });
  check_error(Status::FORMAT, "'k' is u32 1, but must be a bool", [] { with_key("k", 1u).get_bool("k", false); });
  check_error(Status::FORMAT, "'k' is u32 1, but must be a string", [] { with_key("k", 1u).get_string("k"); });
  check_error(Status::FORMAT, "'k' is string 'x'", [] { with_key("k", std::string("x")).get_int("k", 3); });
  const std::vector<float> numbers = {1, 2};
  check_error(Status::FORMAT, "'k' is an array of 2 f32", [&] { with_key("k", array_of(6, numbers)).get_ints("k"); });
  check_error(Status::FORMAT, "array of strings", [&] { with_key("k", array_of(6, numbers)).get_strings("k"); });
  const std::vector<uint64_t> large = {1, ~uint64_t{0}};
  check_error(Status::FORMAT, "'k' is an array of 2 u64", [&] { with_key("k", array_of(10, large)).get_ints("k"); });
  check_error(Status::FORMAT, "'k' is an array of 1 string", [] {
    with_key("k", GgufArray{8, 1, {}, {"x"}}).get_doubles("k");
  });
  check_error(Status::FORMAT, "'k' is an array of 1 bool", [] {
    with_key("k", GgufArray{7, 1, {std::byte{1}}, {}}).get_doubles("k");
  });
}

TEST_CASE("an absent key is named, or takes the value given for it") {
  const Gguf gguf;
  for (const auto &get :
       std::vector<std::function<void()>>{[&] { gguf.get_int("some.key"); }, [&] { gguf.get_double("some.key"); },
                                          [&] { gguf.get_string("some.key"); }, [&] { gguf.get_strings("some.key"); },
                                          [&] { gguf.get_doubles("some.key"); }, [&] { gguf.get_ints("some.key"); }})
    check_error(Status::FORMAT, "'some.key' is missing", get);
  CHECK(gguf.get_int("k", 5) == 5);
  CHECK(gguf.get_double("k", 0.5) == 0.5);
  CHECK(gguf.get_string("k", "x") == "x");
  CHECK(gguf.get_bool("k", true));
}

TEST_CASE("keys are replaced in place, appended, and erased") {
  Gguf gguf;
  for (const char *key : {"a", "b", "c", "d"}) gguf.set(key, std::string(key));
  gguf.set("b", 7u);
  gguf.erase("a");
  gguf.erase("absent");
  gguf.set_doubles("e", std::vector<float>{1, 2.5f});
  CHECK(gguf.entries().size() == 4);
  CHECK(gguf.entries()[0].first == "b");
  CHECK(gguf.get_int("b") == 7);
  CHECK(gguf.get_string("d") == "d");
  CHECK(gguf.get_doubles("e") == std::vector<double>{1, 2.5});
  check_error(Status::INVALID_ARGUMENT, "0 bytes", [&] { gguf.set("", 1u); });
  check_error(Status::INVALID_ARGUMENT, "65536", [&] { gguf.set(std::string(65536, 'k'), 1u); });
  check_error(Status::INVALID_ARGUMENT, "'bad'", [&] { gguf.set("bad", GgufArray{6, 2, {}, {}}); });
  check_error(Status::INVALID_ARGUMENT, "'bad'", [&] { gguf.set("bad", GgufArray{9, 0, {}, {}}); });
  check_error(Status::INVALID_ARGUMENT, "'bad'", [&] { gguf.set("bad", GgufArray{13, 0, {}, {}}); });
  check_error(Status::INVALID_ARGUMENT, "'bad'", [&] { gguf.set("bad", GgufArray{8, 2, {}, {"x"}}); });
  CHECK(gguf.find("bad") == nullptr);
}

TEST_CASE("a tensor that is added is checked, owned and saved") {
  Gguf gguf;
  gguf.add_tensor("a", TensorType::F32, {2, 1, 1, 2}, std::vector<std::byte>(16, std::byte{1}));
  gguf.add_tensor("b", TensorType::Q8_0, {32}, std::vector<std::byte>(34, std::byte{2}));
  const auto refuse = [&](const std::string &part, Status status, const std::string &name, TensorType type,
                          std::vector<int64_t> shape, size_t bytes) {
    check_error(status, part, [&] { gguf.add_tensor(name, type, shape, std::vector<std::byte>(bytes)); });
  };
  refuse("'a' is there already", Status::INVALID_ARGUMENT, "a", TensorType::F32, {1}, 4);
  refuse("has no name", Status::INVALID_ARGUMENT, "", TensorType::F32, {1}, 4);
  refuse("'c' has 3 bytes", Status::INVALID_ARGUMENT, "c", TensorType::F32, {1}, 3);
  refuse("'c' has rows of 16", Status::INVALID_ARGUMENT, "c", TensorType::Q8_0, {16}, 34);
  refuse("'c' has 5 dimensions", Status::INVALID_ARGUMENT, "c", TensorType::F32, {1, 1, 1, 1, 1}, 4);
  refuse("'c' has type number 99", Status::UNSUPPORTED, "c", static_cast<TensorType>(99), {1}, 4);
  const test::TemporaryFolder folder;
  gguf.save(folder.file("a.gguf"));
  check_equal(gguf, Gguf::open(folder.file("a.gguf")));
  CHECK(gguf.tensors().size() == 2);
}
