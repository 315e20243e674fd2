// Training of every architecture, on tiny models of each: gradients against differences of a loss in f64, the logits of
// inference, and what a trainer writes.
#include "support.h"

#include <cmath>

#include "architectures.h"
#include "base/random.h"
#include "reference_model.h"
#include "stream/session.h"
#include "adapt/recall_trainer.h"
#include "training.h"

using namespace infini;
using test::kArchitectures;

namespace {

constexpr int kVocabulary = 29, kTokens = 30;

Options f32() {
  Options options;
  options.set("compute", std::string("f32"));
  return options;
}

void add_zeros(Gguf &gguf, const std::string &name, int64_t n) {
  gguf.add_tensor(name, TensorType::F32, {n}, std::vector<std::byte>(static_cast<size_t>(n) * 4));
}

// Two layers, or four where not all rotate; windows are shorter than a segment, and scales and caps count.
std::shared_ptr<const Model> tiny(const std::string &architecture) {
  CreateConfig config;
  config.architecture = architecture;
  config.layers = architecture == "smollm3" ? 4 : 2;
  config.width = 12, config.heads = 4, config.kv_heads = 2, config.head_size = 6, config.hidden = 20;
  config.vocabulary = kVocabulary, config.context = 64, config.segment = 8, config.carry = 3, config.sinks = 2;
  config.window = architecture.rfind("gemma", 0) == 0 && architecture != "gemma" ? 5 : 0;
  config.tied = architecture.rfind("gemma", 0) == 0;
  config.update = architecture < std::string("m") ? "linear" : "delta";
  config.embedding_deviation = 0.5;
  Gguf gguf = Model::create(config, f32())->gguf();
  const auto real = [&](const char *key, float value) { gguf.set(architecture + key, value); };
  if (architecture == "gemma2") real(".attn_logit_softcapping", 0.4f), real(".final_logit_softcapping", 1.5f);
  if (architecture == "gemma3") gguf.set("gemma3.attention.sliding_window_pattern", uint32_t{2});
  if (architecture == "granite") {
    real(".embedding_scale", 3), real(".residual_scale", 0.4f);
    real(".logit_scale", 0.5f), real(".attention.scale", 0.9f);
  }
  if (architecture == "llama") {  // some biases, of those that it may have
    add_zeros(gguf, "blk.0.attn_q.bias", 24);
    add_zeros(gguf, "blk.1.attn_v.bias", 12);
    add_zeros(gguf, "blk.1.attn_output.bias", 12);
  }
  return Model::build(std::move(gguf), f32());
}

// Norms and biases of a new model are one and zero.
void randomise(Parameters &parameters, Random &random) {
  for (size_t i = 0; i < parameters.list().size(); ++i) {
    const Parameter &p = parameters[i];
    for (int64_t j = 0; j < p.size(); ++j) {
      if (p.role == Role::NORM) parameters.of(i)[j] = 1 + 0.4f * static_cast<float>(random.normal());
      if (p.role == Role::BIAS) parameters.of(i)[j] = 0.4f * static_cast<float>(random.normal());
    }
  }
}

Sequence random_sequence(Random &random, bool links) {
  Sequence s;
  for (int t = 0; t < kTokens; ++t) s.tokens.push_back(static_cast<int32_t>(random.uniform() * kVocabulary));
  for (int t = 0; t < kTokens; ++t) s.weight.push_back(t % 3 == 0 ? 0.0f : 0.1f * static_cast<float>(random.uniform()));
  s.answer.assign(kTokens, 0);
  if (links)
    for (const auto &[t, source] : {std::pair{11, 3}, {18, 4}, {27, 13}}) test::link(s, t, source);
  return s;
}

std::vector<float> session_logits(std::shared_ptr<const Model> model, std::span<const int32_t> tokens) {
  std::vector<float> logits(tokens.size() * static_cast<size_t>(model->config().vocabulary));
  Session session(std::move(model), {});
  session.feed_logits(tokens, logits.data());
  return logits;
}

// What the trainer's loss is by the logits of a session.
double session_loss(std::shared_ptr<const Model> model, const Sequence &s) {
  const auto n = static_cast<size_t>(model->config().vocabulary);
  const std::vector<float> logits = session_logits(std::move(model), s.tokens);
  double loss = 0;
  for (size_t t = 0; t + 1 < s.tokens.size(); ++t) {
    const float *row = logits.data() + t * n;
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(row[i]));
    loss += static_cast<double>(s.weight[t + 1]) * (std::log(sum) - static_cast<double>(row[s.tokens[t + 1]]));
  }
  return loss;
}

