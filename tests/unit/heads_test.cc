// Heads that retrieve, against the plain reference.
#include "support.h"

#include <tuple>

#include "reference_model.h"
#include "adapt/fit_heads.h"
#include "adapt/head_search.h"
#include "adapt/recall_trainer.h"
#include "training.h"

using namespace infini;

namespace {

// Of a golden model's tokens: some answers, whose places were drawn by hand.
Sequence with_answers(const std::string &stem) {
  Sequence s;
  s.tokens = test::read_numbers<int32_t>(stem + ".tokens.i32");
  s.weight.assign(s.tokens.size(), 0.1f);
  s.answer.assign(s.tokens.size(), 0);
  for (const auto &[t, source, answer] :
       {std::tuple{14, 3, 1}, {18, 14, 1}, {20, 19, 2}, {37, 20, 1}, {39, 24, 1}, {59, 44, 0}, {60, 0, 1}}) {
    test::link(s, t, source);
    s.answer[static_cast<size_t>(t)] = static_cast<uint8_t>(answer);
  }
  s.local_target.assign(s.tokens.size(), -1);
  for (const auto &[t, target] : {std::pair{5, 4}, {21, 2}, {58, 40}}) s.local_target[static_cast<size_t>(t)] = target;
  return s;
}

constexpr double kLookups = 5;  // answers whose value last stood in another segment
constexpr double kNames = 3;

std::shared_ptr<const Model> golden(const std::string &name) {
  Options options;
  options.set("compute", std::string("f32"));
  return Model::open(test::fixture("infini/" + name + ".gguf"), options);
}

}  // namespace

TEST_CASE("heads' weights on the sources are those of full attention, whatever window and gates are") {
  for (const char *name : {"linear", "delta-ungated-mqa", "linear-carry-sinks", "delta-rope-yarn"}) {
    CAPTURE(std::string(name));
    const auto model = golden(name);
    const Config &config = model->config();
    const Sequence sequence = with_answers(test::fixture(std::string("infini/") + name));
    const size_t tokens = sequence.tokens.size();
    test::OneSequence source(sequence);
    RecallTrainer trainer(model, test::train_config(R"({"compute": "f32"})"),
                          std::make_unique<test::OneSequence>(sequence), nullptr, 1);
    const HeadSearch found = find_heads(trainer, source, 2, 8, 8);
    CHECK(found.lookups == 2 * static_cast<int64_t>(kLookups));
    CHECK(found.tokens == 2 * static_cast<int64_t>(tokens));

    AttentionRules rules = model->rules().attention;
    rules.shape.segment = static_cast<int>(tokens);
    rules.shape.carry = rules.shape.sinks = 0;
    rules.first_gated = false;
    const Parameters parameters(Threads(), *model);
    test::ReferenceModel reference(*model, parameters, rules);
    std::vector<double> expected(found.value_weight.size()), expected_names(expected.size());
    reference.observer = [&](size_t layer, int kv_head, const equations::Head<double> &in) {
      equations::Head<double> shown = in;  // values that show where attention looks: each token's is its own place
      shown.v = equations::zeros<double>(tokens, tokens);
      for (size_t t = 0; t < tokens; ++t) shown.v[t][t] = 1;
      const auto looks = equations::HeadStream(rules, {{0, static_cast<int64_t>(tokens), 0, 1}}, {}).forward(shown);
      for (size_t g = 0; g < looks.size(); ++g) {
        const size_t head =
            layer * static_cast<size_t>(config.heads) + static_cast<size_t>(kv_head * config.group()) + g;
        for (size_t t = 1; t < tokens; ++t) {
          if (sequence.answer[t] == 1)
            expected[head] +=
                looks[g][t - 1][static_cast<size_t>(sequence.links_of(static_cast<int32_t>(t))[0].to)] / kLookups;
          if (sequence.local_target[t] >= 0)
            expected_names[head] += looks[g][t][static_cast<size_t>(sequence.local_target[t])] / kNames;
        }
      }
    };
    BatchLayout layout;
    layout.add(sequence, static_cast<int64_t>(tokens), config.vocabulary);
    reference.loss(layout, {});
    for (size_t i = 0; i < expected.size(); ++i) {
      CHECK(expected[i] > 0.001);
      CHECK(found.value_weight[i] == doctest::Approx(expected[i]).epsilon(1e-4));
      CHECK(found.name_weight[i] == doctest::Approx(expected_names[i]).epsilon(1e-4));
    }
  }
}

TEST_CASE("a search for heads without an answer is refused, and a cancelled one ends") {
  const auto model = golden("linear");
  Sequence sequence = with_answers(test::fixture("infini/linear"));
  RecallTrainer trainer(model, test::train_config(R"({"compute": "f32"})"),
                        std::make_unique<test::OneSequence>(sequence), nullptr, 1);
  test::OneSequence source(sequence);
  Task task;
  task.cancel();
  CHECK_THROWS_AS(find_heads(trainer, source, 1, 8, 8, &task), Error);
  sequence.answer.assign(sequence.answer.size(), 2);
  test::OneSequence inside(sequence);
  CHECK_THROWS_AS(find_heads(trainer, inside, 1, 8, 8), Error);
}
