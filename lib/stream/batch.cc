#include "stream/batch.h"

#include <algorithm>
#include <optional>

#include "stream/session_impl.h"

namespace infini {
namespace {

constexpr int64_t kChoosing = 4;  // operations a token of the vocabulary that choosing takes

// What choosing a token changes in a session, to be put back if the token is not fed.
struct Before {
  explicit Before(const Generation &g)
      : random(g.random), generated(g.generated), reason(g.reason), end_reported(g.end_reported) {
    if (end_reported) output = g.output;  // the next run begins without it
  }
  void put_back(Generation &g) {
    g.random = random;
    g.generated = generated;
    g.reason = reason;
    g.end_reported = end_reported;
    if (output) g.output = std::move(*output);
  }
  Random random;
  int64_t generated;
  StopReason reason;
  bool end_reported;
  std::optional<TextOutput> output;
};

}  // namespace

void Batch::add(std::shared_ptr<Session> session) {
  if (&session->model() != model_.get())
    fail(Status::INVALID_ARGUMENT, "the session belongs to another model than the batch");
  if (std::find(sessions_.begin(), sessions_.end(), session) != sessions_.end())
    fail(Status::INVALID_ARGUMENT, "the session is in the batch already");
  sessions_.push_back(std::move(session));
}

void Batch::remove(const Session *session) {
  const auto found =
      std::find_if(sessions_.begin(), sessions_.end(), [&](const auto &s) { return s.get() == session; });
  if (found == sessions_.end()) fail(Status::INVALID_ARGUMENT, "the session is not in the batch");
  sessions_.erase(found);
}

size_t Batch::next(std::span<int32_t> tokens, Task *task) {
  int threads = 1;
  for (size_t i = 0; i < sessions_.size(); ++i) {
    const Session::Impl &impl = *sessions_[i]->impl_;
    impl.check_whole();
    if (!impl.state.has_hidden)
      fail(Status::STATE, "session ", i, " of the batch has no logits yet: feed at least one token");
    threads = std::max(threads, impl.settings.threads);
  }
  check_cancel(task, "generation was cancelled; it may go on");
  const ThreadScope team(model_->threads(), threads);

  std::vector<Before> before;
  for (const auto &session : sessions_) before.emplace_back(session->impl_->generation);
  std::vector<char> fed(sessions_.size());
  // Logits of many rows are not bit for bit those that a session computes alone: one whose token was not fed drops
  // them.
  const auto drop_logits = [&](size_t i) {
    Session::Impl &impl = *sessions_[i]->impl_;
    if (!fed[i] && !impl.settings.exact) impl.state.has_logits = false;
  };
  try {
    choose(team, tokens);
    // Sessions with option `deterministic` have products of their own, whose rows depend on nothing but themselves.
    for (const bool exact : {false, true}) feed(team, exact, tokens, fed);
  } catch (...) {
    for (size_t i = 0; i < sessions_.size(); ++i) {
      if (!fed[i]) before[i].put_back(sessions_[i]->impl_->generation);
      drop_logits(i);
    }
    throw;
  }
  for (size_t i = 0; i < sessions_.size(); ++i) drop_logits(i);
  return static_cast<size_t>(std::count(fed.begin(), fed.end(), 1));
}

void Batch::choose(const Threads &threads, std::span<int32_t> tokens) {
  for (const bool exact : {false, true}) {
    std::vector<State *> without_logits;
    for (const auto &session : sessions_) {
      State &state = session->impl_->state;
      if (session->impl_->settings.exact == exact && !state.has_logits) without_logits.push_back(&state);
    }
    if (!without_logits.empty()) engine_.compute_logits(threads, without_logits, exact);
  }
  const auto count = static_cast<int64_t>(sessions_.size());
  parallel_items(threads, count, count * kChoosing * model_->config().vocabulary,
                 [&](int64_t item, const Threads &here) {
    const auto i = static_cast<size_t>(item);
    Session &session = *sessions_[i];
    try {
      tokens[i] = session.choose(here).value_or(-1);
    } catch (const Error &error) { throw Error(error.status(), cat("session ", i, " of the batch: ", error.what())); }
    session.impl_->generation.end_reported = tokens[i] < 0;
  });
}

// Of the sessions with or without option `deterministic`, those that have a token.
void Batch::feed(const Threads &threads, bool exact, std::span<const int32_t> tokens, std::vector<char> &fed) {
  std::vector<StateTokens> chunk;
  std::vector<size_t> indices;
  for (size_t i = 0; i < sessions_.size(); ++i) {
    if (sessions_[i]->impl_->settings.exact != exact || tokens[i] < 0) continue;
    chunk.push_back({&sessions_[i]->impl_->state, tokens.subspan(i, 1)});
    indices.push_back(i);
  }
  if (chunk.empty()) return;
  std::vector<std::optional<Unfinished>> changes(fed.size());  // until each one's history has the token
  engine_.forward(threads, chunk, exact);
  for (const size_t i : indices) fed[i] = 1, changes[i].emplace(sessions_[i]->impl_->state);
  for (const size_t i : indices) {
    changes[i].reset();
    sessions_[i]->impl_->remember(*model_, tokens.subspan(i, 1));
    sessions_[i]->moved();
    sessions_[i]->accept(tokens[i]);
    sessions_[i]->impl_->generation.output.keep_newest();
  }
}

const std::string &Batch::ready_text(size_t index) {
  if (index >= sessions_.size())
    fail(Status::INVALID_ARGUMENT, "the batch has ", sessions_.size(), " sessions, not ", index + 1);
  Generation &generation = sessions_[index]->impl_->generation;
  if (generation.reason != StopReason::NONE && generation.reason != StopReason::STOP_STRING)
    generation.output.finish(), generation.output.keep_newest();
  return generation.output.ready();
}

}  // namespace infini
