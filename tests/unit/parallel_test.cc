// The threads of loops: each promise of base/parallel.h.
#include "base/parallel.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <ctime>
#include <functional>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

#include "base/status.h"
#include "base/testing.h"
#include "support.h"

using namespace infini;

namespace {

// What becomes of threads that are asked for from now on: refused by the machine, or held up before they begin.
std::atomic<int> g_threads_left{1000};
std::atomic<int> g_threads_made{0};
std::atomic<bool> g_held{false};
std::atomic<int> g_begun{0};

struct Start {
  void *(*run)(void *);
  void *argument;
};

void *begin(void *start) {
  const Start s = *static_cast<Start *>(start);
  delete static_cast<Start *>(start);
  g_held.wait(true);
  ++g_begun;
  return s.run(s.argument);
}

}  // namespace

// Stands before the C library's, and before the sanitizers'.
extern "C" int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                              void *argument) {
  using Create = int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  static const auto create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  if (g_threads_left-- <= 0) return EAGAIN;
  ++g_threads_made;
  return create(thread, attributes, begin, new Start{run, argument});
}

namespace {

constexpr int64_t kLarge = int64_t{1} << 40;  // operations of a loop that is worth threads

double cpu_seconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// Runs a loop of n items and checks that each was done once.
void check_loop(const Threads &threads, int64_t n) {
  std::vector<std::atomic<int>> done(static_cast<size_t>(n));
  parallel_items(threads, n, kLarge, [&](int64_t item) { ++done[static_cast<size_t>(item)]; });
  for (const auto &times : done) REQUIRE(times == 1);
}

}  // namespace

TEST_CASE("every item is done once, for any number of items and threads") {
  ThreadPool pool;
  for (const int threads : {1, 2, 3, 7}) {
    const ThreadScope team(pool, threads);
    CHECK(team.count() == threads);
    for (const int64_t n : {0, 1, 2, 3, 5, 6, 7, 8, 100, 1001}) check_loop(team, n);
  }
}

TEST_CASE("pieces follow one another without a gap, are no smaller than the grain, and depend on nothing but numbers") {
  ThreadPool pool;
  for (const int threads : {1, 3}) {
    const ThreadScope team(pool, threads);
    for (const int64_t n : {0, 1, 9, 10, 39, 40, 41, 1000}) {
      CAPTURE(n);
      const auto pieces = [&] {
        std::mutex lock;
        std::set<std::pair<int64_t, int64_t>> found;
        parallel_for(team, n, 20, [&](int64_t begin, int64_t end) {
          const std::lock_guard guard(lock);
          CHECK(found.emplace(begin, end).second);
        });
        return found;
      };
      const auto found = pieces();
      int64_t next = 0;
      for (const auto &[begin, end] : found) {
        CHECK(begin == next);
        CHECK(end > begin);
        CHECK((end - begin >= 20 || found.size() == 1));
        next = end;
      }
      CHECK(next == n);
      if (threads == 1 || n < 40) CHECK(found.size() <= 1);
      else CHECK(found.size() > 1);
      for (int i = 0; i < 20; ++i) CHECK(pieces() == found);
    }
  }
}

TEST_CASE("a loop that is too small for threads stays on the calling one, and tests can have it otherwise") {
  ThreadPool pool;
  const ThreadScope team(pool, 3);
  const auto others = [&] {
    std::atomic<int> count{0};
    const auto caller = std::this_thread::get_id();
    parallel_items(team, 30, worth_threads() - 1, [&](int64_t) { count += std::this_thread::get_id() != caller; });
    parallel_items(team, 30, 5, [&](int64_t) { count += std::this_thread::get_id() != caller; });
    return count.load();
  };
  CHECK(others() == 0);
  const int64_t before = worth_threads();
  {
    const EagerThreads eager;
    CHECK(worth_threads() == 0);
    const int done = others();
    CHECK(done > 0);
    CHECK(eager.items_of_others() == done);
    {
      const EagerThreads inner;
      CHECK(inner.items_of_others() == 0);
    }
    CHECK(others() > 0);
  }
  CHECK(worth_threads() == before);
  CHECK(others() == 0);
}

TEST_CASE("no two threads of a loop have the same index, which is below their number") {
  ThreadPool pool;
  const EagerThreads eager;
  const ThreadScope team(pool, 4);
  std::vector<std::atomic<int>> inside(4);
  std::atomic<unsigned> seen{0};
  for (int round = 0; round < 50; ++round)
    parallel_items(team, 40, kLarge, [&](int64_t, const Threads &here) {
      const int index = here.index();
      REQUIRE(index >= 0);
      REQUIRE(index < 4);
      CHECK(++inside[static_cast<size_t>(index)] == 1);
      std::this_thread::yield();
      --inside[static_cast<size_t>(index)];
      seen |= 1u << index;
    });
  CHECK((seen & 1) == 1);  // the caller does its own share
  CHECK(seen > 1);
  CHECK(team.index() == 0);
}

