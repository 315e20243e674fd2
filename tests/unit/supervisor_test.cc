// Supervision: a trainer asks its supervisor alone; that of values weighs heads by the queries that are theirs.
#include "support.h"

#include <numeric>

#include "adapt/recall_supervisor.h"
#include "train/trainer.h"
#include "training.h"

using namespace infini;

namespace {

constexpr int kSegment = 8, kSegments = 4, kVocabulary = 20;

std::shared_ptr<const Model> small_model() {
  CreateConfig c;
  c.layers = 2, c.width = 16, c.heads = 2, c.kv_heads = 1, c.hidden = 16, c.vocabulary = kVocabulary;
  c.segment = kSegment;
  Options options;
  options.set("compute", std::string("f32"));
  return Model::create(c, options);
}

// Two values of two tokens; the last segment asks for three of these. No token has a loss weight.
Sequence two_values() {
  Sequence s;
  s.tokens.resize(kSegment * kSegments);
  std::iota(s.tokens.begin(), s.tokens.end(), 0);
  for (int32_t &token : s.tokens) token %= kVocabulary;
  s.weight.resize(s.tokens.size());
  s.answer.resize(s.tokens.size());
  s.tags.resize(s.tokens.size());
  for (const auto &[t, tag] : {std::pair{3, Tag{0, 0}}, {4, {0, 1}}, {10, {1, 0}}, {11, {1, 1}}})
    s.tags[static_cast<size_t>(t)] = tag;
  for (const auto &[from, to] : {std::pair{26, 3}, {27, 4}, {29, 10}}) {
    s.links.push_back({from, to});
    s.answer[static_cast<size_t>(from)] = 1;
    s.tags[static_cast<size_t>(from)] = s.tags[static_cast<size_t>(to)];
  }
  return s;
}

std::unique_ptr<Trainer> trainer_with(std::unique_ptr<Supervisor> supervisor) {
  TrainConfig config;
  config.tokens = kSegment * kSegments;
  config.segments = kSegments;
  config.compute = "f32";
  config.epsilon = 1;
  return std::make_unique<Trainer>(small_model(), config, "{}", std::move(supervisor),
                                   std::make_unique<test::OneSequence>(two_values()), nullptr, 1);
}

// Supervises head 1 of layer 1, of which queries of even rows should find their sources, and odd ones nothing.
class EvenRows : public Supervisor, public SupervisionWeights {
 public:
  bool supervises(int layer) const override { return layer == 1; }
  void choose_silent(const Sequence &, BatchLayout &layout) const override { layout.silent.push_back(30); }
  void count(const BatchLayout &layout) override { counted += layout.retrievals.size() + layout.silent.size(); }
  const SupervisionWeights *step_weights() const override { return this; }

  bool supervises(int layer, int head) const override { return layer == 1 && head == 1; }
  bool supervises_locally(int, int) const override { return false; }
  float retrieval(const BatchLayout &, const Retrieval &query, int layer, int head) const override {
    return supervises(layer, head) && query.row % 2 == 0 ? 1 : 0;
  }
  float silence(const BatchLayout &, int64_t row, int layer, int head) const override {
    if (!supervises(layer, head)) return 0;
    silenced.push_back(row);
    return 1;
  }
  float local(const BatchLayout &, int64_t, int, int) const override { return 0; }

  size_t counted = 0;
  mutable std::vector<int64_t> silenced;
};

}  // namespace

TEST_CASE("a trainer supervises what its supervisor says, and nothing else") {
  auto owned = std::make_unique<EvenRows>();
  const EvenRows &supervisor = *owned;
  const auto t = trainer_with(std::move(owned));
  const StepReport seen = t->step();
  CHECK(supervisor.counted == 4);
  CHECK(supervisor.silenced == std::vector<int64_t>{25, 30});
  CHECK(seen.tally.supervision.retrieval.count == 2);  // rows 26 and 28
  CHECK(seen.tally.supervision.retrieval.loss > 0);
  CHECK(seen.gradient_norm > 0);
  test::OneSequence source(two_values());
  CHECK(t->evaluate(source, 1, kSegment, kSegments).supervision.retrieval.count == 0);

  const auto plain = trainer_with(std::make_unique<Supervisor>());
  const StepReport nothing = plain->step();
  CHECK(nothing.tally.supervision.retrieval.count == 0);
  CHECK(nothing.gradient_norm == 0);
}

TEST_CASE(
    "of heads that recall values each retrieves tokens of its offset, and the loss of each is a mean over these") {
  const auto model = small_model();
  const RecallConfig config = test::train_config(
      R"({"supervised": [[0, 0, 0], [0, 1, 1], [1, -1]], "supervision": 2, "silence": 0.5, "epsilon": 1})");
  RecallSupervisor supervisor(config, model->config());
  Sequence sequence = two_values();
  sequence.tokens.resize(160, 1);  // filler, in which rows may be silent
  sequence.weight.resize(160), sequence.answer.resize(160), sequence.tags.resize(160);
  BatchLayout layout;
  layout.add(sequence, kSegment, kVocabulary);
  supervisor.choose_silent(sequence, layout);
  CHECK(layout.silent == std::vector<int64_t>{50, 151});
  CHECK(supervisor.step_weights() == nullptr);
  supervisor.begin_step();
  supervisor.count(layout);
  supervisor.end_count();
  const SupervisionWeights *const weights = supervisor.step_weights();
  REQUIRE(weights);
  REQUIRE(layout.retrievals.size() == 3);
  const std::vector<bool> asks_for_first{true, false, true};
  for (int layer : {0, 1})
    for (int head : {0, 1}) {
      double sum = 0;
      for (size_t i = 0; i < layout.retrievals.size(); ++i) {
        const float weight = weights->retrieval(layout, layout.retrievals[i], layer, head);
        CHECK((weight > 0) == (layer == 1 || asks_for_first[i] == (head == 0)));
        sum += static_cast<double>(weight);
      }
      CHECK(sum == doctest::Approx(2.0 / 4));  // `supervision`, shared by four heads
      // Silence is a mean over the other supervised rows: those that ask for other tokens, and silent ones.
      const double others = layer == 1 ? 0 : 2 + (head == 0 ? 1 : 2);
      const double silence = static_cast<double>(weights->silence(layout, layout.silent[0], layer, head));
      CHECK(silence * others == doctest::Approx(layer == 1 ? 0 : 0.5 * 2 / 4));
      CHECK((silence == 0) == (layer == 1));
      CHECK(supervisor.offset(layer, head) == (layer == 1 ? -1 : head));
    }
  // Where nothing asks, nothing is weighed.
  supervisor.begin_step();
  supervisor.end_count();
  CHECK(supervisor.step_weights() == nullptr);
}
