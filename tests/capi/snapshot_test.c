/* Snapshots, going back and batches through the C interface. */
#include "check.h"

#define PATH "capi_snapshot_test.snap"

static void generate(infini_session *session, int32_t *tokens, int count) {
  for (int i = 0; i < count; ++i) CHECK_OK(infini_session_next(session, NULL, &tokens[i]));
}

static int cancel_save(void *user_data, const char *stage, int64_t done, int64_t total) {
  CHECK(strcmp(stage, "save") == 0 && done > 0 && done <= total);
  return ++*(int *)user_data == 1;
}

/* What a cancelled task leaves: the file and the session as they were, and a buffer of anything. */
static void check_cancels(infini_session *session, const void *bytes, size_t size) {
  infini_task *task = NULL;
  int calls = 0;
  int64_t total = 0, before = 0, after = 0;
  size_t needed = 0;
  void *copy = malloc(size);
  CHECK_OK(infini_task_create(&task));
  CHECK_OK(infini_session_position(session, &before));
  CHECK_OK(infini_task_set_progress(task, cancel_save, &calls));
  CHECK_STATUS(infini_session_save_buffer(session, 0, NULL, NULL, task, copy, size, &needed), INFINI_CANCELLED);
  CHECK_OK(infini_task_total(task, &total));
  CHECK(needed > 0 && total == (int64_t)needed && calls == 1);
  CHECK_OK(infini_session_save_buffer(session, 0, NULL, NULL, task, copy, size, &needed)); /* it was used up */
  CHECK(calls > 1);
  CHECK_OK(infini_task_set_progress(task, NULL, NULL));
  CHECK_OK(infini_task_cancel(task));
  CHECK_ERROR(infini_session_restore_buffer(session, bytes, size, task), INFINI_CANCELLED, "restoring");
  CHECK_OK(infini_task_cancel(task));
  CHECK_ERROR(infini_session_merge_buffer(session, bytes, size, 1, task), INFINI_CANCELLED, "merging");
  CHECK_OK(infini_session_position(session, &after));
  CHECK(after == before);
  infini_task_free(task);
  free(copy);
}

static void check_snapshots(const infini_model *model) {
  infini_session *session = new_session(model, 1000), *other = new_session(model, 1000);
  int32_t expected[20], actual[20];
  size_t size = 0, again = 0;
  char json[16384];

  CHECK_OK(infini_session_feed_text(session, "Once upon a time", 16, NULL));
  CHECK_OK(infini_session_save(session, PATH, 0, "a story", "just begun", NULL));
  CHECK_OK(infini_session_save_buffer(session, 0, "a story", NULL, NULL, NULL, 0, &size));
  void *bytes = malloc(size);
  CHECK_STATUS(infini_session_save_buffer(session, 0, "a story", NULL, NULL, bytes, size - 1, &again),
               INFINI_BUFFER_TOO_SMALL);
  CHECK(again == size);
  CHECK_OK(infini_session_save_buffer(session, 0, "a story", NULL, NULL, bytes, size, &again));
  check_cancels(session, bytes, size);
  generate(session, expected, 20);

  CHECK_OK(infini_session_restore(other, PATH, NULL));
  generate(other, actual, 20);
  CHECK(memcmp(expected, actual, sizeof expected) == 0);

  /* The limit of a run that a session has from its snapshot is the one that is announced. */
  infini_session *limited = NULL;
  infini_task *task = NULL;
  int64_t limit = 0;
  CHECK_OK(infini_session_create(model, NULL, &limited));
  CHECK_OK(infini_session_restore(limited, PATH, NULL));
  CHECK_OK(infini_task_create(&task));
  CHECK_OK(infini_session_next(limited, task, NULL));
  CHECK_OK(infini_task_total(task, &limit));
  CHECK(limit == 1000);
  infini_task_free(task);
  infini_session_free(limited);

  CHECK_OK(infini_session_restore_buffer(other, bytes, size, NULL));
  generate(other, actual, 20);
  CHECK(memcmp(expected, actual, sizeof expected) == 0);

  CHECK_OK(infini_snapshot_json(PATH, INFINI_SNAPSHOT_VERIFY, NULL, json, sizeof json, &size));
  CHECK(strstr(json, "\"a story\"") && strstr(json, "\"just begun\"") && strstr(json, "\"session\""));
  CHECK_OK(infini_snapshot_json_buffer(bytes, again, 0, NULL, json, sizeof json, &size));
  CHECK_ERROR(infini_session_save(session, PATH, INFINI_SNAPSHOT_VERIFY, NULL, NULL, NULL), INFINI_INVALID_ARGUMENT,
              "flags is 2");
  CHECK_ERROR(infini_snapshot_json("no/such/file", 0, NULL, json, sizeof json, &size), INFINI_IO, "no/such/file");

  ((char *)bytes)[again - 1] ^= 1;
  CHECK_ERROR(infini_session_restore_buffer(other, bytes, again, NULL), INFINI_CHECKSUM, "section");
  CHECK_STATUS(infini_session_restore_buffer(other, bytes, again - 7, NULL), INFINI_TRUNCATED);
  CHECK_STATUS(infini_session_restore_buffer(other, "x", 1, NULL), INFINI_FORMAT);
  CHECK_STATUS(infini_session_save(session, "no/such/folder/x", 0, NULL, NULL, NULL), INFINI_IO);

  infini_model *stranger = NULL;
  infini_session *strange = NULL;
  CHECK_OK(infini_model_create(NULL, NULL, NULL, &stranger));
  CHECK_OK(infini_session_create(stranger, NULL, &strange));
  CHECK_ERROR(infini_session_restore(strange, PATH, NULL), INFINI_MODEL_MISMATCH, "fingerprint");
  infini_session_free(strange);
  infini_model_free(stranger);

  /* A memory alone: the position stays, there are no logits. */
  int64_t position = 0, there = 0;
  CHECK_OK(infini_session_save(session, PATH, INFINI_SNAPSHOT_MEMORY, NULL, NULL, NULL));
  CHECK_OK(infini_session_position(session, &there));
  CHECK_OK(infini_session_restore(other, PATH, NULL));
  CHECK_OK(infini_session_position(other, &position));
  CHECK(position == there);
  CHECK_STATUS(infini_session_next(other, NULL, actual), INFINI_STATE);
  double total = 0;
  int64_t scored = 0; /* so that a first token has nothing that predicts it */
  CHECK_OK(infini_session_score_text(other, "Once upon a time", 16, NULL, &total, &scored));
  CHECK_OK(infini_session_position(other, &position));
  CHECK(scored == position - there - 1 && total > 0);

  remove(PATH);
  free(bytes);
  infini_session_free(session);
  infini_session_free(other);
}

