// Random walks: a session that is saved, restored, forked, cancelled, batched and fed in any pieces goes exactly the
// way of a twin that is only fed, asked and rewound.
//
// INFINI_WALKS: walks for each set-up. A failure is shrunk, and printed as the shortest log of steps that still fails,
// with the RC_PARAMS that repeat it.
#include "support.h"

#include <rapidcheck.h>

#include <algorithm>
#include <filesystem>
#include <ostream>

#include "base/random.h"
#include "sessions.h"
#include "stream/batch.h"
#include "temporary_folder.h"

using namespace infini;
using test::options_of;
using test::Values;
using Kind = Session::SnapshotKind;

namespace walk {

constexpr int kVocabulary = 512;  // that of the tokenizer

enum class Action {
  FEED,
  CLOSE,
  TOKENS,
  TEXT,
  SAVE,
  RESTORE,
  MOVE,
  DETOUR,
  FORK,
  REWIND,
  REFUSED,
  CANCEL,
  BATCH,
  MEMORY,
  RESET
};
const char *const kActions[] = {"feed", "close",  "tokens",  "text",   "save",  "restore", "move", "detour",
                                "fork", "rewind", "refused", "cancel", "batch", "memory",  "reset"};

struct Step {
  Action action;
  int number;  // how many tokens, where to, how: each action takes from it what it needs
};

std::ostream &operator<<(std::ostream &out, const Step &step) {
  return out << kActions[static_cast<int>(step.action)] << ' ' << step.number;
}

struct SetUp {
  const char *update;
  int carry, sinks;
  int64_t checkpoints, rewind_sampler;
  int64_t keep = -1;
  const char *architecture = "llama";
};

const SetUp kSetUps[] = {{"delta", 10, 3, 3, 0}, {"linear", 0, 0, 0, 1},      {"linear", 30, 2, 4, 1},
                         {"delta", 0, 5, 1, 0},  {"linear", 40, 2, 3, 1, 30}, {"delta", 30, 2, 3, 0, 20, "gemma2"}};

std::shared_ptr<const Model> model_of(const SetUp &set_up) {
  CreateConfig config;
  config.layers = 2, config.width = 32, config.heads = 4, config.kv_heads = 2, config.hidden = 48, config.seed = 5;
  config.architecture = set_up.architecture, config.window = 9;
  config.segment = 24, config.carry = set_up.carry, config.sinks = set_up.sinks, config.update = set_up.update;
  config.tokenizer = INFINI_SOURCE_DIR "/samples/models/stories260K.gguf";
  return Model::create(config,
                       options_of({{"compute", std::string("f32")}, {"threads", int64_t{1}}, {"keep", set_up.keep}}));
}

// What snapshots do not hold, and every session of a walk is given.
Options lasting_options(const SetUp &set_up) {
  return options_of({{"deterministic", int64_t{1}},
                     {"threads", int64_t{1}},
                     {"chunk", int64_t{20}},
                     {"checkpoints", set_up.checkpoints},
                     {"rewind_sampler", set_up.rewind_sampler}});
}

// What they do hold.
const Options kGeneration = options_of({{"temperature", 1.1},
                                        {"top_k", int64_t{400}},
                                        {"min_p", 1e-4},
                                        {"repetition_penalty", 1.2},
                                        {"presence_penalty", 0.1},
                                        {"frequency_penalty", 0.05},
                                        {"penalty_window", int64_t{30}},
                                        {"seed", int64_t{7}},
                                        {"max_tokens", int64_t{90}},
                                        {"stop", std::string("ed\nthe \nou")}});

std::vector<int32_t> tokens_of(int number, size_t most = 70) {
  Random random(static_cast<uint64_t>(number));
  std::vector<int32_t> tokens(static_cast<size_t>(number) % most + 1);
  for (int32_t &token : tokens) token = static_cast<int32_t>(random.uniform() * kVocabulary);
  return tokens;
}

class Walk {
 public:
  Walk(std::shared_ptr<const Model> model, const SetUp &set_up)
      : model_(std::move(model)), lasting_(lasting_options(set_up)),
        session_(std::make_shared<Session>(model_, lasting_)), twin_(model_, lasting_),
        path_(folder_.file("walk.snap")) {
    session_->set_options(kGeneration);
    twin_.set_options(kGeneration);
  }

