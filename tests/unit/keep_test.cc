// The promises of keeping sentences that stood out.
#include "support.h"

#include <functional>
#include <numeric>

#include "base/random.h"
#include "model/layers.h"
#include "seal.h"
#include "sessions.h"
#include "stream/batch.h"

using namespace infini;
using test::options_of;
using test::Values;

namespace {

// What a model's heads do with what is kept.
struct Lifting {
  double bias, focus;
  int64_t standing = 0;  // above 0: by a probe behind the second layer
};

// stories260K, whose words are known and whose layers are several.
std::shared_ptr<const Model> stories(int64_t segment, int64_t carry, int64_t keep, const char *compute = "f32",
                                     const char *memory = "file", Lifting lifting = {0, 0}) {
  Gguf gguf = Gguf::open(INFINI_SOURCE_DIR "/samples/models/stories260K.gguf");
  if (lifting.bias != 0) {
    const auto heads =
        static_cast<size_t>(gguf.get_int("llama.block_count") * gguf.get_int("llama.attention.head_count"));
    gguf.set_doubles("infini.keep.bias", std::vector<float>(heads, static_cast<float>(lifting.bias)));
    gguf.set("infini.keep.focus", static_cast<float>(lifting.focus));
    gguf.set("infini.keep.standing", lifting.standing);
    if (lifting.standing > 0) {
      std::vector<float> probe(static_cast<size_t>(gguf.get_int("llama.embedding_length")));
      for (size_t i = 0; i < probe.size(); ++i) probe[i] = static_cast<float>(i * i % 7) - 3;
      gguf.set_doubles("infini.keep.probe", probe);
      gguf.set("infini.keep.layer", int64_t{1});
    }
  }
  return Model::build(std::move(gguf), options_of({{"segment", segment},
                                                   {"carry", carry},
                                                   {"sinks", int64_t{2}},
                                                   {"keep", keep},
                                                   {"memory", std::string(memory)},
                                                   {"compute", std::string(compute)}}));
}

constexpr Lifting kLiftings[] = {{0, 0}, {2, 1}, {2, 1, 5}};

const char *const kStory =
    "Once upon a time, there was a little girl named Lily. She liked to play outside in the park. One day, she saw a "
    "big tree. She wanted to climb it. Her mom said no. Zebra quartz 9 vexed. Lily was sad. She sat on the grass. Then "
    "she saw a bird. The bird was nice. They played all day. Lily was happy. She went home with her mom. They ate "
    "dinner. Then they went to bed. The end. Once there was a boy named Tim. He had a red ball. He liked his ball. He "
    "played with it every day. Tim was happy. He took it to bed.";

std::vector<int32_t> story(const Model &model) {
  return model.tokenizer().encode(kStory + std::string(" ") + kStory, {});
}

std::vector<float> logits_of(Session &session) { return {session.logits().begin(), session.logits().end()}; }

int64_t kept_tokens(const Session &session) {
  const auto &spans = session.state().keep.spans();
  return std::accumulate(spans.begin(), spans.end(), int64_t{0},
                         [](int64_t sum, const KeptSpan &span) { return sum + span.tokens; });
}

}  // namespace

TEST_CASE("what is kept is seen as if it had never left: with room for all, as full attention") {
  const auto full = stories(500, 0, 0);
  for (const char *compute : {"f32", "bf16"}) {
    const auto keeping = stories(24, 30, 440, compute);
    Session whole(full, {}), kept(keeping, {});
    const auto tokens = story(*full);
    REQUIRE(tokens.size() > 200);
    double largest = 0;
    for (const int32_t token : tokens) {
      whole.feed({&token, 1});
      kept.feed({&token, 1});
      largest = test::larger(largest, test::relative_difference(kept.logits(), whole.logits()));
    }
    MESSAGE(compute << ": " << largest << " standard deviations");
    CHECK(largest < (compute == std::string("f32") ? 2e-5 : 0.1));
    // All but the sinks and the window.
    const View &view = kept.state().view;
    CHECK(kept_tokens(kept) == view.kept);
    CHECK(view.kept == view.window_begin - 2);
  }
}

