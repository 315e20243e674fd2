// Memory that ends anywhere: each call either has not happened, or says that the session must be reset or restored;
// what it left behind never leads astray.
#include "allocations.h"

#include <functional>

#include "support.h"
#include "temporary_folder.h"

#include "adapt/make_trainer.h"
#include "base/json.h"
#include "base/testing.h"
#include "stream/batch.h"
#include "stream/session.h"

using namespace infini;

namespace {

std::shared_ptr<const Model> small_model() {
  CreateConfig config;
  config.layers = 2, config.width = 32, config.heads = 4, config.kv_heads = 2, config.hidden = 48,
  config.vocabulary = 96;
  config.segment = 16, config.carry = 5, config.sinks = 2, config.seed = 3;
  Options options;
  options.set("compute", std::string("f32"));
  return Model::create(config, options);
}

Options session_options(int64_t threads) {
  Options options;
  options.set("checkpoints", int64_t{2});
  options.set("max_tokens", int64_t{-1});
  options.set("deterministic", int64_t{1});
  options.set("threads", threads);
  options.set("chunk", int64_t{24});
  options.set("rewind_sampler", int64_t{1});
  options.set("repetition_penalty", 1.5);
  return options;
}

std::vector<int32_t> stream_of(int32_t count) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < count; ++i) tokens.push_back((i * 37 + i * i) % 96);
  return tokens;
}

// Runs `call` where the n-th allocation fails. False: it needed fewer.
bool fails_at(long n, const std::function<void()> &call) {
  test::allocations_left = n;
  bool failed = false;
  try {
    call();
  } catch (const std::bad_alloc &) { failed = true; }
  const bool reached = test::allocations_left < 0;
  test::allocations_left = -1;
  CHECK_MESSAGE(failed <= reached, "bad_alloc without a reason");
  return reached;
}

constexpr int32_t kBefore = 40, kMore = 60;

// Every place is tried; with a sanitizer, which makes each ten times as slow, every third.
constexpr long kEach = TEST_SANITIZED ? 3 : 1;

// What a session that has read the first tokens of the stream must now do, if it does anything.
void check_goes_on(Session &session, const std::vector<int32_t> &tokens, const std::shared_ptr<const Model> &model) {
  const auto position = static_cast<size_t>(session.position());
  Session straight(model, session_options(1));
  straight.feed(std::span(tokens).first(position));
  try {
    session.feed(std::span(tokens).subspan(position, 10));
  } catch (const Error &error) {
    CHECK(error.status() == Status::STATE);
    session.reset();
    session.feed(std::span(tokens).first(position + 10));
  }
  straight.feed(std::span(tokens).subspan(position, 10));
  CHECK(std::equal(session.logits().begin(), session.logits().end(), straight.logits().begin()));
  const int64_t back = std::max(session.rewind_limit(), static_cast<int64_t>(position));
  session.rewind(back);
  straight.rewind(back);
  CHECK(std::equal(session.logits().begin(), session.logits().end(), straight.logits().begin()));
  Session restored(model, session_options(1));
  restored.restore(session.save(Session::SnapshotKind::SESSION, {}), "buffer");
  const auto next = session.next();
  CHECK(restored.next() == next);
  CHECK(straight.next() == next);
}

}  // namespace

TEST_CASE("memory may end in any allocation of a call") {
  const EagerThreads eager;
  const auto model = small_model();
  const std::vector<int32_t> tokens = stream_of(kBefore + kMore + 20);
  for (const int64_t threads : {1, 2}) {
    const int64_t shared = eager.items_of_others();
    Session base(model, session_options(threads));
    base.feed(std::span(tokens).first(kBefore));
    std::vector<float> logits(kMore * 96);
    bool same = true;  // doctest itself needs memory
    const std::pair<const char *, std::function<void(Session &)>> calls[] = {
        {"feed", [&](Session &s) { s.feed(std::span(tokens).subspan(kBefore, kMore)); }},
        {"feed_logits", [&](Session &s) { s.feed_logits(std::span(tokens).subspan(kBefore, kMore), logits.data()); }},
        {"score", [&](Session &s) { s.score(std::span(tokens).subspan(kBefore, kMore), logits.data()); }},
        {"rewind", [&](Session &s) { s.rewind(s.rewind_limit()); }},
        {"fork", [&](Session &s) { same = s.fork()->position() == kBefore; }},
    };
    for (const auto &[name, call] : calls) {
      const std::string called = name;
      long n = 0;
      for (bool more = true; more; n += kEach) {
        CAPTURE(called);
        CAPTURE(n);
        const auto session = base.fork();
        more = fails_at(n, [&, &f = call] { f(*session); });
        CHECK(same);
        check_goes_on(*session, tokens, model);
        REQUIRE(n < 10000);
      }
      MESSAGE(std::string(name) << ", " << threads << " threads: " << (n - 1) << " allocations");
    }
    CHECK((eager.items_of_others() > shared) == (threads > 1));
  }
}

