// What a caller does to what a session remembers: marks it as worth keeping, adds what other streams left behind.
#include <cmath>

#include "base/file.h"
#include "stream/session_impl.h"

namespace infini {

void Session::keep(int64_t tokens) {
  impl_->check_whole();
  State &state = impl_->state;
  if (model_->config().memory.keep == 0) fail(Status::STATE, "this model keeps no tokens: open it with option 'keep'");
  const int64_t position = state.view.position, most = position - state.keep.first();
  if (tokens < 1 || tokens > most)
    fail(Status::INVALID_ARGUMENT, "the last ", tokens, " tokens cannot be kept: those that can be are the last 1 to ",
         most, ", which are still in the window");
  state.keep.mark(position - tokens, position);
}

void Session::merge(const std::string &path, double weight, Task *task) {
  check_cancel(task, "merging was cancelled; the session is as it was");
  const MappedFile file(path, MappedFile::Use::ALL);
  merge(file.bytes(), weight, path);
}

void Session::merge(std::span<const std::byte> bytes, double weight, const std::string &name, Task *task) {
  check_cancel(task, "merging was cancelled; the session is as it was");
  if (!(std::abs(weight) <= 1e6) || weight == 0)
    fail(Status::INVALID_ARGUMENT, "the weight of a merged memory is ", weight,
         ", but must be a number between -1e6 and 1e6, and not 0");
  impl_->check_whole();
  Session other(model_, {});
  other.restore(bytes, name);  // which refuses what is of another model
  const ThreadScope threads(model_->threads(), impl_->settings.threads);
  other.impl_->engine.close_segment(threads, other.impl_->state, true);
  // All or nothing: it is done to a copy.
  auto fresh = std::make_unique<Impl>(*model_, *impl_);
  State &state = fresh->state;
  state.checkpoints.clear();
  fresh->engine.close_segment(threads, state);
  fresh->engine.merge(threads, state, other.impl_->state, weight);
  state.checkpoints.clear();
  History &history = fresh->history;
  history.tokens.clear(), history.randoms.clear();
  history.begin = state.view.position;
  history.random_before = fresh->generation.random.state();
  history.recent_before = fresh->generation.recent;
  impl_ = std::move(fresh);
}

}  // namespace infini
