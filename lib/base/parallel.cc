#include "base/parallel.h"

#include <thread>
#include <utility>

#include "base/platform.h"
#include "base/status.h"
#include "base/testing.h"

// Debian's oneDNN runs on OpenMP; these two are all that is used of it.
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
namespace {

// Some ten microseconds: longer than the gap between two loops of a chunk, shorter than anyone would notice.
constexpr int kSpins = 1000;

// Waits until done(value) holds for the value of `word`, and returns that value.
template <class Done>
uint64_t wait_until(const std::atomic<uint64_t> &word, const Done &done) {
  for (int i = 0; i < kSpins; ++i) {
    const uint64_t value = word.load(std::memory_order_acquire);
    if (done(value)) return value;
    platform::pause();
  }
  while (true) {
    const uint64_t value = word.load(std::memory_order_acquire);
    if (done(value)) return value;
    platform::sleep_while(word, value);
  }
}

}  // namespace

int default_threads() {
  static const int threads = [] {
    const int cores = platform::cores(), quota = platform::cpu_quota();
    return quota > 0 ? std::min(cores, quota) : cores;
  }();
  return threads;
}

namespace {
std::atomic<uint32_t> g_loops_before{0};    // as set_loops_before() says
std::atomic<int> g_eager{0};                // how many EagerThreads there are
std::atomic<int64_t> g_items_of_others{0};  // done while there are some, by others than the callers
int64_t g_worth_threads = 0;                // what it is without them
}  // namespace

// A fixed number of threads, one of which is the caller's.
class Team {
 public:
  explicit Team(int threads) {
    shares_ = std::vector<Share>(static_cast<size_t>(threads));
    workers_.reserve(static_cast<size_t>(threads - 1));
    const platform::NoSignals scope;
    try {
      for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
    } catch (const std::exception &) {
      // The machine has no more threads, or no memory for one: a smaller team does the same work.
    }
    wanted_ = threads;
  }
  ~Team() {
    gate_.store(kStop, std::memory_order_release);
    platform::wake_all(gate_);
    for (std::thread &worker : workers_) worker.join();
  }

  int wanted() const { return wanted_; }
  int size() const { return static_cast<int>(workers_.size()) + 1; }

  using Body = void (*)(const void *, int64_t, const Threads &);
  void run(int64_t n, Body body, const void *context);

 private:
  // gate_ holds the number of the loop, whether it still takes workers, and how many are in it.
  static constexpr uint64_t kStop = 1, kOpen = 2, kWorker = 4, kWorkers = 0xffff * kWorker, kLoop = uint64_t{1} << 32;

  void work(int index);
  int64_t take_items(int index, size_t shares);
  bool all_taken() const;

  int wanted_ = 1;
  std::vector<std::thread> workers_;
  std::atomic<uint64_t> gate_{g_loops_before.load() * kLoop};
  // The loop; read only by those whom the gate let in.
  Body body_ = nullptr;
  const void *context_ = nullptr;
  // Each thread's share of the items, one after the other; who has done his own takes from the others'.
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };
  std::vector<Share> shares_;
  std::atomic<bool> running_{false}, failed_{false};
  std::exception_ptr exception_;
};

// Takes items from as many shares, its own first; returns how many it did.
int64_t Team::take_items(int index, size_t shares) {
  const Threads here(nullptr, 1, index);
  int64_t done = 0;
  for (size_t i = 0; i < shares; ++i) {
    Share &share = shares_[(static_cast<size_t>(index) + i) % shares_.size()];
    while (share.next.load(std::memory_order_relaxed) < share.end) {
      const int64_t item = share.next.fetch_add(1, std::memory_order_relaxed);
      if (item >= share.end) break;
      ++done;
      try {
        body_(context_, item, here);
      } catch (...) {
        if (!failed_.exchange(true)) exception_ = std::current_exception();
      }
    }
  }
  return done;
}

bool Team::all_taken() const {
  return std::all_of(shares_.begin(), shares_.end(),
                     [](const Share &share) { return share.next.load(std::memory_order_relaxed) >= share.end; });
}