TEST_CASE("a sentence that nobody expected is kept, within the budget, and others are let go") {
  const auto model = stories(16, 40, 24);
  Session session(model, {});
  const auto tokens = story(*model);
  int64_t most = 0;
  for (size_t at = 0; at < tokens.size(); at += 5) {
    session.feed(std::span(tokens).subspan(at, std::min<size_t>(5, tokens.size() - at)));
    most = std::max(most, kept_tokens(session));
    CHECK(kept_tokens(session) == session.state().view.kept);
  }
  CHECK(most <= 24);
  std::string text;
  for (const KeptSpan &span : session.state().keep.spans()) {
    const auto piece = std::span(tokens).subspan(static_cast<size_t>(span.begin), static_cast<size_t>(span.tokens));
    text += model->tokenizer().decode(piece);
  }
  INFO(text);
  CHECK(text.find("quartz") != std::string::npos);
  CHECK(text.find("park") == std::string::npos);
}

TEST_CASE("how the stream is cut changes nothing, bit for bit where that is asked for") {
  for (const bool exact : {true, false}) {
    for (const Lifting lifting : kLiftings) {
      const auto model = stories(20, 48, 40, "f32", "open", lifting);
      const Options options = options_of({{"deterministic", int64_t{exact}}});
      Session whole(model, options), cut(model, options);
      const auto tokens = story(*model);
      whole.feed(tokens);
      Random random(3);
      for (size_t at = 0; at < tokens.size();) {
        const auto count = std::min<size_t>(tokens.size() - at, 1 + static_cast<size_t>(random.uniform() * 30));
        cut.feed(std::span(tokens).subspan(at, count));
        at += count;
      }
      if (exact) CHECK(logits_of(cut) == logits_of(whole));
      else CHECK(test::relative_difference(cut.logits(), whole.logits()) < 2e-5);
      CHECK(cut.state().view.kept > 20);
    }
  }
}

TEST_CASE("a snapshot, a fork and a rewind hold what is kept") {
  for (const char *compute : {"f32", "bf16"}) {
    for (const Lifting lifting : kLiftings) {
      const auto model = stories(20, 48, 40, compute, "open", lifting);
      const Options options = options_of({{"checkpoints", int64_t{4}}, {"temperature", 1.0}});
      Session session(model, options);
      const auto tokens = story(*model);
      session.feed(std::span(tokens).first(170));
      const auto bytes = session.save(Session::SnapshotKind::SESSION, {});
      auto fork = session.fork();
      Session restored(model, options);
      restored.restore(bytes);
      const auto rest = std::span(tokens).subspan(170, 37);
      for (Session *one : {&session, fork.get(), &restored}) one->feed(rest);
      CHECK(logits_of(*fork) == logits_of(session));
      CHECK(logits_of(restored) == logits_of(session));
      const std::vector<float> wanted = logits_of(session);
      for (const int64_t back : {206, 190, 170, 150}) {
        session.rewind(back);
        session.feed(std::span(tokens).subspan(static_cast<size_t>(back), 207 - static_cast<size_t>(back)));
        CHECK(test::relative_difference(session.logits(), wanted) < (compute == std::string("f32") ? 2e-5 : 0.1));
      }
      // In the other number type what is kept is converted.
      const auto other = stories(20, 48, 40, compute == std::string("f32") ? "bf16" : "f32", "open", lifting);
      Session converted(other, options);
      converted.restore(bytes);
      converted.feed(rest);
      CHECK(test::relative_difference(converted.logits(), wanted) < 0.1);
    }
  }
}

