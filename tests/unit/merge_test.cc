// The promises of memories that add up, and of learning what is worth keeping.
#include "support.h"

#include <functional>

#include "model/keep_fit.h"
#include "model/kept.h"
#include "model/layers.h"
#include "stream/session.h"

using namespace infini;

namespace {

Options options_of(int64_t keep, const char *update = "linear", const char *compute = "f32") {
  Options options;
  options.set("segment", int64_t{16}), options.set("carry", int64_t{40}), options.set("sinks", int64_t{2});
  options.set("keep", keep);
  options.set("memory", std::string("open")), options.set("update", std::string(update));
  options.set("compute", std::string(compute));
  return options;
}

const char *const kModel = INFINI_SOURCE_DIR "/samples/models/stories260K.gguf";

std::shared_ptr<const Model> stories(int64_t keep, const char *update = "linear", const char *compute = "f32") {
  return Model::open(kModel, options_of(keep, update, compute));
}

std::vector<int32_t> tokens_of(const Model &model, const char *text) { return model.tokenizer().encode(text, {}); }

const char *const kLily =
    "Once upon a time, there was a little girl named Lily. She liked to play outside in the park. One day, she saw a "
    "big tree. She wanted to climb it. Her mom said no. Lily was sad. She sat on the grass. Then she saw a bird.";
const char *const kTim =
    "Once there was a boy named Tim. He had a red ball. He liked his ball. Quartz zebras vex Tim. He played with it "
    "every "
    "day. Tim was happy. He took it to bed. His mom and dad were glad. They all went to sleep in the big red house.";

// M and z of one head, what rounding left included.
std::vector<double> sums(const Session &session, size_t layer, size_t head) {
  std::vector<std::vector<float>> stretches;
  layers_of(session.state())[layer].memory[head].visit(
      [&](const float *values, int64_t count) { stretches.emplace_back(values, values + count); });
  std::vector<double> all;
  for (size_t half = 0; half < 2; ++half) {
    size_t at = 0;
    for (size_t i = 0; i < stretches.size() / 2; ++i)
      for (const float value : stretches[half * stretches.size() / 2 + i]) {
        if (half == 0) all.push_back(0);
        all[at++] += static_cast<double>(value);
      }
  }
  return all;
}

double difference(const std::vector<double> &a, const std::vector<double> &b) {
  double largest = 0, scale = 0;
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    CHECK(std::isfinite(a[i]));
    largest = std::max(largest, std::abs(a[i] - b[i]));
    scale = std::max(scale, std::abs(b[i]));
  }
  return largest / std::max(scale, 1e-30);
}

std::vector<std::byte> memory_of(const std::shared_ptr<const Model> &model, const char *text) {
  Session session(model, {});
  session.feed(tokens_of(*model, text));
  return session.save(Session::SnapshotKind::MEMORY, {});
}

std::string refusal_of(const std::function<void()> &call, Status status) {
  try {
    call();
  } catch (const Error &error) {
    CHECK(error.status() == status);
    return error.what();
  }
  FAIL("nothing was refused");
  return "";
}

}  // namespace