  void step(const Step &step) {
    const int n = step.number;
    switch (step.action) {
      case Action::FEED: return feed(n);
      case Action::CLOSE: session_->close_segment(), twin_.close_segment(); return;
      case Action::TOKENS: return tokens(n);
      case Action::TEXT: return text(n);
      case Action::SAVE: save(n % 2 ? Kind::SESSION : Kind::MEMORY, n / 2); return;
      case Action::RESTORE: return session_->restore(save(Kind::SESSION, n));
      case Action::MOVE: return move(n);
      case Action::DETOUR: return detour(n);
      case Action::FORK: return fork(n);
      case Action::REWIND: return rewind(n);
      case Action::REFUSED: return refused(n);
      case Action::CANCEL: return cancel(n);
      case Action::BATCH: return batch(n);
      case Action::MEMORY:
        session_->restore(save(Kind::MEMORY, n)), twin_.restore(twin_.save(Kind::MEMORY, {}));
        return;
      case Action::RESET: session_->reset(), twin_.reset(); return;
    }
  }

  // `logits`: they too. Asking for them computes them, so they must not always be asked for.
  void compare(bool logits) {
    same("position", session_->position(), twin_.position());
    same("segment position", session_->segment_position(), twin_.segment_position());
    same("memory tokens", session_->memory_tokens(), twin_.memory_tokens());
    same("rewind limit", session_->rewind_limit(), twin_.rewind_limit());
    same("boundaries", session_->boundaries(), twin_.boundaries());
    same("state bytes", session_->state_bytes(), twin_.state_bytes());
    same("stop reason", std::string(session_->stop_reason()), std::string(twin_.stop_reason()));
    same("having logits", session_->state().has_hidden, twin_.state().has_hidden);
    if (!logits || !twin_.state().has_hidden) return;
    const auto here = session_->logits(), there = twin_.logits();
    for (size_t i = 0; i < there.size(); ++i) same("logit", here[i], there[i]);
  }

 private:
  template <class T>
  static void same(const char *what, const T &here, const T &there) {
    if (!(here == there))
      RC_FAIL(std::string(what) + ": " + rc::toString(here) + ", the twin has " + rc::toString(there));
  }
  static void expect(bool holds, const char *what) {
    if (!holds) RC_FAIL(std::string("not so: ") + what);
  }

  void feed(int n) {
    const auto tokens = tokens_of(n);
    twin_.feed(tokens);
    Random cut(static_cast<uint64_t>(n) + 1);
    for (size_t done = 0; done < tokens.size();) {
      const size_t size = std::min(tokens.size() - done, static_cast<size_t>(1 + cut.uniform() * cut.uniform() * 60));
      session_->feed(std::span(tokens).subspan(done, size));
      done += size;
    }
  }

  void tokens(int n) {
    if (!twin_.state().has_hidden) return;
    for (int i = 0; i < n % 12 + 1; ++i) same("token", session_->next().value_or(-1), twin_.next().value_or(-1));
  }

  void text(int n) {
    if (!twin_.state().has_hidden) return;
    for (int i = 0; i < n % 6 + 1; ++i)
      same("text", test::next_text(*session_).value_or("(end)"), test::next_text(twin_).value_or("(end)"));
  }

  std::vector<std::byte> save(Kind kind, int n) {
    session_->set_options(options_of({{"compress", int64_t{n % 2 ? 3 : 0}}}));
    return session_->save(kind, {"walk", ""});
  }

  // Into a session that knows nothing of the generation, by way of a file.
  void move(int n) {
    session_->set_options(options_of({{"compress", int64_t{n % 2 ? 3 : 0}}}));
    session_->save(path_, Kind::SESSION, {});
    session_ = std::make_shared<Session>(model_, lasting_);
    if (n % 4 > 1) session_->feed(tokens_of(n));
    session_->restore(path_);
  }

  void astray(Session &session, int n) {
    session.feed(tokens_of(n + 1));
    for (int i = 0; i < 5; ++i) session.next();
    if (n % 3 == 0) session.close_segment();
    if (n % 5 == 0) session.reset();
  }

  void detour(int n) {
    const auto bytes = save(Kind::SESSION, n);
    astray(*session_, n / 2);
    session_->restore(bytes);
  }

  // Either of the two goes on, and nothing that the other does is felt.
  void fork(int n) {
    std::shared_ptr<Session> other = session_->fork();
    if (n % 2) std::swap(other, session_);
    astray(*other, n / 2);
  }

  void rewind(int n) {
    const int64_t limit = twin_.rewind_limit(), position = limit + n % (twin_.position() - limit + 1);
    session_->rewind(position);
    twin_.rewind(position);
  }

  template <class Call>
  static bool fails(const Call &call, Status status) {
    try {
      call();
    } catch (const Error &error) { return error.status() == status; }
    return false;
  }

