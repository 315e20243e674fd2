// Floats into blocks: what is written is what the layouts say, and lies as near as its bits allow.
#include "support.h"

#include <cstring>

#include "base/random.h"
#include "format/quantize.h"
#include "model/quantize_file.h"
#include "model/model.h"
#include "reference/blocks.h"
#include "stream/session.h"
#include "temporary_folder.h"

using namespace infini;

namespace {

struct Bound {
  const char *name;
  double error;  // root of the mean square of what is lost, over that of normal numbers
};
// A little above what was found: Q8_0 0.0053, Q4_0 0.080, Q2_K 0.27.
constexpr Bound kBounds[] = {{"Q8_0", 0.008},  {"Q6_K", 0.03},   {"Q5_K", 0.05}, {"Q5_1", 0.05},
                             {"Q5_0", 0.05},   {"Q4_K", 0.09},   {"Q4_1", 0.09}, {"Q4_0", 0.1},
                             {"IQ4_NL", 0.09}, {"IQ4_XS", 0.09}, {"Q3_K", 0.2},  {"Q2_K", 0.35}};

std::vector<float> normal(int64_t n, uint64_t seed, double size = 0.02) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(n));
  for (float &value : values) value = static_cast<float>(size * random.normal());
  return values;
}

std::vector<uint8_t> blocks_of(const char *name, const std::vector<float> &values) {
  const TensorType type = *tensor_type_of(name);
  const TensorLayout &layout = *tensor_layout(type);
  std::vector<uint8_t> bytes(values.size() / static_cast<size_t>(layout.block_elements) *
                             static_cast<size_t>(layout.block_bytes));
  quantize(type, values.data(), static_cast<int64_t>(values.size()), bytes.data());
  return bytes;
}

std::vector<double> reference_values(const char *name, const std::vector<uint8_t> &bytes) {
  const TensorLayout &layout = *tensor_layout(*tensor_type_of(name));
  std::vector<double> values;
  for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(layout.block_bytes))
    for (int i = 0; i < layout.block_elements; ++i)
      values.push_back(reference::block_value(name, bytes.data() + at, i));
  return values;
}

double relative_error(const std::vector<float> &values, const std::vector<double> &back) {
  double lost = 0, all = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double value = static_cast<double>(values[i]);
    lost += (back[i] - value) * (back[i] - value), all += value * value;
  }
  return std::sqrt(lost / all);
}

}  // namespace