TEST_CASE("the first layer's Linear memory of two texts that are merged is that of one stream that read both") {
  const auto model = stories(0);
  const auto a = memory_of(model, kLily), b = memory_of(model, kTim);
  Session merged(model, {}), other_order(model, {}), both(model, {});
  merged.merge(a, 1), merged.merge(b, 1);
  other_order.merge(b, 1), other_order.merge(a, 1);
  both.feed(tokens_of(*model, kLily)), both.close_segment();
  both.feed(tokens_of(*model, kTim)), both.close_segment();
  CHECK(merged.memory_tokens() == both.memory_tokens());
  for (size_t head = 0; head < static_cast<size_t>(model->config().kv_heads); ++head) {
    CHECK(difference(sums(merged, 0, head), sums(both, 0, head)) < 1e-5);
    for (size_t layer = 0; layer < static_cast<size_t>(model->config().layers); ++layer)
      CHECK(difference(sums(merged, layer, head), sums(other_order, layer, head)) < 1e-6);
  }
  // Taken away again, what is left is the other; with both gone there is nothing, exactly.
  merged.merge(a, -1);
  Session only(model, {});
  only.merge(b, 1);
  for (size_t layer = 0; layer < static_cast<size_t>(model->config().layers); ++layer)
    CHECK(difference(sums(merged, layer, 0), sums(only, layer, 0)) < 1e-5);
  merged.merge(b, -1);
  CHECK(merged.memory_tokens() == 0);
  for (const double value : sums(merged, 0, 0)) CHECK(value == 0);
  // Weights.
  Session half(model, {}), twice(model, {});
  half.merge(a, 0.5), half.merge(a, 0.5), twice.merge(a, 1);
  CHECK(difference(sums(half, 2, 1), sums(twice, 2, 1)) < 1e-6);
}

TEST_CASE("what both keep is kept by worth within the budget, and goes when its text is taken away") {
  for (const char *compute : {"f32", "bf16"}) {
    const auto model = stories(60, "linear", compute);
    const auto a = memory_of(model, kLily), b = memory_of(model, kTim);
    Session merged(model, {});
    merged.feed(tokens_of(*model, "The end."));
    merged.merge(a, 1);
    const auto own = kept_of(*model, merged.state());
    CHECK(merged.state().view.kept > 20);
    merged.merge(b, 1);
    CHECK(merged.state().view.kept <= 60);
    CHECK(merged.state().view.kept == kept_of(*model, merged.state()).tokens());
    // The worthiest sentence of either is there.
    for (const auto &bytes : {a, b}) {
      Session part(model, {});
      part.merge(bytes, 1);
      const auto by_worth = [](const KeptSpan &x, const KeptSpan &y) { return x.worth < y.worth; };
      const auto &parts = part.state().keep.spans(), &spans = merged.state().keep.spans();
      const float most = std::max_element(parts.begin(), parts.end(), by_worth)->worth;
      CHECK(std::any_of(spans.begin(), spans.end(), [&](const KeptSpan &s) { return s.worth == most; }));
    }
    merged.merge(b, -1);
    for (const auto &span : merged.state().keep.spans())
      CHECK(std::any_of(own.spans.begin(), own.spans.end(), [&](const KeptSpan &s) { return s.worth == span.worth; }));
    const auto rest = tokens_of(*model, kTim);
    merged.feed(rest);
    for (const float logit : merged.logits()) CHECK(std::isfinite(logit));
    // It is saved, restored and goes on bit for bit.
    Session restored(model, {});
    restored.restore(merged.save(Session::SnapshotKind::SESSION, {}));
    restored.feed(rest), merged.feed(rest);
    CHECK(std::vector(restored.logits().begin(), restored.logits().end()) ==
          std::vector(merged.logits().begin(), merged.logits().end()));
  }
}

TEST_CASE("merging with what does not fit is refused, and leaves the session as it was") {
  const auto model = stories(0);
  const auto a = memory_of(model, kLily), b = memory_of(model, kTim);
  Session session(model, {});
  session.merge(a, 1);
  const auto before = sums(session, 0, 0);
  CHECK(refusal_of([&] { session.merge(b, -5); }, Status::INVALID_ARGUMENT).find("taken away") != std::string::npos);
  refusal_of([&] { session.merge(a, 0); }, Status::INVALID_ARGUMENT);
  refusal_of([&] { session.merge(a, std::nan("")); }, Status::INVALID_ARGUMENT);
  Session delta(stories(0, "delta"), {});
  CHECK(refusal_of([&] { delta.merge(a, 1); }, Status::MODEL_MISMATCH).find("update") != std::string::npos);
  auto damaged = a;
  damaged.back() ^= std::byte{1};
  refusal_of([&] { session.merge(damaged, 1); }, Status::CHECKSUM);
  CHECK(sums(session, 0, 0) == before);
  // No rewind goes back to before, and a merge leaves position and logits.
  session.feed(tokens_of(*model, kTim));
  const std::vector<float> logits(session.logits().begin(), session.logits().end());
  const int64_t position = session.position();
  session.merge(b, 1);
  CHECK(session.position() == position);
  CHECK(std::vector<float>(session.logits().begin(), session.logits().end()) == logits);
  CHECK(session.rewind_limit() == position);
}