  // Calls that fail change nothing.
  void refused(int n) {
    expect(fails([&] { session_->rewind(session_->rewind_limit() - 1); }, Status::STATE), "too far back is refused");
    expect(fails([&] { session_->rewind(session_->position() + 1); }, Status::STATE), "forward is refused");
    const int32_t bad[] = {1, kVocabulary};
    expect(fails([&] { session_->feed(bad); }, Status::INVALID_ARGUMENT), "an unknown token is refused");
    auto bytes = save(Kind::SESSION, n);
    bytes[static_cast<size_t>(n) % bytes.size()] ^= std::byte{4};
    bool refused = false;
    try {
      session_->restore(bytes);
    } catch (const Error &) { refused = true; }
    expect(refused, "a damaged snapshot is refused");
  }

  void cancel(int n) {
    const auto tokens = tokens_of(n);
    twin_.feed(tokens);
    const int64_t before = session_->position();
    const size_t chunk = model_->config().memory.keep > 0
                             ? std::min<size_t>(20, 24 - static_cast<size_t>(session_->segment_position()))
                             : 20;
    Task task;
    if (n % 2)
      task.set_progress(
          [](void *session, const char *, int64_t, int64_t) { return static_cast<Session *>(session)->cancel(), 0; },
          session_.get());
    else task.cancel();
    expect(fails([&] { session_->feed(tokens, &task); }, Status::CANCELLED), "a cancelled call says so");
    const auto done = static_cast<size_t>(session_->position() - before);
    expect(done == (n % 2 ? std::min(tokens.size(), chunk) : 0), "the call ends behind a chunk");
    session_->feed(std::span(tokens).subspan(done));
  }

  void batch(int n) {
    if (!twin_.state().has_hidden) return;
    Batch batch(model_);
    const auto companion =
        std::make_shared<Session>(model_, options_of({{"threads", int64_t{1}}, {"deterministic", int64_t{n / 2 % 2}}}));
    companion->feed(tokens_of(n));
    batch.add(companion);
    batch.add(session_);
    for (int i = 0; i < n % 8 + 1; ++i) {
      int32_t out[2];
      batch.next(out);
      same("token in a batch", out[1], twin_.next().value_or(-1));
      batch.drop_text(1);
    }
  }

  std::shared_ptr<const Model> model_;
  Options lasting_;
  std::shared_ptr<Session> session_;
  Session twin_;
  test::TemporaryFolder folder_;
  std::string path_;
};

// Walks have up to this many steps, any number alike: half of them more than 1,000.
constexpr int kLongest = 2000;

rc::Gen<Step> any_step() {
  return rc::gen::build<Step>(
      rc::gen::set(&Step::action, rc::gen::weightedElement<Action>({{8, Action::FEED},
                                                                    {2, Action::CLOSE},
                                                                    {6, Action::TOKENS},
                                                                    {4, Action::TEXT},
                                                                    {1, Action::SAVE},
                                                                    {3, Action::RESTORE},
                                                                    {3, Action::MOVE},
                                                                    {2, Action::DETOUR},
                                                                    {3, Action::FORK},
                                                                    {4, Action::REWIND},
                                                                    {1, Action::REFUSED},
                                                                    {3, Action::CANCEL},
                                                                    {2, Action::BATCH},
                                                                    {1, Action::MEMORY},
                                                                    {1, Action::RESET}})),
      rc::gen::set(&Step::number, rc::gen::resize(rc::kNominalSize, rc::gen::inRange(0, 100000))));
}

bool walks(const SetUp &set_up) {
  const auto model = model_of(set_up);
  return rc::check([&] {
    const auto log = *rc::gen::resize(kLongest, rc::gen::container<std::vector<Step>>(any_step())).as("walk");
    Walk walk(model, set_up);
    for (size_t i = 0; i < log.size(); ++i) {
      walk.step(log[i]);
      walk.compare(i + 1 == log.size() || log[i].number % 4 != 0);
    }
  });
}

}  // namespace walk

TEST_CASE("a walk with snapshots, forks and cancelled calls goes the way of the walk without") {
  const char *count = std::getenv("INFINI_WALKS");
  const std::string parameters = "max_success=" + std::string(count && *count ? count : "20");
  setenv("RC_PARAMS", parameters.c_str(), 0);
  for (const walk::SetUp &set_up : walk::kSetUps) {
    CHECK_MESSAGE(walk::walks(set_up),
                  set_up.update << " with carry " << set_up.carry << " and sinks " << set_up.sinks);
  }
}
