// A task: how one thread watches and cancels a long call of another.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

#include "base/status.h"

namespace infini {

// Every member but set_progress may be used from any thread at any time.
class Task {
 public:
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  // True once for each cancel: the call that sees it consumes it.
  bool take_cancel() { return cancelled_.exchange(false, std::memory_order_relaxed); }

  // Called by advance_to, on the thread that makes the call; anything but 0 cancels it. Set between calls only.
  using Progress = int (*)(void *user_data, const char *stage, int64_t done, int64_t total);
  void set_progress(Progress progress, void *user_data) { progress_ = progress, user_data_ = user_data; }

  void begin(const char *stage, int64_t total, int64_t done = 0) {
    stage_.store(stage, std::memory_order_relaxed);
    done_.store(done, std::memory_order_relaxed);
    total_.store(total, std::memory_order_relaxed);
  }
  void advance_to(int64_t done) {
    done_.store(done, std::memory_order_relaxed);
    // At the end there is nothing left to cancel, and the next call should not suffer for it.
    if (progress_ && progress_(user_data_, stage(), done, total()) != 0 && done != total()) cancel();
  }

  const char *stage() const { return stage_.load(std::memory_order_relaxed); }  // a literal, for ever valid
  int64_t done() const { return done_.load(std::memory_order_relaxed); }
  int64_t total() const { return total_.load(std::memory_order_relaxed); }  // 0: not known

 private:
  std::atomic<bool> cancelled_{false};
  std::atomic<const char *> stage_{"idle"};
  std::atomic<int64_t> done_{0}, total_{0};
  Progress progress_ = nullptr;
  void *user_data_ = nullptr;
};

// Throws CANCELLED, with that message, where the task, which may be null, was cancelled.
inline void check_cancel(Task *task, const std::string &message) {
  if (task && task->take_cancel()) fail(Status::CANCELLED, message);
}

// One stage of a call, which begins here: counts what is done, and throws CANCELLED, with that message, where the task,
// which may be null, was cancelled.
class Watch {
 public:
  Watch(Task *task, const char *stage, int64_t total, std::string cancelled)
      : task_(task), cancelled_(std::move(cancelled)) {
    if (task) task->begin(stage, total);
    check_cancel(task, cancelled_);
  }
  template <class Count>
  void advance(Count count) {
    if (!task_) return;
    task_->advance_to(done_ += static_cast<int64_t>(count));
    check_cancel(task_, cancelled_);
  }

 private:
  Task *const task_;
  const std::string cancelled_;
  int64_t done_ = 0;
};

}  // namespace infini
