// Threads: teams that belong to a model, and the parallel loops that run on them.
//
// Why not OpenMP's: its idle threads spin for milliseconds in a process that is not ours, its pool and its settings
// are the host's too, and a loop waits for threads that a busy machine has not even started. Here a thread that comes
// too late is not waited for, and one that has nothing to do sleeps after some ten microseconds.
//
// Why not oneTBB's (task_arena, static_partitioner): in one run on two cores a token that is written takes 0.79 of the
// time, and 0.77 of the processor's time, that it takes with oneTBB, with 5 million parameters; 0.99 and 0.97 with 135
// million. Reading takes 1.02 of oneTBB's time, which is too little to depend on it for (`bench_threads MODEL 2`;
// tests/bench/README.md).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <type_traits>
#include <vector>

namespace infini {

// Physical cores that this process may run on, no more than its container's CPU quota comes to: the default of option
// `threads`.
int default_threads();

class Team;

// The threads that a loop may use: the calling one alone, or a team. Whatever has loops is given them, by reference, so
// that code tells what it runs on. Loops never nest: the body of a loop on a team is given its own thread.
class Threads {
 public:
  Threads() = default;  // the calling thread
  Threads(const Threads &) = delete;
  Threads &operator=(const Threads &) = delete;

  int count() const { return count_; }  // that the next loop may use
  int index() const { return index_; }  // which of its loop's threads this is; 0 outside

 private:
  friend class Team;
  friend class ThreadScope;
  friend void run_items(const Threads &, int64_t, void (*)(const void *, int64_t, const Threads &), const void *);
  Threads(Team *team, int count, int index) : team_(team), count_(count), index_(index) {}
  Team *team_ = nullptr;
  int count_ = 1, index_ = 0;
};

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

// A call of the library, and so many threads for its loops. oneDNN, which divides nothing by itself here, is kept to
// the calling thread by OpenMP's thread count, where it is built for OpenMP; that is put back at the end.
class ThreadScope : public Threads {
 public:
  ThreadScope(ThreadPool &pool, int threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope &) = delete;
  ThreadScope &operator=(const ThreadScope &) = delete;

 private:
  ThreadPool &pool_;
  std::unique_ptr<Team> own_;
  int openmp_threads_;
};

// A loop of fewer operations than this is done before other threads have woken. EagerThreads of base/testing.h, which
// alone changes it, makes it 0.
inline std::atomic<int64_t> operations_worth_threads{400000};
inline int64_t worth_threads() { return operations_worth_threads.load(std::memory_order_relaxed); }
// How many items of so many operations each are a piece that is worth a thread.
inline int64_t worth_grain(int64_t operations) { return worth_threads() / operations + 1; }

// run(context, item, its thread) for each item of [0, n), on a team, which `threads` must have. Each thread begins with
// a share of its own, neighbours one after the other, so that what one item asks for ahead the next one finds; then it
// takes what others have left. The first exception is thrown again when all have ended. INTERNAL where the team is in a
// loop already.
void run_items(const Threads &threads, int64_t n, void (*run)(const void *context, int64_t item, const Threads &here),
               const void *context);

// body(range...), or body(range..., here) for those that ask which threads they have.
template <class Body, class... Range>
void call_body(const Body &body, const Threads &here, Range... range) {
  if constexpr (std::is_invocable_v<const Body &, Range..., const Threads &>) body(range..., here);
  else body(range...);
}

// body(item) or body(item, here) for items of unequal cost, `operations` in all. `here` are the threads of the body's
// own loops: its own thread, or, where the loop is not worth a team, all that the loop was given.
template <class Body>
void parallel_items(const Threads &threads, int64_t n, int64_t operations, const Body &body) {
  if (n < 2 || operations < worth_threads() || threads.count() == 1) {
    for (int64_t i = 0; i < n; ++i) call_body(body, threads, i);
    return;
  }
  run_items(
      threads, n,
      [](const void *context, int64_t item, const Threads &here) {
    call_body(*static_cast<const Body *>(context), here, item);
      },
      &body);
}

// body(begin, end) or body(begin, end, here) over [0, n) in contiguous pieces of at least `grain`; serial where
// n < 2 * grain. Where the pieces lie depends on n, grain and the number of threads alone.
template <class Body>
void parallel_for(const Threads &threads, int64_t n, int64_t grain, const Body &body) {
  // More pieces than threads, so that a thread which the machine holds up does not hold up the others.
  const int64_t most = threads.count() == 1 ? 1 : 3 * threads.count(),
                pieces = n < 2 * grain ? 1 : std::min<int64_t>(n / grain, most);
  if (pieces == 1) {
    if (n > 0) call_body(body, threads, int64_t{0}, n);
    return;
  }
  parallel_items(threads, pieces, worth_threads(), [&](int64_t piece, const Threads &here) {
    call_body(body, here, n * piece / pieces, n * (piece + 1) / pieces);
  });
}

}  // namespace infini