void Team::work(int index) {
  omp_set_num_threads(1);
  uint64_t last = ~uint64_t{0};  // the loop that this worker was in last: none
  while (true) {
    uint64_t gate = wait_until(gate_, [&](uint64_t g) { return g & kStop || (g & kOpen && g / kLoop != last); });
    if (gate & kStop) return;
    last = gate / kLoop;
    // In, unless the loop was closed meanwhile.
    bool in = false;
    while (!in && gate & kOpen && gate / kLoop == last)
      in = gate_.compare_exchange_weak(gate, gate + kWorker, std::memory_order_acq_rel);
    if (!in) continue;
    const int64_t done = take_items(index, shares_.size());
    if (g_eager.load(std::memory_order_relaxed) > 0) g_items_of_others += done;
    if ((gate_.fetch_sub(kWorker, std::memory_order_acq_rel) & kWorkers) == kWorker) platform::wake_all(gate_);
  }
}

void Team::run(int64_t n, Body body, const void *context) {
  if (running_.load(std::memory_order_relaxed)) fail(Status::INTERNAL, "a loop inside another one asks for its team");
  running_.store(true, std::memory_order_relaxed);
  const int64_t threads = size();
  for (int64_t t = 0; t < threads; ++t) {
    shares_[t].next.store(n * t / threads, std::memory_order_relaxed);
    shares_[t].end = n * (t + 1) / threads;
  }
  body_ = body;
  context_ = context;
  failed_.store(false, std::memory_order_relaxed);
  exception_ = nullptr;
  const uint64_t loop = gate_.load(std::memory_order_relaxed) / kLoop + 1;
  gate_.store((loop & 0xffffffffu) * kLoop | kOpen, std::memory_order_release);
  platform::wake_all(gate_);
  const bool eager = g_eager.load(std::memory_order_relaxed) > 0;
  take_items(0, eager ? 1 : shares_.size());
  while (eager && !all_taken()) std::this_thread::yield();
  // Every item is taken. Whoever is not in yet stays out; whoever is in finishes its item.
  gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
  wait_until(gate_, [](uint64_t g) { return (g & kWorkers) == 0; });
  running_.store(false, std::memory_order_relaxed);
  if (exception_) std::rethrow_exception(std::exchange(exception_, nullptr));
}

void run_items(const Threads &threads, int64_t n, void (*run)(const void *, int64_t, const Threads &),
               const void *context) {
  threads.team_->run(n, run, context);
}

EagerThreads::EagerThreads() : before_(g_items_of_others) {
  if (g_eager++ == 0) g_worth_threads = operations_worth_threads.exchange(0);
}
EagerThreads::~EagerThreads() {
  if (--g_eager == 0) operations_worth_threads = g_worth_threads;
}
int64_t EagerThreads::items_of_others() const { return g_items_of_others - before_; }
void set_loops_before(uint32_t loops) { g_loops_before = loops; }

ThreadPool::ThreadPool() = default;
ThreadPool::~ThreadPool() = default;

ThreadScope::ThreadScope(ThreadPool &pool, int threads) : pool_(pool), openmp_threads_(omp_get_max_threads()) {
  if (threads > 1) {
    {
      const std::lock_guard lock(pool.mutex_);
      const auto fits =
          std::find_if(pool.idle_.begin(), pool.idle_.end(), [&](const auto &t) { return t->wanted() == threads; });
      if (fits != pool.idle_.end()) {
        own_ = std::move(*fits);
        pool.idle_.erase(fits);
      }
      pool.idle_.reserve(pool.idle_.size() + pool.out_ + 1);  // giving back must not fail
      ++pool.out_;
    }
    if (!own_) own_ = std::make_unique<Team>(threads);
    team_ = own_.get();
    count_ = own_->size();
  }
  omp_set_num_threads(1);
}

ThreadScope::~ThreadScope() {
  omp_set_num_threads(openmp_threads_);
  if (!own_) return;
  const std::lock_guard lock(pool_.mutex_);
  --pool_.out_;
  pool_.idle_.push_back(std::move(own_));
}

}  // namespace infini
