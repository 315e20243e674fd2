#include "train/sequence_pool.h"

#include <algorithm>

#include "base/status.h"

namespace infini {

bool SequencePool::begin_step(Task *task) {
  if (!again_ && done_with()) pool_.clear(), source_before_.clear(), lengths_before_.clear();
  if (!pool_.empty()) return false;
  draw(task);
  return true;
}

void SequencePool::end_step(const Tally &tally) {
  ++steps_done_;
  lengths_->observe(tally);
}

void SequencePool::forget() {
  pool_.clear();
  again_ = !source_before_.empty();
}

// Where again_ is set: the same sequences once more, though the lengths have changed since.
void SequencePool::draw(Task *task) {
  const std::string lengths = lengths_->save();
  if (again_) {
    source_->restore(source_before_);
  } else {
    source_before_ = source_->save();
    lengths_before_ = lengths;
    steps_done_ = 0;
    again_ = true;  // should drawing fail
  }
  lengths_->restore(lengths_before_);
  try {
    segment_ = lengths_->segment();
    const int64_t length = int64_t{segment_} * lengths_->segments(), count = std::max<int64_t>(1, tokens_ / length);
    steps_ = std::max<int64_t>(1, pool_tokens_ / (count * length));
    for (int64_t i = 0; i < count * steps_; ++i) {
      if (task && task->take_cancel())
        fail(Status::CANCELLED, "training was cancelled while its next sequences were drawn");
      pool_.push_back(source_->next(segment_, lengths_->segments()));
    }
  } catch (...) {
    pool_.clear();
    lengths_->restore(lengths);
    throw;
  }
  lengths_->restore(lengths);
  again_ = false;
}

SequencePool::State SequencePool::save() const {
  if (again_ || (!pool_.empty() && !done_with()))
    return {source_before_, lengths_before_, lengths_->save(), steps_done_};
  return {source_->save(), lengths_->save(), lengths_->save(), 0};
}

void SequencePool::restore(State state) {
  const std::string source_now = source_->save(), lengths_now = lengths_->save();
  try {
    source_->restore(state.source);
    lengths_->restore(state.lengths_before);
    lengths_->restore(state.lengths);
  } catch (...) {
    source_->restore(source_now);
    lengths_->restore(lengths_now);
    throw;
  }
  source_before_ = std::move(state.source);
  lengths_before_ = std::move(state.lengths_before);
  steps_done_ = state.steps_done;
  forget();
}

}  // namespace infini