TEST_CASE("a model learns what is worth keeping, and keeps that") {
  const auto model = stories(48);
  std::vector<int32_t> tokens;
  std::vector<uint8_t> worth;
  const auto say = [&](const std::string &text, bool keep) {
    for (const int32_t token : model->tokenizer().encode(text, {.start = tokens.empty()}))
      tokens.push_back(token), worth.push_back(keep);
  };
  const char *const names[] = {"Tim", "Lily", "Ben", "Mia", "Max", "Sue"};
  const char *const plain[] = {
      " She liked to play outside.", " The bird was nice.", " They played all day.", " He was happy.",
      " Then they went to bed.",     " Her mom said no.",   " It was a big tree."};
  for (int i = 0; i < 90; ++i) {
    say(plain[i % 7], false), say(plain[(i + 3) % 7], false);
    if (i % 3 == 0)
      say(std::string(" The number of ") + names[i / 3 % 6] + " is " + std::to_string(17 + i * 7) + ".", true);
  }
  KeepFit fit;
  fit.layer = 2, fit.threads = 1;
  const KeepProbe probe = fit_keep(*model, tokens, worth, fit, nullptr);
  CHECK(with_probe(*model, probe).get_double("infini.keep.focus", 0) == 1);
  CHECK(with_probe(*model, probe).get_int("infini.keep.standing", 0) == 64);
  CHECK(!with_probe(*model, probe).find("infini.keep.bias"));
  Session session(Model::build(with_probe(*model, probe), options_of(48)), {});
  std::string text;
  for (int i = 0; i < 60; ++i) {
    text += plain[(i * 3) % 7];
    if (i == 9) text += " The number of Bob is 54321.";
  }
  const auto stream = tokens_of(*model, text.c_str());
  session.feed(stream);
  std::string kept;
  for (const KeptSpan &span : session.state().keep.spans())
    kept += model->tokenizer().decode(
        std::span(stream).subspan(static_cast<size_t>(span.begin), static_cast<size_t>(span.tokens)));
  CHECK_MESSAGE(kept.find("54321") != std::string::npos, kept);
  CHECK_MESSAGE(kept.find("bird") == std::string::npos, kept);

  refusal_of([&] { fit_keep(*stories(0), tokens, worth, fit, nullptr); }, Status::STATE);
  refusal_of([&] { fit_keep(*model, tokens, std::vector<uint8_t>(tokens.size()), fit, nullptr); },
             Status::INVALID_ARGUMENT);
  fit.bias = {{-1, 1, 3}, {2, -1, 1.5}};
  const std::vector<float> bias = fit_keep(*model, tokens, worth, fit, nullptr).bias;
  CHECK(bias.size() == 40);
  for (int at = 0; at < 40; ++at)
    CHECK(bias[static_cast<size_t>(at)] == (at / 8 == 2 ? 1.5f : at % 8 == 1 ? 3.0f : 0.0f));
  fit.bias = {{0, 8, 1}};
  refusal_of([&] { fit_keep(*model, tokens, worth, fit, nullptr); }, Status::INVALID_ARGUMENT);
  fit.bias = {{0, 0, 101}};
  refusal_of([&] { fit_keep(*model, tokens, worth, fit, nullptr); }, Status::INVALID_ARGUMENT);
  fit.bias.clear();
  fit.layer = 99;
  refusal_of([&] { fit_keep(*model, tokens, worth, fit, nullptr); }, Status::INVALID_ARGUMENT);
}
