/* The thread rules, for ThreadSanitizer: eight threads, shared models, sessions that come and go at random. */
#include <pthread.h>

#include "check.h"

enum { THREADS = 8, ROUNDS = 12, SLOTS = 3 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the slots and of check_failures */
static infini_model *slots[SLOTS];

/* CHECK counts without a lock, so threads report through this. */
static void expect(int condition, const char *what) {
  if (condition) return;
  pthread_mutex_lock(&lock);
  ++check_failures;
  fprintf(stderr, "%s: %s\n", what, infini_last_error());
  pthread_mutex_unlock(&lock);
}
#define EXPECT(condition) expect(condition, #condition)

static uint32_t draw(uint32_t *seed, uint32_t below) {
  *seed = *seed * 1664525u + 1013904223u;
  return (*seed >> 8) % below;
}

/* A session of a random model; sometimes that model is let go, and a new one takes its place. */
static infini_session *take_session(uint32_t *seed) {
  infini_session *session = NULL;
  const uint32_t slot = draw(seed, SLOTS);
  if (draw(seed, 3) == 0) {
    infini_model *fresh = NULL;
    EXPECT(infini_model_open(STORIES, NULL, NULL, &fresh) == INFINI_OK);
    pthread_mutex_lock(&lock);
    infini_model *old = slots[slot];
    slots[slot] = fresh;
    pthread_mutex_unlock(&lock);
    infini_model_free(old);
  }
  pthread_mutex_lock(&lock);
  const infini_status status = infini_session_create(slots[slot], NULL, &session);
  pthread_mutex_unlock(&lock);
  EXPECT(status == INFINI_OK);
  return session;
}

static void *live(void *argument) {
  uint32_t seed = *(const uint32_t *)argument;
  infini_session *sessions[2] = {NULL, NULL};
  float logits[512];
  char text[256];
  for (int round = 0; round < ROUNDS; ++round) {
    infini_session **session = &sessions[draw(&seed, 2)];
    if (!*session) *session = take_session(&seed);
    EXPECT(infini_session_feed_text(*session, "Once upon a time there was", 26, NULL) == INFINI_OK);
    for (uint32_t i = draw(&seed, 8); i > 0; --i) EXPECT(infini_session_next(*session, NULL, NULL) <= INFINI_END);
    EXPECT(infini_session_logits(*session, logits, 512, NULL) == INFINI_OK);
    EXPECT(infini_session_next_text(*session, NULL, text, sizeof text, NULL) <= INFINI_END);
    EXPECT(infini_session_feed_text(*session, "\xff", 1, NULL) == INFINI_INVALID_ARGUMENT);
    EXPECT(strstr(infini_last_error(), "byte 0") != NULL); /* this thread's, whatever the others do */
    infini_log_next(NULL, text, sizeof text, NULL);
    if (draw(&seed, 3) == 0) {
      infini_session_free(*session);
      *session = NULL;
    } else if (draw(&seed, 3) == 0) {
      infini_session *fork = NULL;
      EXPECT(infini_session_fork(*session, &fork) == INFINI_OK);
      infini_session_free(*session);
      *session = fork;
    }
  }
  infini_session_free(sessions[0]);
  infini_session_free(sessions[1]);
  return NULL;
}

static void check_sharing(void) {
  pthread_t threads[THREADS];
  uint32_t seeds[THREADS];
  char fingerprint[33];
  for (int i = 0; i < SLOTS; ++i) CHECK_OK(infini_model_open(STORIES, NULL, NULL, &slots[i]));
  for (int i = 0; i < THREADS; ++i) {
    seeds[i] = (uint32_t)i + 1;
    CHECK(pthread_create(&threads[i], NULL, live, &seeds[i]) == 0);
  }
  for (int i = 0; i < THREADS; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  for (int i = 0; i < SLOTS; ++i) {
    CHECK_OK(infini_model_info(slots[i], "fingerprint", fingerprint, sizeof fingerprint, NULL));
    infini_model_free(slots[i]);
  }
}

/* --- cancelling from another thread */

typedef struct job {
  infini_session *session;
  infini_task *task;
  infini_status status;
} job;

static int ignore(void *user_data, const char *text, size_t text_size) {
  (void)user_data, (void)text, (void)text_size;
  return 0;
}

static void *generate(void *argument) {
  job *work = argument;
  work->status = infini_session_generate(work->session, ignore, NULL, work->task);
  return NULL;
}

static void wait_for(const infini_task *task, int64_t least) {
  int64_t done = 0;
  char stage[16];
  do {
    CHECK_OK(infini_task_done(task, &done));
    CHECK_OK(infini_task_stage(task, stage, sizeof stage, NULL));
  } while (strcmp(stage, "generate") != 0 || done < least);
}

static void check_cancel(void) {
  infini_model *model = open_model(STORIES, "f32");
  infini_options *options = NULL;
  job work = {new_session(model, 50000), NULL, INFINI_OK};
  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_set_int(options, "ignore_end", 1));
  CHECK_OK(infini_session_set_options(work.session, options));
  CHECK_OK(infini_session_feed_text(work.session, "Once", 4, NULL));
  for (int by_task = 0; by_task < 2; ++by_task) {
    pthread_t thread;
    CHECK_OK(infini_task_create(&work.task));
    CHECK(pthread_create(&thread, NULL, generate, &work) == 0);
    wait_for(work.task, 5);
    CHECK_OK(by_task ? infini_task_cancel(work.task) : infini_session_cancel(work.session));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_STATUS(work.status, INFINI_CANCELLED);
    CHECK_OK(infini_session_next(work.session, NULL, NULL));
    infini_task_free(work.task);
  }
  infini_options_free(options);
  infini_session_free(work.session);
  infini_model_free(model);
}

/* --- a feed that runs is watched, and pull calls that give no text are ended, from another thread */

static void *feed(void *argument) {
  static const int32_t tokens[20000];
  job *work = argument;
  work->status = infini_session_feed(work->session, tokens, 20000, work->task);
  return NULL;
}

static void *pull(void *argument) {
  job *work = argument;
  size_t size = 0;
  do work->status = infini_session_next_text(work->session, work->task, NULL, 0, &size);
  while (work->status == INFINI_OK && size == 0);
  return NULL;
}

static void check_watching(void) {
  infini_model *model = open_model(STORIES, "f32");
  infini_options *options = NULL;
  job work = {new_session(model, -1), NULL, INFINI_OK};
  pthread_t thread;
  int64_t position = 0, last = 0;
  int seen = 0;
  CHECK(pthread_create(&thread, NULL, feed, &work) == 0);
  while (position < 10240) {
    CHECK_OK(infini_session_position(work.session, &position));
    CHECK(position % 512 == 0 && position >= last);
    seen += position > last;
    last = position;
  }
  CHECK_OK(infini_session_cancel(work.session));
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK_STATUS(work.status, INFINI_CANCELLED);
  CHECK(seen >= 2);

  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_set_int(options, "ignore_end", 1));
  CHECK_OK(infini_options_set_string(options, "logit_bias", "2:1000000")); /* the end of text, which has no text */
  CHECK_OK(infini_session_set_options(work.session, options));
  for (int by_task = 0; by_task < 2; ++by_task) {
    CHECK_OK(infini_task_create(&work.task));
    CHECK(pthread_create(&thread, NULL, pull, &work) == 0);
    wait_for(work.task, 5);
    CHECK_OK(by_task ? infini_task_cancel(work.task) : infini_session_cancel(work.session));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_STATUS(work.status, INFINI_CANCELLED);
    infini_task_free(work.task);
  }
  infini_options_free(options);
  infini_session_free(work.session);
  infini_model_free(model);
}

