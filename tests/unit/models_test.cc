// Real models of the development data: SmolLM2, a Llama of another converter, and a trained Infini model.
#include "support.h"

#include <nlohmann/json.hpp>

#include "base/random.h"
#include "model/layers.h"
#include "stream/session.h"

using namespace infini;

namespace {

std::shared_ptr<const Model> open_model(const std::string &path, const char *compute,
                                        std::initializer_list<std::pair<const char *, int64_t>> numbers = {}) {
  Options options;
  options.set("compute", compute);
  for (const auto &[name, value] : numbers) options.set(name, value);
  return Model::open(path, options);
}

double mean(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

}  // namespace

TEST_CASE(
    "SmolLM2 equals its golden values in f32 and stays near them in bf16 and in bytes, in the memory of its file" *
    test::needs_data()) {
  const std::string folder = test::data("models/smollm2/");
  const auto golden = nlohmann::json::parse(test::read_text(folder + "golden.json"));
  for (const char *compute : {"f32", "bf16", "int8", "auto"}) {
    const auto model = open_model(folder + "SmolLM2-135M-Instruct.Q4_1.gguf", compute);
    int64_t file = 0;
    for (const GgufTensor &tensor : model->gguf().tensors()) file += static_cast<int64_t>(tensor.data.size());
    CHECK(model->weights().bytes() < file * 11 / 10);
    double worst = 0, pooled = 0;
    size_t count = 0;
    for (const auto &[name, text] : golden.items()) {
      CAPTURE(name);
      const auto ids = model->tokenizer().encode(text["text"].get<std::string>(), {true, true});
      CHECK(ids == text["ids"].get<std::vector<int32_t>>());
      Session session(model, {});
      std::vector<float> nll(ids.size());
      session.score(ids, nll.data());
      const auto expected = text["nll"].get<std::vector<float>>();
      for (size_t i = 1; i < ids.size(); ++i, ++count) {
        worst = test::larger(worst, std::abs(static_cast<double>(nll[i]) - expected[i - 1]));
        pooled += nll[i] - expected[i - 1];
      }
      if (compute != std::string("f32")) continue;
      const auto top = text["top_ids"].get<std::vector<int32_t>>();
      const auto top_logits = text["top_logits"].get<std::vector<float>>();
      for (size_t i = 0; i < top.size(); ++i)
        CHECK(session.logits()[static_cast<size_t>(top[i])] == doctest::Approx(top_logits[i]).epsilon(1e-4));
      std::vector<int32_t> greedy;
      for (size_t i = 0; i < text["greedy_ids"].size(); ++i) greedy.push_back(session.next().value());
      CHECK(greedy == text["greedy_ids"].get<std::vector<int32_t>>());
      CHECK(model->tokenizer().decode(greedy) == text["greedy_text"].get<std::string>());
    }
    MESSAGE(std::string(compute) << ": worst " << worst << ", pooled " << pooled / static_cast<double>(count)
                                 << " nats");
    if (compute == std::string("f32")) CHECK(worst < 2e-4);
    CHECK(std::abs(pooled) / static_cast<double>(count) < 0.005);
  }
}

TEST_CASE("SmolLM2 past its window stays near full attention, because of the sinks" * test::needs_data()) {
  const std::string path = test::data("models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
  const std::string text = test::read_text(test::data("tokenizers/golden/dracula.txt")).substr(0, 14000);
  const auto past_window = [&](int64_t segment, int64_t carry, int64_t sinks) {
    const auto model = open_model(path, "auto", {{"segment", segment}, {"carry", carry}, {"sinks", sinks}});
    const auto ids = model->tokenizer().encode(text, {});
    REQUIRE(ids.size() > 2048);
    Session session(model, {});
    std::vector<float> nll(ids.size());
    session.score(ids, nll.data());
    return mean(std::span(nll).subspan(1024));
  };
  const double full = past_window(8000, 0, 4), sinks = past_window(512, 512, 4), none = past_window(512, 512, 0);
  MESSAGE("full attention " << full << ", window with sinks " << sinks << ", without " << none << " nats");
  CHECK(std::abs(sinks - full) < 0.15);
  CHECK(none > sinks);
}

TEST_CASE("a model of another converter equals its golden logits" * test::needs_data()) {
  const std::string path = test::data("models/llama-2-tiny-random.gguf");
  const auto golden = nlohmann::json::parse(test::read_text(test::data("models/llama-2-tiny-random.golden.json")));
  const auto model = open_model(path, "f32");
  const auto ids = golden["ids"].get<std::vector<int32_t>>();
  Session session(model, {});
  std::vector<float> logits(ids.size() * 32000);
  session.feed_logits(ids, logits.data());
  for (size_t t = 0; t < ids.size(); ++t) {
    const auto row = std::span(logits).subspan(t * 32000, 32000);
    CHECK(std::max_element(row.begin(), row.end()) - row.begin() == golden["argmax_per_pos"][t].get<int>());
  }
  const auto expected = golden["last_logits_first8"].get<std::vector<float>>();
  for (size_t i = 0; i < expected.size(); ++i) CHECK(session.logits()[i] == doctest::Approx(expected[i]).epsilon(1e-4));
}

TEST_CASE("the trained prototypes equal their golden values, M and z included" * test::needs_data()) {
  for (const char *name : {"prototype-linear", "prototype-delta"}) {
    const std::string stem = test::data(std::string("models/prototype/") + name);
    const auto tokens = test::read_numbers<int32_t>(stem + ".tokens.i32");
    const auto expected = test::read_numbers<float>(stem + ".logits.f32"),
               M = test::read_numbers<float>(stem + ".M.f32");
    const auto model = open_model(stem + ".gguf", "f32");
    const Config &config = model->config();
    Session session(model, {});
    std::vector<float> logits(expected.size()), memory;
    session.feed_logits(tokens, logits.data());
    const double difference = test::relative_difference(logits, expected);
    MESSAGE(std::string(name) << ": " << difference);
    CHECK(difference < 2e-5);
    for (const LayerState &layer : layers_of(session.state()))
      for (const Memory &m : layer.memory)
        for (int i = 0; i < config.key_size; ++i)
          for (int j = 0; j < config.value_size; ++j) memory.push_back(m.matrix(i, j));
    CHECK(test::relative_difference(memory, M) < 2e-5);
  }
}

TEST_CASE("the trained prototype finds a pass key across hundreds of segments" * test::needs_data()) {
  const std::string path = test::data("models/prototype/prototype-linear.gguf");
  const auto model = open_model(path, "auto");
  const Tokenizer &tokenizer = model->tokenizer();
  const auto filler = tokenizer.encode(
      " The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.", {});
  Random random(1);
  int found = 0, tried = 0;
  for (const int64_t length : {4096, 32768}) {
    for (const double depth : {0.02, 0.5, 0.95}) {
      for (int trial = 0; trial < 3; ++trial, ++tried) {
        const std::string key = std::to_string(10000 + static_cast<int>(random.uniform() * 90000));
        const auto fact =
            tokenizer.encode(" The pass key is " + key + ". Remember it. " + key + " is the pass key.", {});
        std::vector<int32_t> stream(static_cast<size_t>(length));
        for (size_t i = 0; i < stream.size(); ++i) stream[i] = filler[i % filler.size()];
        stream.insert(stream.begin() + static_cast<std::ptrdiff_t>(depth * static_cast<double>(length)), fact.begin(),
                      fact.end());
        const auto question = tokenizer.encode(" What is the pass key? The pass key is ", {});
        stream.insert(stream.end(), question.begin(), question.end());
        Session session(model, {});
        session.feed(stream);
        std::string answer;
        for (int digit = 0; digit < 5; ++digit) answer += tokenizer.piece(session.next().value());
        found += answer == key;
      }
    }
  }
  MESSAGE("found " << found << " of " << tried);
  CHECK(found >= tried - 1);
}
