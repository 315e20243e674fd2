// Many sessions of one model that advance together: their tokens are rows of the same matrix products, so the
// weights are read once for all of them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "stream/session.h"

namespace infini {

// One thread at a time, which meanwhile is the thread of its sessions too.
class Batch {
 public:
  explicit Batch(std::shared_ptr<const Model> model) : model_(std::move(model)), engine_(*model_) {}

  // Keeps the session until it is removed. INVALID_ARGUMENT if it is of another model or in the batch already.
  void add(std::shared_ptr<Session> session);
  void remove(const Session *session);
  size_t size() const { return sessions_.size(); }

  // One token for every session, each from its own logits by its own sampler, as Session::next() would choose it;
  // -1 for one whose run has ended (its stop_reason() says why). Returns how many got a token; 0: all have ended.
  // Before anything is done, STATE names a session that has no logits. Where a session has no token that is possible,
  // INVALID_ARGUMENT names it, and all are as they were. tokens is [size()].
  size_t next(std::span<int32_t> tokens, Task *task = nullptr);
  // The text that became ready in session `index`: whole characters, as Session::ready_text() gives. It stays
  // until dropped, the newest half of TextOutput::kMostReady bytes at least.
  const std::string &ready_text(size_t index);
  void drop_text(size_t index) { sessions_[index]->drop_text(); }

 private:
  void choose(const Threads &threads, std::span<int32_t> tokens);
  void feed(const Threads &threads, bool exact, std::span<const int32_t> tokens, std::vector<char> &fed);

  std::shared_ptr<const Model> model_;
  std::vector<std::shared_ptr<Session>> sessions_;
  Engine engine_;
};

}  // namespace infini