TEST_CASE("an exception comes out of the loop with its type when all have ended, and the team goes on") {
  ThreadPool pool;
  const EagerThreads eager;
  for (const int threads : {1, 2, 3}) {
    CAPTURE(threads);
    const ThreadScope team(pool, threads);
    // On the caller's share, on the last one's, and on all.
    for (const auto &bad :
         {std::function([](int64_t i) { return i == 0; }), std::function([](int64_t i) { return i == 59; }),
          std::function([](int64_t) { return true; })}) {
      std::atomic<int> running{0}, done{0};
      bool thrown = false;
      try {
        parallel_items(team, 60, kLarge, [&](int64_t item) {
          ++running;
          struct Ended {
            std::atomic<int> &running;
            ~Ended() { --running; }
          } ended{running};
          if (bad(item)) throw std::out_of_range("item " + std::to_string(item));
          ++done;
        });
      } catch (const std::out_of_range &error) {
        thrown = true;
        CHECK(running == 0);
        CHECK(std::string(error.what()).starts_with("item "));
      }
      CHECK(thrown);
      if (threads > 1 && !bad(1)) CHECK(done == 59);  // the others are done all the same
      check_loop(team, 60);
    }
  }
  CHECK(eager.items_of_others() > 0);
}

TEST_CASE("loops do not nest: one inside another runs on the thread that reaches it") {
  ThreadPool pool;
  const EagerThreads eager;
  const ThreadScope team(pool, 3);
  std::atomic<int> sum{0};
  parallel_items(team, 30, kLarge, [&](int64_t, const Threads &here) {
    const auto self = std::this_thread::get_id();
    CHECK(here.count() == 1);
    parallel_items(here, 5, kLarge, [&](int64_t, const Threads &inner) {
      CHECK(std::this_thread::get_id() == self);
      CHECK(inner.index() == here.index());
      ++sum;
    });
    parallel_for(here, 50, 1, [&](int64_t begin, int64_t end, const Threads &inner) {
      CHECK(std::this_thread::get_id() == self);
      CHECK(inner.index() == here.index());
      sum += static_cast<int>(end - begin);
    });
  });
  CHECK(sum == 30 * 55);
  CHECK(eager.items_of_others() > 0);
}

TEST_CASE("a loop inside another one that asks for its team is refused, and the team goes on") {
  ThreadPool pool;
  const EagerThreads eager;
  const ThreadScope team(pool, 3);
  std::atomic<int> refused{0};
  parallel_items(team, 30, kLarge, [&](int64_t) {
    try {
      parallel_items(team, 5, kLarge, [](int64_t) {});
    } catch (const Error &error) { refused += error.status() == Status::INTERNAL; }
  });
  CHECK(refused == 30);
  CHECK(eager.items_of_others() > 0);
  check_loop(team, 50);
}

TEST_CASE("a loop that is not worth the team leaves it to the loops inside") {
  ThreadPool pool;
  const ThreadScope team(pool, 3);
  const auto all = [&](const Threads &here) {
    CHECK(&here == &team);
    CHECK(here.count() == 3);
    check_loop(here, 50);
  };
  parallel_items(team, 1, kLarge, [&](int64_t, const Threads &here) { all(here); });
  parallel_items(team, 4, 1, [&](int64_t, const Threads &here) { all(here); });
  parallel_for(team, 10, 10, [&](int64_t, int64_t, const Threads &here) { all(here); });
}

TEST_CASE("a scope inside another has threads of its own") {
  ThreadPool pool, other;
  const EagerThreads eager;
  const ThreadScope team(pool, 3);
  {
    const ThreadScope inner(other, 2), again(pool, 3);
    CHECK(inner.count() == 2);
    CHECK(again.count() == 3);
    parallel_items(team, 9, kLarge, [&](int64_t) {});
    check_loop(inner, 50);
    check_loop(again, 50);
  }
  CHECK(team.count() == 3);
  check_loop(team, 50);
}

TEST_CASE("where the machine gives fewer threads than asked for, a smaller team does the work") {
  const EagerThreads eager;
  for (const int given : {0, 1, 3}) {
    CAPTURE(given);
    ThreadPool pool;
    g_threads_left = given;
    {
      const ThreadScope team(pool, 6);
      g_threads_left = 1000;
      CHECK(team.count() == given + 1);
      const int64_t before = eager.items_of_others();
      for (const int64_t n : {1, 2, 6, 100}) check_loop(team, n);
      CHECK((eager.items_of_others() > before) == (given > 0));
    }
    // It is the team of six from now on; asking again starts none.
    const int made = g_threads_made;
    const ThreadScope again(pool, 6);
    CHECK(again.count() == given + 1);
    CHECK(g_threads_made == made);
  }
}