TEST_CASE("random blocks of every type unpack to what their layout says, in float64") {
  for (const auto &[name, error] : kBounds) {
    const std::string asked = name;
    CAPTURE(asked);
    const TensorType type = *tensor_type_of(name);
    const TensorLayout &layout = *tensor_layout(type);
    Random random(11);
    std::vector<uint8_t> bytes(static_cast<size_t>(50 * layout.block_bytes));
    for (uint8_t &byte : bytes) byte = static_cast<uint8_t>(random.next());
    for (size_t at = 1; at < bytes.size(); at += 2)
      bytes[at] = static_cast<uint8_t>(bytes[at] & 0xbf);  // finite halves
    for (size_t at = 0; at < bytes.size(); ++at)
      if ((bytes[at] & 0x7c) == 0x7c) bytes[at] = static_cast<uint8_t>(bytes[at] ^ 0x40);
    const auto n = static_cast<size_t>(50 * layout.block_elements);
    std::vector<float> values(n);
    unpack(type, bytes.data(), static_cast<int64_t>(n), values.data());
    const std::vector<double> expected = reference_values(name, bytes);
    size_t wrong = 0;
    for (size_t i = 0; i < n; ++i) {
      const double apart = std::abs(static_cast<double>(values[i]) - expected[i]);
      wrong += !(apart <= 1e-6 * std::max(1.0, std::abs(expected[i])));  // a final sum is rounded to f32
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE(
    "committed blocks of the types of a table, as another program would write them, unpack to committed numbers") {
  for (const char *name : {"IQ4_NL", "IQ4_XS"}) {
    const std::string asked = name;
    CAPTURE(asked);
    const auto blocks = test::read_numbers<uint8_t>(test::fixture(std::string("quant/") + name + ".blocks"));
    const auto expected = test::read_numbers<float>(test::fixture(std::string("quant/") + name + ".f32"));
    std::vector<float> values(expected.size());
    REQUIRE(values.size() == 1024);
    unpack(*tensor_type_of(name), blocks.data(), 1024, values.data());
    CHECK(std::memcmp(values.data(), expected.data(), 4096) == 0);
  }
}

TEST_CASE("what is quantised comes back within the bound of its type, read by its layout alone") {
  const std::vector<float> values = normal(64 * 256, 1);
  double before = 0;
  for (const auto &[name, bound] : kBounds) {
    const std::string asked = name;
    CAPTURE(asked);
    const std::vector<uint8_t> bytes = blocks_of(name, values);
    const double error = relative_error(values, reference_values(name, bytes));
    MESSAGE(std::string(name) << ": " << error);
    CHECK(error < bound);
    CHECK(error > 1e-3);
    // The library reads what it wrote as the layout says.
    std::vector<float> back(values.size());
    unpack(*tensor_type_of(name), bytes.data(), static_cast<int64_t>(back.size()), back.data());
    const std::vector<double> plain = reference_values(name, bytes);
    double apart = 0;
    for (size_t i = 0; i < back.size(); ++i) apart = std::max(apart, std::abs(static_cast<double>(back[i]) - plain[i]));
    CHECK(apart < 1e-8);
    before = error;
  }
  CHECK(before > 0.1);  // two bits lose more than eight
}

TEST_CASE("Q8_0 and Q4_0 lose no more than the plain way: the largest number for 127, and for -8") {
  const std::vector<float> values = normal(512 * 32, 2);
  double plain8 = 0, plain4 = 0, ours8 = 0, ours4 = 0;
  const auto q8 = reference_values("Q8_0", blocks_of("Q8_0", values)),
             q4 = reference_values("Q4_0", blocks_of("Q4_0", values));
  for (size_t block = 0; block < values.size(); block += 32) {
    double extreme = 0;
    for (size_t i = 0; i < 32; ++i) {
      const double x = static_cast<double>(values[block + i]);
      if (std::abs(x) > std::abs(extreme)) extreme = x;
    }
    const double d8 = std::abs(extreme) / 127, d4 = extreme / -8;
    for (size_t i = block; i < block + 32; ++i) {
      const double x = static_cast<double>(values[i]);
      const double p8 = std::round(x / d8) * d8, p4 = std::min(15.0, std::floor(x / d4 + 8.5)) * d4 - 8 * d4;
      plain8 += (p8 - x) * (p8 - x), plain4 += (p4 - x) * (p4 - x);
      ours8 += (q8[i] - x) * (q8[i] - x), ours4 += (q4[i] - x) * (q4[i] - x);
    }
  }
  CHECK(ours8 < 1.001 * plain8);  // whose scale is no half
  CHECK(ours4 < plain4);
}

TEST_CASE("blocks of Q8_0 and Q4_0 are the bytes of their layout") {
  std::vector<float> values;
  const auto expect = [&](const char *name, const std::vector<uint8_t> &bytes) {
    CHECK(blocks_of(name, values) == bytes);
  };
  // d = 1/16, as a half 0x2c00, and multiples of it.
  values.assign(32, 0.0f);
  values[0] = 127.0f / 16, values[1] = -127.0f / 16, values[2] = 1.0f / 16, values[31] = -5.0f / 16;
  std::vector<uint8_t> q8(34, 0);
  q8[0] = 0x00, q8[1] = 0x2c, q8[2] = 127, q8[3] = 129, q8[4] = 1, q8[33] = 251;
  expect("Q8_0", q8);
  // d = 1/4 (0x3400): -8 to 7 of them.
  for (int i = 0; i < 32; ++i) values[static_cast<size_t>(i)] = static_cast<float>(i % 16 - 8) / 4;
  std::vector<uint8_t> q4 = {0x00, 0x34};
  for (int i = 0; i < 16; ++i) q4.push_back(static_cast<uint8_t>(i * 17));
  expect("Q4_0", q4);
}

TEST_CASE("zeros, one number, very large and very small ones stay finite") {
  for (const auto &[name, bound] : kBounds) {
    const std::string asked = name;
    CAPTURE(asked);
    for (const float size : {0.0f, 1e-30f, 1e-7f, 1.0f, 1e30f}) {
      std::vector<float> values(256, 0.0f);
      values[7] = size, values[200] = -size;
      const std::vector<uint8_t> bytes = blocks_of(name, values);
      std::vector<float> back(256);
      unpack(*tensor_type_of(name), bytes.data(), 256, back.data());
      for (const float value : back) CHECK(std::isfinite(value));
      if (size == 1.0f) CHECK(std::abs(back[7] - 1) < 0.15f);
      if (size == 0.0f) CHECK(std::all_of(back.begin(), back.end(), [](float x) { return x == 0; }));
    }
  }
}

TEST_CASE("types by name, and what rows of another length get") {
  CHECK(tensor_type_of("q4_k") == TensorType::Q4_K);
  CHECK(tensor_type_of("BF16") == TensorType::BF16);
  CHECK(!tensor_type_of("q9_0"));
  CHECK(!tensor_type_of(""));
  CHECK(type_for_rows(TensorType::Q4_K, 512) == TensorType::Q4_K);
  CHECK(type_for_rows(TensorType::Q4_K, 576) == TensorType::Q5_0);
  CHECK(type_for_rows(TensorType::Q6_K, 576) == TensorType::Q8_0);
  CHECK(type_for_rows(TensorType::Q2_K, 96) == TensorType::IQ4_NL);
  CHECK(type_for_rows(TensorType::Q8_0, 33) == TensorType::F16);
  CHECK(type_for_output(TensorType::Q4_0, 512) == TensorType::Q6_K);
  CHECK(type_for_output(TensorType::Q4_0, 576) == TensorType::Q8_0);
  CHECK(type_for_output(TensorType::Q8_0, 576) == TensorType::Q8_0);
}

TEST_CASE("a model's file in every type opens, keeps its vectors, and computes what its unpacked numbers give") {
  const test::TemporaryFolder folder;
  CreateConfig config;
  config.layers = 2, config.width = 256, config.heads = config.kv_heads = 4, config.hidden = 512,
  config.vocabulary = 300;
  config.gate = 0.3;
  const std::string from = folder.file("floats.gguf");
  Model::create(config, {})->save(from);
  std::vector<int32_t> tokens;
  for (int i = 0; i < 100; ++i) tokens.push_back(i * 7 % 300);
  const auto logits = [&](const std::string &path, const char *weights, const char *compute) {
    Options options;
    options.set("weights", std::string(weights));
    options.set("compute", std::string(compute));
    Session session(Model::open(path, options), {});
    session.feed(tokens);
    const auto out = session.logits();
    return std::vector<float>(out.begin(), out.end());
  };
  for (const char *name : {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
                           "IQ4_XS", "F16", "BF16", "F32"}) {
    const std::string asked = name;
    CAPTURE(asked);
    const std::string path = folder.file("made.gguf");
    Task task;
    quantize_file(from, path, *tensor_type_of(name), {}, &task);
    CHECK(task.done() == task.total());
    const Gguf made = Gguf::open(path), before = Gguf::open(from);
    for (const GgufTensor &tensor : made.tensors()) {
      const GgufTensor &old = *before.find_tensor(tensor.name);
      CHECK(tensor.shape == old.shape);
      if (tensor.shape.size() == 1) CHECK(std::memcmp(tensor.data.data(), old.data.data(), old.data.size()) == 0);
      else if (tensor.name != "output.weight") CHECK(tensor_layout(tensor.type)->name == std::string(name));
    }
    // At their bits, in f32, it is the model of the unpacked floats.
    CHECK(test::relative_difference(logits(path, "file", "f32"), logits(path, "f32", "f32")) < 2e-5);
  }
  // Quantised when opened it is the same model, bit for bit, with an embedding that is tied; another stays in the file.
  config.tied = true;
  Model::create(config, {})->save(from);
  for (const char *name : {"q8_0", "q4_0"}) {
    const std::string path = folder.file("made.gguf");
    quantize_file(from, path, *tensor_type_of(name), {}, nullptr);
    CHECK(logits(path, "file", "f32") == logits(from, name, "f32"));
    CHECK(logits(path, "file", "int8") == logits(from, name, "int8"));
  }
}

TEST_CASE("a file may be quantised onto itself; cancelled, nothing is written; a tokenizer is refused") {
  const test::TemporaryFolder folder;
  CreateConfig config;
  config.layers = 1, config.width = 64, config.heads = config.kv_heads = 2, config.hidden = 96, config.vocabulary = 64;
  const std::string path = folder.file("model.gguf");
  Model::create(config, {})->save(path);
  const auto before = std::filesystem::file_size(path);
  Task task;
  task.cancel();
  try {
    quantize_file(path, folder.file("other.gguf"), TensorType::Q8_0, {}, &task);
    FAIL("it was not cancelled");
  } catch (const Error &error) { CHECK(error.status() == Status::CANCELLED); }
  CHECK(folder.names().size() == 1);
  const std::string to = test::kReplacesOpenFiles ? path : folder.file("quantised.gguf");
  quantize_file(path, to, TensorType::Q8_0, {}, nullptr);
  CHECK(std::filesystem::file_size(to) < before / 2);
  CHECK(Model::open(to, {})->weights().bytes() > 0);
}
