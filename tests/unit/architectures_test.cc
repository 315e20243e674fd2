// Every architecture against the logits that llama.cpp gives for the same file, and the promises about cuts, snapshots,
// forks, batches and going back on each of them.
#include "support.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <sstream>

#include "architectures.h"
#include "model/layers.h"
#include "sessions.h"

using namespace infini;
using test::kArchitectures;
using test::logits_of;

namespace {

std::string file_of(const std::string &name) { return test::fixture("arch/" + name); }

std::vector<int32_t> golden_tokens() {
  std::istringstream in(test::read_text(file_of("tokens.txt")));
  std::vector<int32_t> tokens;
  for (std::string id; std::getline(in, id, ',');) tokens.push_back(std::stoi(id));
  return tokens;
}

using Values = std::vector<std::pair<const char *, OptionValue>>;

Options options_of(const Values &values, Options options = {}) {
  for (const auto &[name, value] : values)
    std::visit([&, option = name](const auto &v) { options.set(option, v); }, value);
  return options;
}

std::shared_ptr<const Model> open(const std::string &architecture, const std::string &compute, const Values &values) {
  return Model::open(file_of(architecture + ".gguf"), options_of(values, test::computing(compute)));
}

// With memories that are read from the first segment on, and layers' windows that reach across several.
std::shared_ptr<const Model> open_with_memory(const std::string &architecture, const std::string &compute,
                                              int64_t keep = 20) {
  return open(architecture, compute,
              {{"memory", std::string("open")},
               {"segment", int64_t{7}},
               {"carry", int64_t{8}},
               {"sinks", int64_t{2}},
               {"keep", keep}});
}

std::vector<float> last_logits(Session &session) {
  const auto logits = session.logits();
  return {logits.begin(), logits.end()};
}

void each(const std::function<void(const std::string &architecture, const std::string &compute)> &f) {
  for (const std::string architecture : kArchitectures)
    for (const char *compute : {"f32", "bf16", "bf16/int8"}) {
      CAPTURE(architecture);
      CAPTURE(compute);
      f(architecture, compute);
    }
}

// Of the logits' deviation. llama.cpp takes GELU from a table of f16, whose steps of 2^-11 reach the logits; ours is
// exact.
double tolerance(const std::string &architecture) { return architecture.rfind("gemma", 0) == 0 ? 1e-3 : 1e-4; }

}  // namespace

TEST_CASE(
    "logits equal llama.cpp's for every cut of the input, also where segments close behind a view of everything") {
  const std::vector<int32_t> tokens = golden_tokens();
  for (const std::string architecture : kArchitectures) {
    const auto golden = test::read_numbers<float>(file_of(architecture + ".logits.f32"));
    for (const bool segments : {false, true}) {
      const Values short_ones = {{"segment", int64_t{7}}, {"carry", int64_t{253}}, {"sinks", int64_t{0}}};
      const auto model = open(architecture, "f32", segments ? short_ones : Values{});
      for (const size_t cut : {0, 1, 3, 7, 16}) {
        CAPTURE(architecture);
        CAPTURE(segments);
        CAPTURE(cut);
        Session session(model, {});
        const double difference = test::relative_difference(logits_of(session, tokens, cut), golden);
        CHECK(difference < tolerance(architecture));
        if (cut == 0) MESSAGE(architecture << ": " << difference);
      }
    }
  }
}

TEST_CASE("with a memory any cut gives the same logits nearly") {
  const std::vector<int32_t> tokens = golden_tokens();
  each([&](const std::string &architecture, const std::string &compute) {
    const auto model = open_with_memory(architecture, compute);
    Session whole(model, {});
    const std::vector<float> expected = logits_of(whole, tokens, 0);
    for (const size_t cut : {1, 4, 13}) {
      Session session(model, {});
      CHECK(test::relative_difference(logits_of(session, tokens, cut), expected) < (compute == "f32" ? 2e-5 : 0.1));
    }
  });
}