TEST_CASE("sessions that keep sentences do in a batch what each would do alone, bit for bit where that is asked for") {
  for (const Lifting lifting : kLiftings) {
    const auto model = stories(20, 48, 40, "f32", "open", lifting);
    const auto tokens = story(*model);
    Batch batch(model);
    std::vector<std::shared_ptr<Session>> together, alone;
    for (int64_t i = 0; i < 3; ++i)
      for (auto *sessions : {&together, &alone}) {
        sessions->push_back(std::make_shared<Session>(
            model, options_of({{"deterministic", int64_t{1}}, {"temperature", 1.0}, {"seed", i}})));
        sessions->back()->feed(std::span(tokens).first(static_cast<size_t>(120 + 33 * i)));
      }
    for (const auto &session : together) batch.add(session);
    for (int step = 0; step < 40; ++step) {
      std::vector<int32_t> next(3);
      batch.next(next);
      for (size_t i = 0; i < 3; ++i) REQUIRE(next[i] == alone[i]->next().value_or(-1));
    }
    for (size_t i = 0; i < 3; ++i) CHECK(logits_of(*together[i]) == logits_of(*alone[i]));
  }
}

TEST_CASE("memory of a session does not grow with the stream") {
  const auto model = stories(20, 48, 40);
  Session session(model, {});
  const auto tokens = story(*model);
  int64_t before = 0;
  for (int round = 0; round < 12; ++round) {
    session.feed(std::span(tokens).first(200));
    if (round == 3) before = session.state_bytes();
  }
  CHECK(session.state_bytes() <= before + 20 * 2000);  // the open segment and the carry may be longer
  CHECK(kept_tokens(session) <= 40);
}

TEST_CASE("keeping needs a carry of a segment, and a snapshot of another budget is refused") {
  const auto status_of = [](const std::function<void()> &call, std::string &message) {
    try {
      call();
    } catch (const Error &error) {
      message = error.what();
      return error.status();
    }
    return Status::OK;
  };
  std::string message;
  CHECK(status_of([] { stories(20, 10, 40); }, message) == Status::INVALID_ARGUMENT);
  CHECK(message.find("carry") != std::string::npos);
  Session keeping(stories(20, 48, 40), {}), plain(stories(20, 48, 0), {});
  keeping.feed(story(keeping.model()));
  const auto bytes = keeping.save(Session::SnapshotKind::SESSION, {});
  CHECK(status_of([&] { plain.restore(bytes); }, message) == Status::MODEL_MISMATCH);
}

TEST_CASE("what a caller marks is kept before what surprises, the newest first, and only from the window") {
  const auto model = stories(16, 40, 24);
  Session session(model, {});
  const auto tokens = story(*model);
  // How many of the tokens begin .. end of the stream are kept.
  const auto kept_of = [&](int64_t begin, int64_t end) {
    int64_t count = 0;
    for (const KeptSpan &span : session.state().keep.spans())
      count += std::max<int64_t>(0, std::min(end, span.begin + span.tokens) - std::max(begin, span.begin));
    return count;
  };
  session.feed(std::span(tokens).first(40));
  session.keep(9);
  session.feed(std::span(tokens).subspan(40, 110));
  CHECK(kept_of(31, 40) == 9);
  CHECK(kept_tokens(session) <= 24);
  for (int i = 0; i < 2; ++i) {  // with these more than the budget holds
    session.keep(11);
    session.feed(std::span(tokens).subspan(150 + static_cast<size_t>(i) * 60, 60));
  }
  session.feed(std::span(tokens).first(100));
  CHECK(kept_of(139, 150) == 11);
  CHECK(kept_of(199, 210) == 11);
  CHECK(kept_of(31, 40) < 9);

  const auto status_of = [&](Session &of, int64_t count) {
    try {
      of.keep(count);
    } catch (const Error &error) { return error.status(); }
    return Status::OK;
  };
  CHECK(status_of(session, 0) == Status::INVALID_ARGUMENT);
  CHECK(status_of(session, 200) == Status::INVALID_ARGUMENT);
  Session plain(stories(16, 40, 0), {});
  plain.feed(tokens);
  CHECK(status_of(plain, 1) == Status::STATE);
}

