/* A guest's manners: what the library leaves alone in a process that is not its own. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_max_threads(void) { return 1; }
static void omp_set_num_threads(int threads) { (void)threads; }
#endif

#ifndef __has_feature
#define __has_feature(feature) 0 /* clang's way to tell; gcc defines names */
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || __has_feature(address_sanitizer) || \
    __has_feature(thread_sanitizer)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* --- every allocation of the process is counted; sanitizers have an allocator of their own */

static long allocations = 0;

#if !SANITIZED
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
#define COUNT() __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED)
void *malloc(size_t size) { return COUNT(), __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return COUNT(), __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return COUNT(), __libc_realloc(old, size); }
void *memalign(size_t alignment, size_t size) { return COUNT(), __libc_memalign(alignment, size); }
void *aligned_alloc(size_t alignment, size_t size) { return COUNT(), __libc_memalign(alignment, size); }
int posix_memalign(void **out, size_t alignment, size_t size) {
  COUNT();
  *out = __libc_memalign(alignment, size);
  return *out ? 0 : 12; /* ENOMEM */
}
#endif

/* `keep`: tokens of sentences that are kept. */
static infini_session *session_of(const char *path, int threads, const char *compute, int keep) {
  infini_options *computing = NULL, *options = NULL;
  infini_model *model = NULL;
  infini_session *session = NULL;
  CHECK_OK(infini_options_create(&computing));
  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_set_int(options, "threads", threads));
  CHECK_OK(infini_options_set_int(options, "max_tokens", -1));
  CHECK_OK(infini_options_set_int(options, "ignore_end", 1));
  CHECK_OK(infini_options_set_int(computing, "threads", threads));
  CHECK_OK(infini_options_set_string(computing, "compute", compute));
  if (keep) {
    CHECK_OK(infini_options_set_int(computing, "keep", keep));
    CHECK_OK(infini_options_set_int(computing, "segment", 32));
    CHECK_OK(infini_options_set_int(computing, "carry", 48));
  }
  CHECK_OK(infini_model_open(path, computing, NULL, &model));
  CHECK_OK(infini_session_create(model, options, &session));
  infini_model_free(model);
  infini_options_free(computing);
  infini_options_free(options);
  if (!session) exit(1);
  return session;
}

static infini_session *session_with(int threads, const char *compute) {
  return session_of(STORIES, threads, compute, 0);
}

static int ignore(void *user_data, const char *text, size_t text_size) {
  (void)text, (void)text_size;
  return --*(int *)user_data <= 0;
}

/* A life: opening, reading, writing, failing. */
static void live(int threads) {
  infini_session *session = session_with(threads, "auto");
  infini_model *model = NULL;
  int pieces = 5;
  float logits[512];
  for (int i = 0; i < 10; ++i)
    CHECK_OK(infini_session_feed_text(session, "Once upon a time, there was a cat. ", 35, NULL));
  CHECK_OK(infini_session_logits(session, logits, 512, NULL));
  CHECK_STATUS(infini_session_generate(session, ignore, &pieces, NULL), INFINI_CANCELLED);
  CHECK_STATUS(infini_session_feed_text(session, "\xff", 1, NULL), INFINI_INVALID_ARGUMENT);
  CHECK_STATUS(infini_model_open("/nonexistent", NULL, NULL, &model), INFINI_IO);
  CHECK_OK(infini_model_create(NULL, NULL, NULL, &model));
  infini_model_free(model);
  infini_session_free(session);
}

/* --- */

typedef struct signals {
  struct sigaction actions[65];
} signals;

static signals read_signals(void) {
  signals result;
  memset(&result, 0, sizeof result);
  for (int number = 1; number <= 64; ++number) sigaction(number, NULL, &result.actions[number]);
  return result;
}

static void check_signals(const signals *before) {
  const signals after = read_signals();
  for (int number = 1; number <= 64; ++number) {
    CHECK(before->actions[number].sa_handler == after.actions[number].sa_handler);
    CHECK(before->actions[number].sa_flags == after.actions[number].sa_flags);
    if (!SANITIZED) CHECK(after.actions[number].sa_handler == SIG_DFL || after.actions[number].sa_handler == SIG_IGN);
  }
}

/* Runs a life with stdout and stderr going to a file, which stays empty. */
static void check_silence(void) {
  char name[] = "/tmp/infini-manners-XXXXXX";
  const int file = mkstemp(name), out = dup(1), err = dup(2);
  unlink(name);
  fflush(NULL);
  dup2(file, 1), dup2(file, 2);
  const int before = check_failures;
  live(2);
  fflush(NULL);
  dup2(out, 1), dup2(err, 2);
  char said[4096] = {0};
  const ssize_t size = pread(file, said, sizeof said - 1, 0);
  close(file), close(out), close(err);
  if (size != 0) fprintf(stderr, "the library said: %s\n", said);
  CHECK(size == 0 && check_failures == before);
}

