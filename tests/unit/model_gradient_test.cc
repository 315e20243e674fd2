// Gradients of whole models: against golden ones, and against differences of a loss in f64 for every parameter.
#include "support.h"

#include <cstring>
#include <tuple>

#include "base/random.h"
#include "base/testing.h"
#include "reference_model.h"
#include "training.h"
#include "stream/session.h"
#include "train/graph.h"

using namespace infini;

namespace {

Options f32() {
  Options options;
  options.set("compute", std::string("f32"));
  return options;
}

Sequence plain(const std::vector<int32_t> &tokens, float weight) {
  Sequence s;
  s.tokens = tokens;
  s.weight.assign(tokens.size(), weight);
  s.answer.assign(tokens.size(), 0);
  return s;
}

constexpr int64_t kKeepAll = int64_t{1} << 40;

// Norm of the difference over the norm of what is expected.
double relative(const float *actual, const float *expected, int64_t n) {
  double difference = 0, size = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(actual[i])) return INFINITY;
    difference += (static_cast<double>(actual[i]) - expected[i]) * (static_cast<double>(actual[i]) - expected[i]);
    size += static_cast<double>(expected[i]) * expected[i];
  }
  return std::sqrt(difference / size);
}

struct Run {
  Tally tally;
  Buffer<float> gradients;
  int64_t bytes;
};

Run run(const Threads &threads, const Model &model, const Parameters &parameters, const AttentionRules &rules,
        const BatchLayout &layout, const std::vector<float> &supervision, NumberType compute, int64_t keep,
        double scale = 1) {
  TrainingGraph backward(threads, model, model.gemm(), parameters, std::vector<bool>(parameters.list().size(), true),
                         compute, keep);
  backward.set_rules(rules);
  Run result{{}, Buffer<float>(parameters.size()), 0};
  RunRequest request;
  request.gradients = result.gradients.data();
  request.loss_scale = scale;
  const test::RetrievalWeights retrieval(supervision, model.config().heads);
  if (!supervision.empty()) request.supervision = &retrieval;
  result.tally = backward.run(threads, layout, request);
  result.bytes = backward.bytes();
  if (keep == 0)  // activations were computed again
    CHECK(result.bytes < run(threads, model, parameters, rules, layout, supervision, compute, kKeepAll, scale).bytes);
  return result;
}

}  // namespace

TEST_CASE("gradients equal the golden ones, kept or computed again, on any number of threads and in bf16 nearly") {
  const EagerThreads eager;
  ThreadPool pool;
  for (const char *name : {"linear", "delta", "delta-ungated-mqa"}) {
    CAPTURE(std::string(name));
    const std::string stem = test::fixture(std::string("infini/") + name);
    const auto model = Model::open(stem + ".gguf", f32());
    const Gguf golden = Gguf::open(stem + ".grad.gguf");
    const Parameters parameters(Threads(), *model);
    const auto tokens = test::read_numbers<int32_t>(stem + ".tokens.i32");
    BatchLayout layout;
    layout.add(plain(tokens, 1.0f / static_cast<float>(tokens.size() - 1)), model->config().memory.segment,
               model->config().vocabulary);
    for (const auto &[compute, keep, threads, tolerance] : {std::tuple{NumberType::F32, kKeepAll, 1, 2e-5},
                                                            {NumberType::F32, int64_t{0}, 1, 2e-5},
                                                            {NumberType::F32, kKeepAll, 3, 2e-5},
                                                            {NumberType::BF16, kKeepAll, 1, 0.05}}) {
      const ThreadScope team(pool, threads);
      const int64_t shared = eager.items_of_others();
      const Run result = run(team, *model, parameters, model->rules().attention, layout, {}, compute, keep);
      double worst = 0;
      for (const Parameter &p : parameters.list()) {
        CAPTURE(p.name);
        const GgufTensor *expected = golden.find_tensor(p.name);
        REQUIRE(expected);
        REQUIRE(expected->elements() == p.size());
        std::vector<float> values(static_cast<size_t>(p.size()));
        unpack(expected->type, expected->data.data(), p.size(), values.data());
        const double difference = relative(result.gradients.data() + p.offset, values.data(), p.size());
        CHECK(difference < tolerance);
        worst = test::larger(worst, difference);
      }
      const double loss =
          golden.find_tensor("loss")
              ? [&] {
        float value;
        std::memcpy(&value, golden.find_tensor("loss")->data.data(), sizeof value);
        return static_cast<double>(value);
          }()
          : golden.get_double("loss");
      CHECK(result.tally.loss == doctest::Approx(loss).epsilon(compute == NumberType::F32 ? 1e-6 : 2e-2));
      CHECK((eager.items_of_others() > shared) == (threads > 1));
      MESSAGE("worst relative difference of a gradient: " << worst);
    }
  }
}