TEST_CASE("threads belong to a pool: they are started once for a number, and end with it") {
  const int made = g_threads_made;
  {
    ThreadPool pool;
    for (int i = 0; i < 10; ++i) {
      const ThreadScope team(pool, 3);
      check_loop(team, 10);
    }
    CHECK(g_threads_made == made + 2);
    { const ThreadScope team(pool, 1); }
    CHECK(g_threads_made == made + 2);
    { const ThreadScope team(pool, 2); }
    CHECK(g_threads_made == made + 3);
  }
  CHECK(Threads().count() == 1);
  check_loop(Threads(), 10);  // without a scope, on this thread
}

TEST_CASE("a thread that comes too late is not waited for, and does nothing of a loop that has ended") {
  ThreadPool pool;
  g_held = true;
  const int begun = g_begun;
  {
    const ThreadScope team(pool, 4);
    const auto caller = std::this_thread::get_id();
    for (int i = 0; i < 100; ++i) {
      std::vector<int> done(50);  // gone when a late thread comes
      parallel_items(team, 50, kLarge, [&](int64_t item) {
        CHECK(std::this_thread::get_id() == caller);
        ++done[static_cast<size_t>(item)];
      });
      REQUIRE(done == std::vector<int>(50, 1));
    }
    CHECK(g_begun == begun);
    g_held = false;
    g_held.notify_all();
    while (g_begun < begun + 3) sleep_ms(1);
    // Now they are there, and take part in what comes.
    const EagerThreads eager;
    check_loop(team, 50);
    CHECK(eager.items_of_others() > 0);
  }
}

TEST_CASE("loops that follow one another at once do not run into each other") {
  ThreadPool pool;
  const ThreadScope team(pool, 4);
  for (int i = 0; i < 20000; ++i) {
    const int64_t n = 2 + i * 7 % 13;
    std::vector<int> done(static_cast<size_t>(n));  // gone after the loop
    parallel_items(team, n, kLarge, [&, i](int64_t item) { done[static_cast<size_t>(item)] += i + 1; });
    REQUIRE(done == std::vector<int>(static_cast<size_t>(n), i + 1));
  }
}

TEST_CASE("the number of loops may overflow") {
  for (const uint32_t before : {0xfffffffdu, 0xfffffffeu, 0xffffffffu}) {
    set_loops_before(before);
    ThreadPool pool;
    const EagerThreads eager;
    const ThreadScope team(pool, 3);
    for (int i = 0; i < 6; ++i) {
      const int64_t done = eager.items_of_others();
      check_loop(team, 9);
      CHECK(eager.items_of_others() > done);
    }
  }
  set_loops_before(0);
}

TEST_CASE("two callers at once have a team each, of one pool too") {
  ThreadPool pool;
  const int made = g_threads_made;
  std::atomic<int> inside{0}, wrong{0};
  const auto call = [&] {
    for (int round = 0; round < 200; ++round) {
      const ThreadScope team(pool, 3);
      if (round == 0) {  // both, or the second would take over the first one's team
        ++inside;
        while (inside < 2) std::this_thread::yield();
      }
      std::vector<std::atomic<int>> done(40);
      std::atomic<unsigned> indices{0};
      parallel_items(team, 40, kLarge, [&](int64_t item, const Threads &here) {
        indices |= 1u << here.index();
        ++done[static_cast<size_t>(item)];
      });
      for (const auto &times : done) wrong += times != 1;
      wrong += indices >= 8;
    }
  };
  std::thread first(call), second(call);
  first.join();
  second.join();
  CHECK(wrong == 0);
  CHECK(g_threads_made == made + 2 + 2 * 2);  // the two callers, and two helpers each
}

TEST_CASE("after a call no core spins") {
  ThreadPool pool;
  {
    const EagerThreads eager;
    const ThreadScope team(pool, 3);
    for (int i = 0; i < 20; ++i) check_loop(team, 30);
    CHECK(eager.items_of_others() > 0);
  }
  const double before = cpu_seconds();
  sleep_ms(300);
  const double spent = cpu_seconds() - before;
  CAPTURE(spent);
  CHECK(spent < 0.010);
}

TEST_CASE("no signal of the host is delivered to a thread of the library") {
  ThreadPool pool;
  const EagerThreads eager;
  sigset_t before, after;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  const ThreadScope team(pool, 3);
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  std::atomic<int> others{0};
  parallel_items(team, 30, kLarge, [&](int64_t, const Threads &here) {
    if (here.index() == 0) return;
    ++others;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD, SIGPIPE, SIGALRM})
      CHECK(sigismember(&mask, number) == 1);
  });
  CHECK(others > 0);
  for (const int number : {SIGINT, SIGTERM, SIGUSR1})
    CHECK(sigismember(&before, number) == sigismember(&after, number));
}
