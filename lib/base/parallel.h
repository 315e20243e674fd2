// Threads: teams that belong to a model, and the parallel loops that run on them.
//
// Why not OpenMP's: its idle threads spin for milliseconds in a process that is not ours, its pool and its settings
// are the host's too, and a loop waits for threads that a busy machine has not even started. Here a thread that comes
// too late is not waited for, and one that has nothing to do sleeps after some ten microseconds.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <vector>

namespace infini {

// Physical cores that this process may run on, no more than its container's CPU quota comes to: the default of option
// `threads`.
int default_threads();

// How many threads the next loop may use (1 inside one: loops never nest), and which of them this is.
int thread_count();
int thread_index();

class Team;

// The teams of one model. Calls that run at the same time have one each; they are kept until the model goes.
class ThreadPool {
 public:
  ThreadPool();
  ~ThreadPool();

 private:
  friend class ThreadScope;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Team>> idle_;
  size_t out_ = 0;  // teams at work, which come back
};

// A call of the library: its loops may use this many threads. Within another scope of the same thread it does nothing.
// oneDNN, which divides nothing by itself here, is kept to the calling thread by OpenMP's thread count, which is put
// back at the end.
class ThreadScope {
 public:
  ThreadScope(ThreadPool &pool, int threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope &) = delete;
  ThreadScope &operator=(const ThreadScope &) = delete;

 private:
  ThreadPool &pool_;
  std::unique_ptr<Team> team_;
  bool outermost_;
  int openmp_threads_ = 0;
};

// A loop of fewer operations than this is done before other threads have woken. EagerThreads of base/testing.h, which
// alone changes it, makes it 0.
inline std::atomic<int64_t> operations_worth_threads{400000};
inline int64_t worth_threads() { return operations_worth_threads.load(std::memory_order_relaxed); }
// How many items of so many operations each are a piece that is worth a thread.
inline int64_t worth_grain(int64_t operations) { return worth_threads() / operations + 1; }

// run(context, item) for each item of [0, n), on the threads of the scope. Each begins with a share of its own, neighbours
// one after the other, so that what one item asks for ahead the next one finds; then it takes what others have left. The
// first exception is thrown again when all have ended.
void run_items(int64_t n, void (*run)(void *context, int64_t item), void *context);

// body(item) for items of unequal cost, `operations` in all.
template <class Body>
void parallel_items(int64_t n, int64_t operations, const Body &body) {
  if (n < 2 || operations < worth_threads() || thread_count() == 1) {
    for (int64_t i = 0; i < n; ++i) body(i);
    return;
  }
  run_items(
      n, [](void *context, int64_t item) { (*static_cast<const Body *>(context))(item); }, const_cast<Body *>(&body));
}

// body(begin, end) over [0, n) in contiguous pieces of at least `grain`; serial where n < 2 * grain. Where the pieces lie
// depends on n, grain and the number of threads alone.
template <class Body>
void parallel_for(int64_t n, int64_t grain, const Body &body) {
  // More pieces than threads, so that a thread which the machine holds up does not hold up the others.
  const int64_t pieces = n < 2 * grain ? 1 : std::min<int64_t>(n / grain, thread_count() == 1 ? 1 : 3 * thread_count());
  if (pieces == 1) {
    if (n > 0) body(int64_t{0}, n);
    return;
  }
  parallel_items(pieces, worth_threads(), [&](int64_t piece) { body(n * piece / pieces, n * (piece + 1) / pieces); });
}

}  // namespace infini