// With a sanitizer it is the reference that takes minutes.
TEST_CASE("the gradient along any direction of any parameter is the slope of the loss in f64" *
          doctest::skip(TEST_SANITIZED)) {
  struct Case {
    const char *model;
    std::vector<int64_t> closes;
    std::vector<int32_t> documents;
    bool fold, supervised;
  };
  for (const Case &c : {Case{"linear-carry-sinks", {}, {}, false, false},
                        {"delta-closed-early", {2, 17, 40, 41}, {}, false, false},
                        {"linear-closed-early-carry", {2, 17, 40, 41}, {}, false, false},
                        {"delta-rope-yarn", {}, {}, false, false},
                        {"linear-rope-factors", {}, {}, false, false},
                        {"linear-rope-linear", {}, {}, false, false},
                        {"linear-epsilon", {}, {}, false, false},
                        {"linear", {}, {0, 19, 40}, true, true},
                        {"delta-ungated-mqa", {}, {0, 23}, false, true}}) {
    CAPTURE(std::string(c.model));
    const std::string stem = test::fixture(std::string("infini/") + c.model);
    const auto model = Model::open(stem + ".gguf", f32());
    const Parameters parameters(Threads(), *model);
    const AttentionRules &rules = model->rules().attention;
    Random random(5);
    Sequence sequence = plain(test::read_numbers<int32_t>(stem + ".tokens.i32"), 0);
    for (float &w : sequence.weight) w = random.uniform() < 0.4 ? 0.0f : 0.05f * static_cast<float>(random.uniform());
    sequence.document = c.documents;
    if (c.supervised) {
      for (const auto &[t, source] : {std::pair{14, 3}, {18, 14}, {37, 20}, {39, 24}, {59, 44}, {60, 41}})
        test::link(sequence, t, source);
    }
    BatchLayout layout;
    layout.add(sequence, rules.shape.segment, model->config().vocabulary, c.closes);
    if (c.fold)
      for (size_t i = 0; i < layout.segments.size(); ++i) layout.segments[i].repeat_weight = i % 3 == 1 ? 7.0f : 1.0f;
    std::vector<float> supervision;
    if (c.supervised)
      for (int i = 0; i < model->config().layers * model->config().heads; ++i)
        supervision.push_back(i % 2 == 0 ? 0.2f : 0.0f);
    const Run result = run(Threads(), *model, parameters, rules, layout, supervision, NumberType::F32, 0);

    test::ReferenceModel reference(*model, parameters);
    CHECK(result.tally.loss + result.tally.supervision.retrieval.loss ==
          doctest::Approx(reference.loss(layout, supervision)).epsilon(1e-5));
    test::check_slopes(reference, parameters, layout, supervision, result.gradients, random);
  }
}

