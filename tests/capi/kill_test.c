/* A process that saves is killed at random moments: what is then at the path is one of the two snapshots that it saves
 * in turn, whole.
 *
 *   kill_test [KILLS [SEED]]        200 kills; a new seed each time
 *   kill_test --save FOLDER         the process that saves, which this program starts
 */
#define _XOPEN_SOURCE 700
#include "check.h"

#include <dirent.h>
#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FILE_NAME "killed.snap"
/* Half a megabyte of memory, so that a save is long, in a model that is made at once. */
#define MODEL                                                                                                          \
  "{\"layers\": 8, \"width\": 64, \"heads\": 1, \"kv_heads\": 1, \"head_size\": 128, \"hidden\": 16, \"vocabulary\": " \
  "100, \"segment\": 16}"

enum { SESSIONS = 2, VOCABULARY = 100 };
static const int kLength[SESSIONS] = {30, 50};
static const char *const kName[SESSIONS] = {"the one at 30", "the other at 50"};

static infini_model *make_model(void) {
  infini_options *options = NULL;
  infini_model *model = NULL;
  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_set_string(options, "compute", "f32"));
  CHECK_OK(infini_options_set_int(options, "threads", 1));
  CHECK_OK(infini_model_create(MODEL, options, NULL, &model));
  infini_options_free(options);
  if (!model) exit(1);
  return model;
}

static infini_session *fed_session(const infini_model *model, int which) {
  infini_session *session = new_session(model, -1);
  int32_t tokens[64];
  for (int i = 0; i < kLength[which]; ++i) tokens[i] = (i * 7 + which) % VOCABULARY;
  CHECK_OK(infini_session_feed(session, tokens, (size_t)kLength[which], NULL));
  return session;
}

static void path_in(char *path, size_t size, const char *folder, const char *name) {
  if (snprintf(path, size, "%s/%s", folder, name) >= (int)size) exit(1);
}

/* Saves for ever; says so when the first save begins. */
static int save_in_turn(const char *folder) {
  char path[4096];
  path_in(path, sizeof path, folder, FILE_NAME);
  infini_model *model = make_model();
  infini_session *sessions[SESSIONS];
  for (int i = 0; i < SESSIONS; ++i) sessions[i] = fed_session(model, i);
  if (check_failures || write(STDOUT_FILENO, "!", 1) != 1) return 1;
  for (int i = 0;; i = (i + 1) % SESSIONS)
    if (infini_session_save(sessions[i], path, 0, kName[i], NULL, NULL) != INFINI_OK) {
      fprintf(stderr, "a save failed: %s\n", infini_last_error());
      return 1;
    }
}

/* xorshift64*, so that a seed repeats the moments. */
static unsigned long long random_state;
static double uniform(void) {
  random_state ^= random_state >> 12, random_state ^= random_state << 25, random_state ^= random_state >> 27;
  return (double)((random_state * 0x2545f4914f6cdd1dULL) >> 11) / 9007199254740992.0;
}

static void wait_for(double seconds) {
  struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
  nanosleep(&time, NULL);
}

/* Starts the process that saves and kills it. How it ended goes to *status. */
static int kill_one(const char *program, const char *folder, double seconds, int *status) {
  int ready[2];
  if (pipe(ready) != 0) return 0;
  const pid_t child = fork();
  if (child == 0) {
    dup2(ready[1], STDOUT_FILENO);
    close(ready[0]);
    close(ready[1]);
    execl(program, program, "--save", folder, (char *)NULL);
    _exit(127);
  }
  close(ready[1]);
  char mark = 0;
  const int began = child > 0 && read(ready[0], &mark, 1) == 1;
  close(ready[0]);
  if (began) wait_for(seconds);
  if (child > 0) kill(child, SIGKILL);
  return child > 0 && waitpid(child, status, 0) == child && began;
}