TEST_CASE("a session goes on bit for bit from a snapshot, from a fork, and where it was rewound to") {
  const std::vector<int32_t> tokens = golden_tokens();
  const std::span begin = std::span(tokens).first(38), end = std::span(tokens).subspan(38);
  each([&](const std::string &architecture, const std::string &compute) {
    const auto model = open_with_memory(architecture, compute);
    const Options options = options_of({{"checkpoints", int64_t{4}}, {"threads", int64_t{1}}});
    Session session(model, options);
    session.feed(begin);
    const auto snapshot = session.save(Session::SnapshotKind::SESSION, {});
    const auto fork = session.fork();
    session.feed(end);
    const std::vector<float> expected = last_logits(session);
    fork->feed(end);
    CHECK(last_logits(*fork) == expected);
    Session restored(model, options);
    restored.feed(std::span(tokens).first(11));
    restored.restore(snapshot);
    restored.feed(end);
    CHECK(last_logits(restored) == expected);
    // Inside the open segment, at a boundary, and behind one: by feeding again, which is another cut.
    for (const int64_t position : {58, 56, 45}) {
      session.rewind(position);
      session.feed(std::span(tokens).subspan(static_cast<size_t>(position)));
      CHECK(test::relative_difference(session.logits(), expected) < (compute == "f32" ? 2e-5 : 0.1));
    }
  });
}

TEST_CASE("sessions in a batch get the tokens that they get alone") {
  const std::vector<int32_t> tokens = golden_tokens();
  each([&](const std::string &architecture, const std::string &compute) {
    const auto model = open_with_memory(architecture, compute);
    test::check_batch(model, tokens, {5, 23, 60});
  });
}

TEST_CASE("what a session holds stays bounded, and layers with a window of their own keep no memory") {
  const std::vector<int32_t> tokens = golden_tokens();
  for (const std::string architecture : kArchitectures) {
    CAPTURE(architecture);
    const auto model = open_with_memory(architecture, "f32", 0);
    const Config &config = model->config();
    Session session(model, {});
    for (int i = 0; i < 3; ++i) session.feed(tokens);
    // Positions in a segment alike, so that what is in use is alike.
    while (session.segment_position() != 3) session.feed(std::span(tokens).first(1));
    const int64_t bytes = session.state_bytes();
    for (int i = 0; i < 7; ++i) session.feed(tokens);
    while (session.segment_position() != 3) session.feed(std::span(tokens).first(1));
    CHECK(session.state_bytes() == bytes);
    for (int l = 0; l < config.layers; ++l)
      for (int h = 0; h < config.kv_heads; ++h) {
        const bool has = config.plans[static_cast<size_t>(l)].window == 0;
        CHECK(config.has_memory(l, h) == has);
        CHECK(static_cast<bool>(layers_of(session.state())[static_cast<size_t>(l)].memory[static_cast<size_t>(h)]) ==
              has);
      }
  }
  int windows = 0;
  const auto gemma3 = open_with_memory("gemma3", "f32");
  for (const LayerPlan &plan : gemma3->config().plans) windows += plan.window == 16;
  CHECK(windows == 6);
}

TEST_CASE("a created model has the tensors and keys that other programs ask of its architecture") {
  for (const std::string architecture : kArchitectures) {
    CAPTURE(architecture);
    CreateConfig config;
    config.architecture = architecture;
    config.layers = 2, config.width = 32, config.heads = 4, config.kv_heads = 2, config.hidden = 48;
    config.vocabulary = 64, config.context = 64, config.segment = 8, config.carry = 0, config.sinks = 0;
    const auto model = Model::create(config, options_of({{"compute", "f32"}}));
    const Gguf &file = model->gguf();
    const bool fused = architecture == "phi3", gemma = architecture.starts_with("gemma");
    CHECK((file.find_tensor("blk.1.attn_qkv.weight") != nullptr) == fused);
    CHECK((file.find_tensor("blk.1.attn_k.weight") == nullptr) == fused);
    CHECK((file.find_tensor("blk.1.ffn_gate.weight") == nullptr) == fused);
    CHECK((file.find_tensor("output.weight") == nullptr) == gemma);
    CHECK((file.find(architecture + ".logit_scale") != nullptr) == (architecture == "granite"));
    Session session(model, Options());
    const std::vector<float> logits = logits_of(session, std::vector<int32_t>{1, 2, 3}, 0);
    CHECK(std::all_of(logits.begin(), logits.end(), [](float logit) { return std::isfinite(logit); }));
  }
}

TEST_CASE("an architecture that is not known is refused with the list of those that are") {
  Gguf gguf = Gguf::open(file_of("qwen2.gguf"));
  gguf.set("general.architecture", std::string("mamba"));
  try {
    Model::build(std::move(gguf), {});
    FAIL("opened");
  } catch (const Error &error) {
    CHECK(error.status() == Status::UNSUPPORTED);
    for (const std::string architecture : kArchitectures)
      CHECK(std::string(error.what()).find(architecture) != std::string::npos);
  }
}