TEST_CASE("where nothing is predicted, layers above supervised ones change nothing and are left out") {
  const std::string stem = test::fixture("infini/linear");
  const auto model = Model::open(stem + ".gguf", f32());
  const Parameters parameters(Threads(), *model);
  const Config &config = model->config();
  REQUIRE(config.layers > 1);
  Sequence sequence = plain(test::read_numbers<int32_t>(stem + ".tokens.i32"), 0);
  for (const auto &[t, source] : {std::pair{18, 3}, {37, 20}, {60, 41}}) test::link(sequence, t, source);
  BatchLayout layout;
  layout.add(sequence, config.memory.segment, config.vocabulary);
  std::vector<float> retrieval(static_cast<size_t>(config.layers * config.heads));
  for (int h = 0; h < config.heads; ++h) retrieval[static_cast<size_t>(h)] = 0.2f;  // the first layer
  const test::RetrievalWeights weights(retrieval, config.heads);
  for (const int64_t keep : {int64_t{0}, kKeepAll}) {
    TrainingGraph backward(Threads(), *model, model->gemm(), parameters,
                           std::vector<bool>(parameters.list().size(), true), NumberType::F32, keep);
    const auto gradients = [&](bool all_layers) {
      Buffer<float> out(parameters.size());
      std::vector<float> logits(all_layers ? sequence.tokens.size() * static_cast<size_t>(config.vocabulary) : 0);
      RunRequest request;
      request.gradients = out.data();
      request.supervision = &weights;
      request.logits = all_layers ? logits.data() : nullptr;  // which need every layer
      const Tally tally = backward.run(Threads(), layout, request);
      CHECK(tally.supervision.retrieval.count == 3 * config.heads);
      CHECK(tally.supervision.retrieval.loss > 0);
      return std::vector<float>(out.data(), out.data() + parameters.size());
    };
    const std::vector<float> all = gradients(true);
    CHECK(gradients(false) == all);
    CHECK(std::any_of(all.begin(), all.end(), [](float g) { return g != 0; }));
  }
}

TEST_CASE("what the lowest trained layer is fed is kept under its cache key") {
  const std::string stem = test::fixture("infini/delta");
  const auto model = Model::open(stem + ".gguf", f32());
  Parameters parameters(Threads(), *model);
  const auto tokens = test::read_numbers<int32_t>(stem + ".tokens.i32");
  std::vector<bool> trained(parameters.list().size());
  const Parameters::Layer &last = parameters.layers().back();
  trained[last[Field::Q]] = trained[last[Field::DOWN]] = true;
  TrainingGraph backward(Threads(), *model, model->gemm(), parameters, trained, NumberType::F32, kKeepAll);
  const auto loss = [&](size_t from, size_t cache_key) {
    BatchLayout layout;
    layout.add(plain({tokens.begin() + static_cast<ptrdiff_t>(from), tokens.end()}, 1), model->config().memory.segment,
               model->config().vocabulary);
    return backward.run(Threads(), layout, {}, cache_key).loss;
  };
  const int64_t before = backward.bytes();
  const double first = loss(0, 0), second = loss(20, 1);
  CHECK(backward.bytes() > before);
  CHECK(first != second);
  CHECK(loss(0, 0) == first);
  CHECK(loss(20, 1) == second);
  CHECK(loss(0, TrainingGraph::kUncached) == first);
  // It is what was kept that is read: lower layers that changed are not seen before it is forgotten.
  parameters.of(parameters.layers().front()[Field::V])[0] += 1;
  backward.refresh(Threads(), true);
  CHECK(loss(0, 0) == first);
  backward.clear_cache();
  CHECK(loss(0, 0) != first);
  CHECK(loss(0, 0) == loss(0, TrainingGraph::kUncached));
}

TEST_CASE("logits are the engine's") {
  for (const char *name : {"linear-carry-sinks", "delta-ungated-mqa", "delta-wide-mha", "delta-rope-yarn"}) {
    const std::string stem = test::fixture(std::string("infini/") + name);
    const auto model = Model::open(stem + ".gguf", f32());
    const Parameters parameters(Threads(), *model);
    const auto tokens = test::read_numbers<int32_t>(stem + ".tokens.i32");
    BatchLayout layout;
    layout.add(plain(tokens, 1), model->config().memory.segment, model->config().vocabulary);
    TrainingGraph backward(Threads(), *model, model->gemm(), parameters,
                           std::vector<bool>(parameters.list().size(), true), NumberType::F32, 0);
    std::vector<float> logits(tokens.size() * static_cast<size_t>(model->config().vocabulary)), engine(logits.size());
    RunRequest request;
    request.logits = logits.data();
    backward.run(Threads(), layout, request);
    Session session(model, {});
    session.feed_logits(tokens, engine.data());
    CHECK(test::relative_difference(logits, engine) < 1e-5);
    CHECK(test::relative_difference(logits, test::read_numbers<float>(stem + ".logits.f32")) < 2e-5);
  }
}