template <class F>
void each_architecture(const F &f) {
  for (const std::string architecture : kArchitectures) {
    CAPTURE(architecture);
    f(architecture, tiny(architecture));
  }
}

}  // namespace

TEST_CASE("gradients of every architecture are slopes of the loss in f64, and its logits are the engine's") {
  each_architecture([](const std::string &, const std::shared_ptr<const Model> &model) {
    const Config &config = model->config();
    Random random(3);
    Parameters parameters(Threads(), *model);
    randomise(parameters, random);
    const Sequence sequence = random_sequence(random, true);
    BatchLayout layout;
    layout.add(sequence, config.memory.segment, config.vocabulary);
    std::vector<float> supervision;
    for (int l = 0; l < config.layers; ++l)
      for (int h = 0; h < config.heads; ++h)
        supervision.push_back(config.plans[static_cast<size_t>(l)].has_memory() && h % 2 == 0 ? 0.2f : 0.0f);
    std::vector<float> logits(sequence.tokens.size() * static_cast<size_t>(config.vocabulary));
    const auto gradients = [&](int64_t keep) {
      TrainingGraph graph(Threads(), *model, model->gemm(), parameters,
                          std::vector<bool>(parameters.list().size(), true), NumberType::F32, keep);
      Buffer<float> out(parameters.size());
      RunRequest request;
      request.gradients = out.data();
      const test::RetrievalWeights weights(supervision, config.heads);
      request.supervision = &weights;
      request.logits = logits.data();
      const Tally tally = graph.run(Threads(), layout, request);
      test::ReferenceModel reference(*model, parameters);
      CHECK(tally.loss + tally.supervision.retrieval.loss ==
            doctest::Approx(reference.loss(layout, supervision)).epsilon(1e-5));
      return out;
    };
    const Buffer<float> kept = gradients(int64_t{1} << 40), again = gradients(0);
    CHECK(std::equal(kept.data(), kept.data() + kept.size(), again.data()));
    test::ReferenceModel reference(*model, parameters);
    test::check_slopes(reference, parameters, layout, supervision, kept, random);

    const auto written = Model::build(
        parameters.gguf(*model, {std::vector<bool>(parameters.list().size(), true), TensorType::F32, config.memory}),
        f32());
    CHECK(test::relative_difference(session_logits(written, sequence.tokens), logits) < 1e-5);
  });
}