static void check_rewind(const infini_model *model) {
  infini_session *session = new_session(model, 1000);
  int32_t expected[20], actual[20];
  int64_t limit = 0;
  CHECK_OK(infini_session_feed_text(session, "Once upon a time there was a", 28, NULL));
  int64_t begin = 0;
  CHECK_OK(infini_session_position(session, &begin));
  generate(session, expected, 20);
  CHECK_OK(infini_session_rewind(session, begin));
  generate(session, actual, 20);
  CHECK(memcmp(expected, actual, sizeof expected) == 0);
  CHECK_OK(infini_session_rewind_limit(session, &limit));
  CHECK_ERROR(infini_session_rewind(session, limit - 1), INFINI_STATE, "possible");
  CHECK_ERROR(infini_session_rewind(session, begin + 1000), INFINI_STATE, "possible");
  infini_session_free(session);
}

static void check_batches(const infini_model *model) {
  infini_session *sessions[3], *alone[3];
  infini_batch *batch = NULL;
  size_t count = 0, size = 0;
  char text[4096];
  CHECK_OK(infini_batch_create(model, &batch));
  for (int i = 0; i < 3; ++i) {
    const char *prompt = i == 0 ? "Once upon" : i == 1 ? "Lily was a very happy girl" : "One day";
    sessions[i] = new_session(model, 5 + 10 * i);
    alone[i] = new_session(model, 5 + 10 * i);
    CHECK_OK(infini_session_feed_text(sessions[i], prompt, strlen(prompt), NULL));
    CHECK_OK(infini_session_feed_text(alone[i], prompt, strlen(prompt), NULL));
    CHECK_OK(infini_batch_add(batch, sessions[i]));
  }
  CHECK_STATUS(infini_batch_add(batch, sessions[0]), INFINI_INVALID_ARGUMENT);
  CHECK_OK(infini_batch_size(batch, &count));
  CHECK(count == 3);
  infini_session_free(sessions[1]); /* the batch keeps it */
  for (int step = 0; step < 25; ++step) {
    int32_t tokens[3];
    CHECK_STATUS(infini_batch_next(batch, NULL, tokens, 2, &size), INFINI_BUFFER_TOO_SMALL);
    CHECK(size == 3);
    CHECK_OK(infini_batch_next(batch, NULL, NULL, 0, &size)); /* nothing is done */
    CHECK(size == 3);
    CHECK_OK(infini_batch_next(batch, NULL, tokens, 3, NULL));
    for (int i = 0; i < 3; ++i) {
      int32_t token = 0;
      if (step == 5 + 10 * i) CHECK(tokens[i] == -1);
      if (step >= 5 + 10 * i) continue;
      CHECK_OK(infini_session_next(alone[i], NULL, &token));
      CHECK(tokens[i] == token);
    }
  }
  for (size_t i = 0; i < 3; ++i) CHECK_OK(infini_batch_text(batch, i, text, sizeof text, &size));
  CHECK_STATUS(infini_batch_text(batch, 3, text, sizeof text, &size), INFINI_INVALID_ARGUMENT);
  CHECK_OK(infini_batch_remove(batch, sessions[0]));
  CHECK_STATUS(infini_batch_remove(batch, sessions[0]), INFINI_INVALID_ARGUMENT);
  infini_batch_free(batch);
  infini_session_free(sessions[0]);
  infini_session_free(sessions[2]);
  for (int i = 0; i < 3; ++i) infini_session_free(alone[i]);
}

int main(void) {
  infini_model *model = open_model(STORIES, "f32");
  check_snapshots(model);
  check_rewind(model);
  check_batches(model);
  infini_model_free(model);
  return check_failures != 0;
}
