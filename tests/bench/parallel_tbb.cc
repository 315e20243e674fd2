// base/parallel.h by oneTBB, to measure the library's own threads against: an arena a team, and loops by its
// static_partitioner. Tests' hooks do nothing here.
#include "base/parallel.h"

#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include "base/platform.h"
#include "base/testing.h"

#if INFINI_OPENMP
extern "C" {
void omp_set_num_threads(int threads);
int omp_get_max_threads(void);
}
#else
static void omp_set_num_threads(int) {}
static int omp_get_max_threads(void) { return 1; }
#endif

namespace infini {

class Team {
 public:
  explicit Team(int threads) : arena(threads), threads_(threads) { arena.initialize(); }
  int wanted() const { return threads_; }
  void run(int64_t n, void (*run)(const void *, int64_t, const Threads &), const void *context);

 private:
  oneapi::tbb::task_arena arena;
  int threads_;
};

int default_threads() { return platform::cores(); }

void Team::run(int64_t n, void (*body)(const void *, int64_t, const Threads &), const void *context) {
  arena.execute([&] {
    oneapi::tbb::parallel_for(
        oneapi::tbb::blocked_range<int64_t>(0, n),
        [&](const oneapi::tbb::blocked_range<int64_t> &range) {
      omp_set_num_threads(1);
      const Threads here(nullptr, 1, oneapi::tbb::this_task_arena::current_thread_index());
      for (int64_t item = range.begin(); item < range.end(); ++item) body(context, item, here);
        },
        oneapi::tbb::static_partitioner());
  });
}

void run_items(const Threads &threads, int64_t n, void (*run)(const void *, int64_t, const Threads &),
               const void *context) {
  threads.team_->run(n, run, context);
}

ThreadPool::ThreadPool() = default;
ThreadPool::~ThreadPool() = default;

ThreadScope::ThreadScope(ThreadPool &pool, int threads) : pool_(pool), openmp_threads_(omp_get_max_threads()) {
  omp_set_num_threads(1);
  if (threads == 1) return;
  const std::lock_guard lock(pool.mutex_);
  for (auto &idle : pool.idle_)
    if (idle && idle->wanted() == threads && !own_) own_ = std::move(idle);
  std::erase(pool.idle_, nullptr);
  if (!own_) own_ = std::make_unique<Team>(threads);
  team_ = own_.get();
  count_ = threads;
}

ThreadScope::~ThreadScope() {
  omp_set_num_threads(openmp_threads_);
  const std::lock_guard lock(pool_.mutex_);
  if (own_) pool_.idle_.push_back(std::move(own_));
}

EagerThreads::EagerThreads() : before_(0) {}
EagerThreads::~EagerThreads() = default;
int64_t EagerThreads::items_of_others() const { return 0; }
void set_loops_before(uint32_t) {}

}  // namespace infini