TEST_CASE("gradients of retrieval alone are those of the whole model where nothing else is asked for") {
  for (const std::string architecture : {"llama", "qwen2", "qwen3", "olmo2"}) {
    CAPTURE(architecture);
    const auto model = tiny(architecture);
    const Config &config = model->config();
    Random random(4);
    Parameters parameters(Threads(), *model);
    randomise(parameters, random);
    Sequence sequence = random_sequence(random, true);
    sequence.weight.assign(kTokens, 0);
    BatchLayout layout;
    layout.add(sequence, config.memory.segment, config.vocabulary);
    std::vector<float> supervision(static_cast<size_t>(config.layers * config.heads));
    for (int h = 0; h < config.heads; ++h) supervision[static_cast<size_t>(h)] = 0.3f;
    RunRequest request;
    const test::RetrievalWeights weights(supervision, config.heads);
    request.supervision = &weights;
    const auto gradients = [&](const std::vector<bool> &trained, TrainedPart part) {
      TrainingGraph graph(Threads(), *model, model->gemm(), parameters, trained, NumberType::F32, 0, part);
      Buffer<float> out(parameters.size());
      request.gradients = out.data();
      graph.run(Threads(), layout, request);
      return out;
    };
    const auto fields = {Field::Q, Field::K, Field::Q_BIAS, Field::K_BIAS, Field::Q_NORM, Field::K_NORM};
    std::vector<bool> first(parameters.list().size(), false);
    for (const Field field : fields)
      if (const size_t index = parameters.layers()[0][field]; index != Parameters::kNone) first[index] = true;
    const Buffer<float> whole = gradients(std::vector<bool>(first.size(), true), TrainedPart::ALL),
                        alone = gradients(first, TrainedPart::RETRIEVAL);
    for (const Field field : fields) {
      const size_t index = parameters.layers()[0][field];
      if (index == Parameters::kNone) continue;
      const Parameter &p = parameters[index];
      CAPTURE(p.name);
      const auto of = [&](const Buffer<float> &b) {
        return std::vector(b.data() + p.offset, b.data() + p.offset + p.size());
      };
      CHECK(std::ranges::any_of(of(whole), [](float g) { return g != 0; }));
      CHECK(test::relative_difference(of(alone), of(whole)) < 1e-5);
    }
  }
}

TEST_CASE("every architecture learns, all of it or by adapters, and the written model gives the trainer's loss") {
  each_architecture([](const std::string &architecture, const std::shared_ptr<const Model> &model) {
    Random random(5);
    const Sequence sequence = random_sequence(random, false);
    for (const char *part : {"all", "attention", "lora"}) {
      CAPTURE(std::string(part));
      RecallTrainer trainer(
          model,
          test::train_config(cat(R"({"compute": "f32", "tokens": 30, "rows": 30, "warmup": 0, "train": ")", part,
                                 R"(", "optimizer": "adamw", "rate": 0.03})")),
          std::make_unique<test::OneSequence>(sequence), nullptr, 1);
      const auto loss = [&] {
        test::OneSequence source(sequence);
        return trainer.evaluate(source, 1, 8, 4).loss;
      };
      const double before = loss();
      CHECK(before == doctest::Approx(session_loss(model, sequence)).epsilon(1e-5));
      for (int step = 0; step < 12; ++step) CHECK(std::isfinite(trainer.step().gradient_norm));
      CHECK(loss() < (std::string(part) == "all" ? 0.9 : 0.97) * before);
      const auto written = Model::build(trainer.gguf(TensorType::F32), f32());
      CHECK(written->config().architecture->name == architecture);
      CHECK(session_loss(written, sequence) == doctest::Approx(loss()).epsilon(1e-5));
    }
  });
}

TEST_CASE("a fused matrix stays fused when it was trained") {
  Options options = f32();
  options.set("memory", std::string("open"));
  options.set("segment", int64_t{7});
  const auto model = Model::open(test::fixture("arch/phi3.gguf"), options);
  REQUIRE(model->gguf().find_tensor("blk.0.attn_qkv.weight"));
  Random random(6);
  Sequence sequence = random_sequence(random, false);
  RecallTrainer trainer(model, test::train_config(R"({"compute": "f32", "tokens": 30, "rows": 30, "warmup": 0})"),
                        std::make_unique<test::OneSequence>(sequence), nullptr, 1);
  for (int step = 0; step < 2; ++step) trainer.step();
  test::OneSequence source(sequence);
  const double loss = trainer.evaluate(source, 1, 7, 5).loss;
  const auto written = Model::build(trainer.gguf(TensorType::F32), f32());
  CHECK(written->gguf().find_tensor("blk.0.attn_qkv.weight"));
  CHECK(!written->gguf().find_tensor("blk.0.attn_q.weight"));
  CHECK(session_loss(written, sequence) == doctest::Approx(loss).epsilon(1e-5));
}