/* --- 64 sessions that save, restore and feed at once */

enum { CROWD = 64, TURNS = 12, VOCABULARY = 60 };
#define CROWD_FILE "threads_test.snap" /* every thread's */

static infini_model *crowd_model;
static void *shelf; /* the snapshot that was saved last, of any session; behind the lock */
static size_t shelf_size;

static void put_on_shelf(infini_session *session) {
  size_t size = 0;
  EXPECT(infini_session_save_buffer(session, 0, NULL, NULL, NULL, NULL, 0, &size) == INFINI_OK);
  void *bytes = malloc(size);
  EXPECT(infini_session_save_buffer(session, 0, NULL, NULL, NULL, bytes, size, &size) == INFINI_OK);
  pthread_mutex_lock(&lock);
  free(shelf);
  shelf = bytes;
  shelf_size = size;
  pthread_mutex_unlock(&lock);
}

static void take_from_shelf(infini_session *session) {
  void *bytes = NULL;
  pthread_mutex_lock(&lock);
  const size_t size = shelf_size;
  if (shelf) {
    bytes = malloc(size);
    memcpy(bytes, shelf, size);
  }
  pthread_mutex_unlock(&lock);
  if (bytes) EXPECT(infini_session_restore_buffer(session, bytes, size, NULL) == INFINI_OK);
  free(bytes);
}