TEST_CASE("a memory alone brings what is kept, in either number type, as much as there is room for") {
  for (const char *compute : {"f32", "bf16"}) {
    const auto model = stories(20, 48, 60, compute, "open");
    Session session(model, {});
    const auto tokens = story(*model);
    session.feed(std::span(tokens).first(170));
    const auto before = logits_of(session);
    const auto bytes = session.save(Session::SnapshotKind::MEMORY, {});
    CHECK(logits_of(session) == before);
    Session restored(model, {});
    restored.restore(bytes);
    CHECK(restored.position() == 170);
    CHECK(kept_tokens(restored) == restored.state().view.kept);
    CHECK(restored.state().view.kept > 40);
    // What is seen is what was kept: a session whose window went by with the same spans kept gives the same keys.
    const auto &spans = restored.state().keep.spans();
    for (const KeptSpan &span : session.state().keep.spans())
      if (span.worth > 6)
        CHECK(std::any_of(spans.begin(), spans.end(), [&](const KeptSpan &s) { return s.begin == span.begin; }));
    const auto kept = layers_of(restored.state())[1].window.kept(restored.state().view);
    CHECK(std::all_of(kept.begin(), kept.end(), [](float x) { return std::isfinite(x); }));
    CHECK(std::any_of(kept.begin(), kept.end(), [](float x) { return x != 0; }));
    // Saved and restored again it is the same, and goes on.
    Session again(model, {});
    again.restore(restored.save(Session::SnapshotKind::MEMORY, {}));
    CHECK(layers_of(again.state())[1].window.kept(again.state().view) == kept);
    const auto rest = std::span(tokens).subspan(170, 37);
    again.feed(rest), restored.feed(rest);
    CHECK(logits_of(again) == logits_of(restored));
    // The whole session too.
    Session whole(model, {});
    whole.restore(restored.save(Session::SnapshotKind::SESSION, {}));
    again.feed(rest), whole.feed(rest);
    CHECK(logits_of(again) == logits_of(whole));

    Session other(stories(20, 48, 60, compute == std::string("f32") ? "bf16" : "f32", "open"), {});
    other.restore(bytes);
    other.feed(rest);
    restored.restore(bytes);
    restored.feed(rest);
    CHECK(test::relative_difference(other.logits(), restored.logits()) < 0.1);

    Session small(stories(20, 48, 12, compute, "open"), {}), none(stories(20, 48, 0, compute, "open"), {});
    small.restore(bytes), none.restore(bytes);
    CHECK(small.state().view.kept <= 12);
    CHECK(none.state().view.kept == 0);
    small.feed(rest), none.feed(rest);
  }
}

TEST_CASE("heads raise what is kept by their bias, and tell it apart by the focus") {
  // A bias that hides what is kept leaves the window and the sinks; none changes nothing, and a focus without one
  // neither.
  const auto last = [&](int64_t keep, Lifting lifting) {
    const auto model = stories(20, 48, keep, "f32", "file", lifting);
    Session session(model, {});
    const auto tokens = story(*model);
    session.feed(std::span(tokens).first(190));
    return logits_of(session);
  };
  const auto plain = last(40, {0, 0}), raised = last(40, {2, 0}), focused = last(40, {2, 1});
  CHECK(test::relative_difference(last(40, {-90, 0}), plain) > 0.01);
  CHECK(test::relative_difference(raised, plain) > 0.01);
  CHECK(test::relative_difference(focused, raised) > 0.001);
  CHECK(last(0, {2, 1}) == last(0, {0, 0}));
  // What stands in the window is raised too, but not where it would end so near that nothing does.
  const auto far = last(40, {2, 1, 1000});
  CHECK(test::relative_difference(last(40, {2, 1, 5}), far) > 0.001);
  CHECK(last(40, {2, 1, 999}) == far);
  std::string message;
  const auto status_of = [&](double focus) {
    try {
      stories(20, 48, 40, "f32", "file", {2, focus});
    } catch (const Error &error) {
      message = error.what();
      return error.status();
    }
    return Status::OK;
  };
  CHECK_THROWS_AS(stories(20, 48, 40, "f32", "file", {2, 1, int64_t{1} << 40}), Error);
  for (const double focus : {-1.0, 101.0, std::nan("")}) {
    CHECK(status_of(focus) == Status::FORMAT);
    CHECK(message.find("infini.keep.focus") != std::string::npos);
  }
}
