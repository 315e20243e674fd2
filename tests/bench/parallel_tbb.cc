// base/parallel.h by oneTBB, to measure the library's own threads against: an arena a team, and loops by its
// static_partitioner. Tests' hooks do nothing here.
#include "base/parallel.h"

#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include "base/platform.h"
#include "base/testing.h"

#if INFINI_ONEDNN
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
  oneapi::tbb::task_arena arena;

 private:
  int threads_;
};

namespace {
thread_local Team *team = nullptr;
thread_local bool in_loop = false;
thread_local int scopes = 0;
}  // namespace

int default_threads() { return platform::cores(); }
int thread_count() { return team && !in_loop ? team->wanted() : 1; }
int thread_index() { return in_loop ? oneapi::tbb::this_task_arena::current_thread_index() : 0; }

void run_items(int64_t n, void (*run)(void *, int64_t), void *context) {
  team->arena.execute([&] {
    oneapi::tbb::parallel_for(
        oneapi::tbb::blocked_range<int64_t>(0, n),
        [&](const oneapi::tbb::blocked_range<int64_t> &range) {
      const bool before = std::exchange(in_loop, true);
      if (!before) omp_set_num_threads(1);
      for (int64_t item = range.begin(); item < range.end(); ++item) run(context, item);
      in_loop = before;
        },
        oneapi::tbb::static_partitioner());
  });
}

ThreadPool::ThreadPool() = default;
ThreadPool::~ThreadPool() = default;

ThreadScope::ThreadScope(ThreadPool &pool, int threads) : pool_(pool), outermost_(scopes++ == 0) {
  if (!outermost_) return;
  openmp_threads_ = omp_get_max_threads();
  omp_set_num_threads(1);
  if (threads == 1) return;
  const std::lock_guard lock(pool.mutex_);
  for (auto &idle : pool.idle_)
    if (idle && idle->wanted() == threads && !team_) team_ = std::move(idle);
  std::erase(pool.idle_, nullptr);
  if (!team_) team_ = std::make_unique<Team>(threads);
  team = team_.get();
}

ThreadScope::~ThreadScope() {
  --scopes;
  if (!outermost_) return;
  omp_set_num_threads(openmp_threads_);
  team = nullptr;
  const std::lock_guard lock(pool_.mutex_);
  if (team_) pool_.idle_.push_back(std::move(team_));
}

EagerThreads::EagerThreads() : before_(0) {}
EagerThreads::~EagerThreads() = default;
int64_t EagerThreads::items_of_others() const { return 0; }
void set_loops_before(uint32_t) {}

}  // namespace infini