static void *crowd_member(void *argument) {
  uint32_t seed = *(const uint32_t *)argument;
  infini_options *options = NULL;
  infini_session *session = NULL;
  EXPECT(infini_options_create(&options) == INFINI_OK && infini_options_set_int(options, "threads", 1) == INFINI_OK);
  EXPECT(infini_options_set_int(options, "checkpoints", 2) == INFINI_OK);
  EXPECT(infini_session_create(crowd_model, options, &session) == INFINI_OK);
  for (int turn = 0; turn < TURNS; ++turn) {
    int32_t tokens[20];
    int64_t before = 0, after = 0;
    for (int i = 0; i < 20; ++i) tokens[i] = (int32_t)draw(&seed, VOCABULARY);
    EXPECT(infini_session_position(session, &before) == INFINI_OK);
    EXPECT(infini_session_feed(session, tokens, 20, NULL) == INFINI_OK);
    EXPECT(infini_session_position(session, &after) == INFINI_OK && after == before + 20);
    switch (draw(&seed, 5)) {
      case 0: put_on_shelf(session); break;
      case 1: take_from_shelf(session); break;
      case 2:
        EXPECT(infini_session_save(session, CROWD_FILE, (int)draw(&seed, 2), "crowd", NULL, NULL) == INFINI_OK);
        break;
      case 3: {
        const infini_status status = infini_session_restore(session, CROWD_FILE, NULL);
        EXPECT(status == INFINI_OK || status == INFINI_IO); /* nobody has saved yet */
        break;
      }
      default: EXPECT(infini_session_rewind(session, after) == INFINI_OK);
    }
  }
  infini_session_free(session);
  infini_options_free(options);
  return NULL;
}

static void check_crowd(void) {
  pthread_t threads[CROWD];
  uint32_t seeds[CROWD];
  remove(CROWD_FILE);
  CHECK_OK(infini_model_create(
      "{\"layers\": 2, \"width\": 16, \"heads\": 2, \"kv_heads\": 1, \"hidden\": 16, \"vocabulary\": 60, "
      "\"segment\": 8, \"carry\": 3}",
      NULL, NULL, &crowd_model));
  for (int i = 0; i < CROWD; ++i) {
    seeds[i] = (uint32_t)i + 100;
    CHECK(pthread_create(&threads[i], NULL, crowd_member, &seeds[i]) == 0);
  }
  for (int i = 0; i < CROWD; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  free(shelf);
  shelf = NULL;
  infini_model_free(crowd_model);
  CHECK(remove(CROWD_FILE) == 0);
}

/* --- a save that takes long holds up nobody */

enum { PIECES = 20 };

static void *feed_aside(void *argument) {
  job *work = argument;
  for (int i = 0; i < PIECES && work->status == INFINI_OK; ++i)
    work->status = infini_session_feed_text(work->session, "Once upon a time there was", 26, NULL);
  return NULL;
}

/* Runs in the middle of the save, which waits here until the other thread has fed: for ever, if that needed a lock. */
static int feed_meanwhile(void *user_data, const char *stage, int64_t done, int64_t total) {
  job *work = user_data;
  pthread_t thread;
  (void)stage, (void)done, (void)total;
  if (work->status != INFINI_END) return 0;
  work->status = INFINI_OK;
  EXPECT(pthread_create(&thread, NULL, feed_aside, work) == 0 && pthread_join(thread, NULL) == 0);
  return 0;
}

static void check_saving_aside(void) {
  infini_model *model = open_model(STORIES, "f32");
  infini_session *saved = new_session(model, 10);
  job work = {new_session(model, 10), NULL, INFINI_END};
  CHECK_OK(infini_session_feed_text(saved, "Once", 4, NULL));
  CHECK_OK(infini_task_create(&work.task));
  CHECK_OK(infini_task_set_progress(work.task, feed_meanwhile, &work));
  CHECK_OK(infini_session_save(saved, "capi_threads_test.snap", 0, NULL, NULL, work.task));
  CHECK_OK(work.status);
  CHECK(position_of(work.session) > PIECES);
  remove("capi_threads_test.snap");
  infini_task_free(work.task);
  infini_session_free(work.session);
  infini_session_free(saved);
  infini_model_free(model);
}

int main(void) {
  check_crowd();
  check_sharing();
  check_cancel();
  check_watching();
  check_saving_aside();
  return check_failures != 0;
}