TEST_CASE("memory may end in any allocation of saving, restoring and inspecting") {
  const auto model = small_model();
  const std::vector<int32_t> tokens = stream_of(kBefore + kMore + 20);
  Session base(model, session_options(1));
  base.feed(std::span(tokens).first(kBefore));
  const test::TemporaryFolder folder;
  const std::string path = folder.file("snapshot");
  base.save(path, Session::SnapshotKind::SESSION, {"first", ""});
  const auto whole = base.save(Session::SnapshotKind::SESSION, {}),
             memory = base.save(Session::SnapshotKind::MEMORY, {});
  const std::string facts = inspect_snapshot(whole, "buffer", true, nullptr);
  bool same = true;
  const std::pair<const char *, std::function<void(Session &)>> calls[] =
      {
          {"save", [&](Session &s) { same = s.save(Session::SnapshotKind::SESSION, {}) == whole; }},
          {"save a memory", [&](Session &s) { same = s.save(Session::SnapshotKind::MEMORY, {}) == memory; }},
          {"save to a file",
           [&](Session &s) {
    s.save(path, Session::SnapshotKind::SESSION, {"", "again"});
           }},
          {"restore", [&](Session &s) { s.restore(whole, "buffer"); }},
          {"restore a memory", [&](Session &s) { s.restore(memory, "buffer"); }},
          {"restore from a file", [&](Session &s) { s.restore(path, nullptr); }},
          {"inspect", [&](Session &) { same = inspect_snapshot(whole, "buffer", true, nullptr) == facts; }},
  };
  for (const auto &[name, call] : calls) {
    const std::string called = name;
    long n = 0;
    for (bool more = true; more; n += kEach) {
      CAPTURE(called);
      CAPTURE(n);
      Session session(model, session_options(1));
      session.feed(std::span(tokens).first(30));
      const auto before = session.save(Session::SnapshotKind::SESSION, {});
      Session &used = std::string_view(name).starts_with("restore") ? session : base;
      more = fails_at(n, [&, &f = call] { f(used); });
      CHECK(same);
      // A session that was not restored is as it was, and a file that was not written too.
      if (more && &used == &session) CHECK(session.save(Session::SnapshotKind::SESSION, {}) == before);
      Session restored(model, session_options(1));
      restored.restore(path, nullptr);
      CHECK(restored.position() == kBefore);
      REQUIRE(n < 10000);
    }
    MESSAGE(std::string(name) << ": " << (n - 1) << " allocations");
  }
}

TEST_CASE("memory may end in any allocation of reading JSON, whose objects may keep their order") {
  std::string text = R"({"first": {"list": [1, 2, {"inner": 3}], "empty": {}})";
  for (int i = 0; i < 80; ++i)
    text +=
        cat(", \"name number ", i, "\": ", i % 3 ? R"("a text that is long enough for memory")" : R"({"list": [1]})");
  text += "}";
  const auto read = [&]<class Json>(const Json &) {
    long n = 0;
    size_t members = 0;
    while (fails_at(n, [&] { members = parse_json<Json>(text, Status::FORMAT, "the text")->size(); })) ++n;
    CHECK(members == 81);
    return n;
  };
  CHECK(read(nlohmann::json()) > 100);
  CHECK(read(nlohmann::ordered_json()) > 100);
  CHECK(parse_json<nlohmann::ordered_json>(text, Status::FORMAT, "the text")->begin().key() == "first");
}

TEST_CASE("memory may end in any allocation of a batch") {
  const auto model = small_model();
  const std::vector<int32_t> tokens = stream_of(kBefore);
  long n = 0;
  for (bool more = true; more; n += kEach) {
    CAPTURE(n);
    Batch batch(model);
    std::vector<std::shared_ptr<Session>> sessions;
    for (int i = 0; i < 3; ++i) {
      sessions.push_back(std::make_shared<Session>(model, session_options(1)));
      if (i == 2) {
        Options inexact;
        inexact.set("deterministic", int64_t{0});
        sessions.back()->set_options(inexact);
      }
      sessions.back()->feed(tokens);
      batch.add(sessions.back());
    }
    const auto expected = sessions[0]->fork();
    const int32_t next = expected->next().value();
    std::vector<int32_t> out(3);
    more = fails_at(n, [&] { batch.next(out); });
    for (const auto &session : sessions) {
      try {
        if (session->position() == kBefore) CHECK(session->next().value() == next);
        else session->next();
      } catch (const Error &error) {
        CHECK(error.status() == Status::STATE);
        session->reset();
        session->feed(tokens);
        CHECK(session->next().value() == next);
      }
    }
    REQUIRE(n < 10000);
  }
  MESSAGE((n - 1) << " allocations");
}

TEST_CASE("memory may end in any allocation of a training step: it has not happened, or only a checkpoint helps") {
  const auto model = small_model();
  const test::TemporaryFolder folder;
  for (const std::string what : {R"("all")", R"("lora", "optimizer": "adamw")"}) {
    CAPTURE(what);
    const std::string description = R"({"training": {"tokens": 128, "segments": 4, "warmup": 0, "train": )" + what +
                                    R"(}, "data": {"type": "random"}})";
    const auto made = [&] { return make_trainer(model, description, Options()); };
    const auto straight = made();
    straight->save(folder.file("first"));
    straight->step();
    straight->save(folder.file("second"));
    int unfinished = 0;
    long n = 0;
    for (bool more = true; more; n += kEach) {
      CAPTURE(n);
      const auto trainer = made();
      bool done = false;  // oneDNN takes another of its kernels where one gets no memory
      more = fails_at(n, [&] { trainer->step(), done = true; });
      if (done) continue;
      try {
        if (trainer->steps() == 0) trainer->step();
        trainer->save(folder.file("state"));
      } catch (const Error &error) {
        CHECK(error.status() == Status::STATE);
        CHECK_THROWS_AS(trainer->save(folder.file("state")), Error);
        CHECK_THROWS_AS(trainer->gguf(TensorType::F32), Error);
        trainer->restore(folder.file("first"));
        trainer->step();
        trainer->save(folder.file("state"));
        ++unfinished;
      }
      REQUIRE(test::read_text(folder.file("state")) == test::read_text(folder.file("second")));
      REQUIRE(n < 10000);
    }
    CHECK(unfinished > 0);
    MESSAGE(what << ": " << (n - 1) << " allocations, " << unfinished << " of them while weights change");
  }
}