/* Takes away what killed saves left behind; says how many there were. */
static int clear_temporary_files(const char *folder) {
  int count = 0;
  DIR *const listing = opendir(folder);
  CHECK(listing != NULL);
  if (!listing) return 0;
  for (const struct dirent *entry = readdir(listing); entry; entry = readdir(listing)) {
    const size_t length = strlen(entry->d_name);
    if (strncmp(entry->d_name, ".infini-", 8) != 0 || length < 4 || strcmp(entry->d_name + length - 4, ".tmp") != 0)
      continue;
    char path[4096];
    path_in(path, sizeof path, folder, entry->d_name);
    CHECK(remove(path) == 0);
    ++count;
  }
  closedir(listing);
  return count;
}

/* Which of the sessions is in the file, whole: by its name, its position and its logits; -1: none. */
static int found(const char *path, infini_session *target, float logits[SESSIONS][VOCABULARY]) {
  static char json[1 << 16];
  float restored[VOCABULARY];
  CHECK_OK(infini_snapshot_json(path, INFINI_SNAPSHOT_VERIFY, NULL, json, sizeof json, NULL));
  CHECK_OK(infini_session_restore(target, path, NULL));
  CHECK_OK(infini_session_logits(target, restored, VOCABULARY, NULL));
  for (int i = 0; i < SESSIONS; ++i) {
    if (position_of(target) != kLength[i]) continue;
    CHECK(strstr(json, kName[i]) != NULL && strstr(json, kName[1 - i]) == NULL);
    CHECK(memcmp(restored, logits[i], sizeof restored) == 0);
    return i;
  }
  return -1;
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "--save") == 0) return save_in_turn(argv[2]);
  const int kills = argc > 1 ? atoi(argv[1]) : 200;
  const unsigned long long seed =
      argc > 2 ? strtoull(argv[2], NULL, 10) : (unsigned long long)time(NULL) ^ (unsigned long long)getpid() << 32;
  random_state = seed * 2 + 1;
  printf("seed %llu\n", seed);
  fflush(stdout);

  char folder[] = "kill_test_XXXXXX", path[4096];
  if (!mkdtemp(folder)) return 1;
  path_in(path, sizeof path, folder, FILE_NAME);
  infini_model *model = make_model();
  infini_session *target = new_session(model, -1);
  float logits[SESSIONS][VOCABULARY];
  double longest = 0; /* a save, in seconds */
  for (int i = 0; i < SESSIONS; ++i) {
    infini_session *session = fed_session(model, i);
    struct timespec before, after;
    CHECK_OK(infini_session_logits(session, logits[i], VOCABULARY, NULL));
    clock_gettime(CLOCK_MONOTONIC, &before);
    CHECK_OK(infini_session_save(session, path, 0, kName[i], NULL, NULL));
    clock_gettime(CLOCK_MONOTONIC, &after);
    const double seconds = (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) * 1e-9;
    if (seconds > longest) longest = seconds;
    CHECK(found(path, target, logits) == i);
    infini_session_free(session);
  }

  int counts[SESSIONS] = {0}, in_the_middle = 0, left_over = 0;
  if (longest > 0.05) longest = 0.05; /* a busy disk must not make the test long */
  for (int i = 0; i < kills && check_failures == 0; ++i) {
    int status = 0;
    const int killed = kill_one(argv[0], folder, uniform() * longest * 4, &status);
    CHECK(killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    const int leftovers = clear_temporary_files(folder), which = found(path, target, logits);
    CHECK(leftovers <= 1 && which >= 0);
    left_over += leftovers;
    in_the_middle += leftovers > 0;
    if (which >= 0) ++counts[which];
    if (check_failures) fprintf(stderr, "after kill %d of seed %llu\n", i, seed);
  }
  printf("%d kills, %d of them while a temporary file was there; %d removed; found %d times '%s', %d times '%s'\n",
         kills, in_the_middle, left_over, counts[0], kName[0], counts[1], kName[1]);
  CHECK(in_the_middle > kills / 20); /* else the test does not test */
  infini_session_free(target);
  infini_model_free(model);
  if (check_failures == 0) CHECK(remove(path) == 0 && rmdir(folder) == 0);
  return check_failures != 0;
}