/* A process may end with everything still open: no message, its own exit code, promptly. */
static void check_exit(void) {
  fflush(NULL);
  const pid_t child = fork();
  if (child == 0) {
    static infini_session *volatile left_open;
    left_open = session_with(2, "auto");
    infini_session_feed_text(left_open, "Once", 4, NULL);
    exit(7);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static double seconds(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* No core spins for the library once a call has returned. */
static void check_idle(void) {
  infini_session *session = session_with(2, "auto");
  const struct timespec pause = {0, 200 * 1000 * 1000};
  for (int round = 0; round < 3; ++round) {
    if (round == 0) CHECK_OK(infini_session_feed_text(session, "Once upon a time there was a big dog.", 37, NULL));
    if (round > 0) CHECK_OK(infini_session_next(session, NULL, NULL));
    const double before = seconds(CLOCK_PROCESS_CPUTIME_ID);
    nanosleep(&pause, NULL);
    const double used = seconds(CLOCK_PROCESS_CPUTIME_ID) - before;
    if (used >= 0.01) fprintf(stderr, "%.1f ms of processor time after a call\n", 1e3 * used);
    CHECK(used < 0.01);
  }
  infini_session_free(session);
}

static void check_openmp(void) {
  for (int host = 1; host <= 5; host += 2) {
    omp_set_num_threads(host);
    const int before = omp_get_max_threads();
    live(2);
    CHECK(omp_get_max_threads() == before);
  }
}

/* Generating a token allocates nothing, whatever the sampler does, closing segments included. On one thread: with more,
   libgomp allocates what it needs to wake the threads that were let go after the call before. */
static void check_allocations(const char *path, const char *compute, int keep) {
  if (SANITIZED) return;
  infini_session *session = session_of(path, 1, compute, keep);
  infini_options *options = NULL;
  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_set_double(options, "temperature", 0.8));
  CHECK_OK(infini_options_set_int(options, "top_k", 40));
  CHECK_OK(infini_options_set_double(options, "top_p", 0.9));
  CHECK_OK(infini_options_set_double(options, "repetition_penalty", 1.1));
  CHECK_OK(infini_options_set_string(options, "stop", "no such text"));
  CHECK_OK(infini_session_set_options(session, options));
  CHECK_OK(infini_session_feed_text(session, "Once upon a time", 16, NULL));
  for (int i = 0; i < 600; ++i) CHECK_OK(infini_session_next(session, NULL, NULL));
  const long before = allocations;
  for (int i = 0; i < 600; ++i) CHECK_OK(infini_session_next(session, NULL, NULL));
  if (allocations != before)
    fprintf(stderr, "%ld allocations for 600 tokens, %s, %s, %d kept\n", allocations - before, path, compute, keep);
  CHECK(allocations == before);
  infini_options_free(options);
  infini_session_free(session);
}

/* The same where sentences are kept: by surprise, and by a probe that heads follow, in the window too. */
static void check_keeping_allocations(void) {
  static const char *const lesson =
      "{\"layer\": 2, \"bias\": [[-1, -1, 2]], \"standing\": 8, \"pieces\": [{\"text\": \"Once upon a time there was a "
      "big dog.\"}, {\"text\": \" The key is red.\", \"keep\": true}, {\"text\": \" He ran home. He was happy.\"}]}";
  const char probed[] = "capi_manners_test.gguf";
  infini_options *options = NULL;
  infini_model *model = NULL;
  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_set_int(options, "keep", 64));
  CHECK_OK(infini_options_set_int(options, "segment", 32));
  CHECK_OK(infini_options_set_int(options, "carry", 48));
  CHECK_OK(infini_model_open(STORIES, options, NULL, &model));
  CHECK_OK(infini_model_fit_keep(model, lesson, probed, NULL));
  check_allocations(STORIES, "f32", 64);
  check_allocations(probed, "f32", 64);
  remove(probed);
  infini_model_free(model);
  infini_options_free(options);
}

static long resident_kilobytes(void) {
  long total = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%ld %ld", &total, &resident) != 2) exit(1);
  fclose(file);
  return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

/* A thousand more lives take no more memory. (Until then malloc's arenas find their size, and the log fills.) */
static void check_cycles(void) {
  long warm = 0;
  for (int cycle = 0; cycle < 1500; ++cycle) {
    infini_session *session = session_with(1, "f32");
    CHECK_OK(infini_session_feed_text(session, "Once upon a time", 16, NULL));
    CHECK_OK(infini_session_next(session, NULL, NULL));
    infini_session_free(session);
    if (cycle == 499) warm = resident_kilobytes();
    if (SANITIZED && cycle == 99) return; /* freed memory is kept there */
  }
  const long grown = resident_kilobytes() - warm;
  if (grown >= 1024) fprintf(stderr, "resident memory grew by %ld KiB\n", grown);
  CHECK(grown < 1024);
}

int main(void) {
  const signals before = read_signals();
  const char *const locale = setlocale(LC_ALL, NULL);
  CHECK(strcmp(locale, "C") == 0);
  check_exit();
  check_silence();
  check_signals(&before);
  CHECK(strcmp(setlocale(LC_ALL, NULL), "C") == 0);
  check_openmp();
  check_idle();
  check_allocations(STORIES, "f32", 0);
  check_allocations(STORIES, "auto", 0);
  check_keeping_allocations();
  check_cycles();
  check_signals(&before);
  return check_failures != 0;
}
