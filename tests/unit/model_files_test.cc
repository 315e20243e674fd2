// What files of other programs may look like: what is harmless opens, and what cannot be run says what it is.
#include "support.h"

#include <functional>

#include "format/quant.h"
#include "model/model.h"

using namespace infini;

namespace {

// A model of the fixtures with changes.
Error opening(const std::function<void(Gguf &)> &change, std::shared_ptr<const Model> *model = nullptr) {
  try {
    Gguf gguf = Gguf::open(test::fixture("infini/linear.gguf"));
    change(gguf);
    const auto built = Model::build(std::move(gguf), {});
    if (model) *model = built;
  } catch (const Error &error) { return error; }
  return {Status::OK, ""};
}

void refused(const std::function<void(Gguf &)> &change, const std::string &says) {
  const Error error = opening(change);
  INFO(error.what());
  CHECK(error.status() == Status::UNSUPPORTED);
  CHECK(std::string(error.what()).find(says) != std::string::npos);
}

GgufArray list(std::initializer_list<uint32_t> values) {
  GgufArray array;
  array.type = 4;
  array.count = values.size();
  for (const uint32_t value : values) {
    const auto *bytes = reinterpret_cast<const std::byte *>(&value);
    array.numbers.insert(array.numbers.end(), bytes, bytes + sizeof value);
  }
  return array;
}

}  // namespace

TEST_CASE("what is no model by itself says what it is") {
  refused([](Gguf &g) { g.set("llama.expert_count", uint32_t{8}); }, "mixture of experts");
  refused([](Gguf &g) { g.set("general.type", std::string("adapter")); }, "adapter");
  refused([](Gguf &g) { g.set("adapter.type", std::string("lora")); }, "adapter");
  refused([](Gguf &g) { g.set("general.architecture", std::string("clip")); }, "projector");
  refused(
      [](Gguf &g) {
    g.set("split.count", uint16_t{3});
    g.set("split.no", uint16_t{1});
      },
      "part 2 of 3");
}

TEST_CASE("numbers of layers may stand in a list, if they are equal") {
  const auto heads = [](std::initializer_list<uint32_t> values) {
    return [array = list(values)](Gguf &g) { g.set("llama.attention.head_count", array); };
  };
  const auto plain = Model::open(test::fixture("infini/linear.gguf"), {});
  const auto n = static_cast<uint32_t>(plain->config().heads);
  std::shared_ptr<const Model> model;
  const Error error = opening(heads({n, n}), &model);
  INFO(error.what());
  REQUIRE(model);
  CHECK(model->config().heads == plain->config().heads);
  refused(heads({n, n + 1}), "differs from layer to layer");
  CHECK(opening(heads({})).status() == Status::FORMAT);
  CHECK(opening([](Gguf &g) { g.set("llama.expert_count", uint32_t{0}); }).status() == Status::OK);
}

TEST_CASE("an embedding may have more rows than the tokenizer has tokens, and no key that says so") {
  std::shared_ptr<const Model> model;
  const Error error = opening(
      [](Gguf &g) {
    g.erase("llama.vocab_size");
    for (const std::string key : {"tokens", "scores", "token_type"}) {
      GgufArray array = std::get<GgufArray>(*g.find("tokenizer.ggml." + key));
      const size_t bytes = array.numbers.size() / array.count;
      array.count = 90;
      array.numbers.resize(90 * bytes);
      if (!array.strings.empty()) array.strings.resize(90);
      g.set("tokenizer.ggml." + key, array);
    }
      },
      &model);
  INFO(error.what());
  REQUIRE(model);
  CHECK(model->tokenizer().size() == 90);
  CHECK(model->config().vocabulary == 96);
}

TEST_CASE("tensor types have names, known here or not") {
  CHECK(tensor_type_name(TensorType{0}) == "F32");
  CHECK(tensor_type_name(TensorType{22}) == "IQ2_S");
  CHECK(tensor_type_name(TensorType{39}) == "MXFP4");
  CHECK(tensor_type_name(TensorType{4711}) == "number 4711");
}
