/* Sessions: feeding, logits, generation in its three forms, ending, cancelling, forking. */
#include <math.h>

#include "golden.h"

static golden expected;
static infini_model *stories;

typedef struct collector {
  char text[4096];
  size_t size;
  int calls_left; /* 0: never stops */
} collector;

static int collect(void *user_data, const char *text, size_t text_size) {
  collector *c = user_data;
  CHECK(text_size > 0 && c->size + text_size < sizeof c->text);
  memcpy(c->text + c->size, text, text_size);
  c->size += text_size;
  return c->calls_left > 0 && --c->calls_left == 0;
}

static infini_session *after_bos(int64_t max_tokens) {
  const int32_t bos = 1;
  infini_session *session = new_session(stories, max_tokens);
  CHECK_OK(infini_session_feed(session, &bos, 1, NULL));
  return session;
}

static int reason_is(const infini_session *session, const char *reason) {
  char text[16];
  CHECK_OK(infini_session_stop_reason(session, text, sizeof text, NULL));
  return strcmp(text, reason) == 0;
}

static void set_string(infini_session *session, const char *name, const char *value) {
  infini_options *options = NULL;
  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_set_string(options, name, value));
  CHECK_OK(infini_session_set_options(session, options));
  infini_options_free(options);
}

/* The golden transcript by callback, by text and by token. */
static void check_transcript(void) {
  collector by_callback = {{0}, 0, 0}, by_text = {{0}, 0, 0};
  infini_session *session = after_bos((int64_t)expected.n_tokens);
  CHECK(reason_is(session, "none"));
  CHECK_OK(infini_session_generate(session, collect, &by_callback, NULL));
  CHECK(strcmp(by_callback.text, expected.text) == 0);
  CHECK(reason_is(session, "max_tokens") && position_of(session) == 1 + (int64_t)expected.n_tokens);
  infini_session_free(session);

  session = after_bos((int64_t)expected.n_tokens);
  infini_status status;
  char piece[64];
  size_t size = 0, again = 0;
  while ((status = infini_session_next_text(session, NULL, NULL, 0, &size)) ==
         INFINI_OK) { /* asks for the size first */
    CHECK_STATUS(infini_session_next_text(session, NULL, piece, size - 1, &again), INFINI_BUFFER_TOO_SMALL);
    CHECK(again == size);
    CHECK_OK(infini_session_next_text(session, NULL, piece, sizeof piece, &again));
    CHECK(again == size && strlen(piece) == size);
    collect(&by_text, piece, size);
  }
  CHECK_STATUS(status, INFINI_END);
  CHECK(size == 0 && strcmp(by_text.text, expected.text) == 0);
  infini_session_free(session);

  session = after_bos((int64_t)expected.n_tokens);
  for (size_t i = 0; i < expected.n_tokens; ++i) {
    int32_t token = -1;
    CHECK_OK(infini_session_next(session, NULL, &token));
    CHECK(token == expected.tokens[i]);
  }
  CHECK_STATUS(infini_session_next(session, NULL, NULL), INFINI_END);
  CHECK_OK(infini_session_next(session, NULL, NULL)); /* a new run */
  infini_session_free(session);
}

static void check_numbers(void) {
  infini_session *session = new_session(stories, 1);
  const int32_t bos = 1, bad[] = {5, 512};
  float logits[512], rows[3 * 512], embedding[64], nll[3];
  double total = 0;
  int64_t scored = 0;
  size_t needed = 0;
  CHECK_ERROR(infini_session_logits(session, logits, 512, NULL), INFINI_STATE, "feed");
  CHECK_STATUS(infini_session_embedding(session, embedding, 64, NULL), INFINI_STATE);
  CHECK_STATUS(infini_session_next(session, NULL, NULL), INFINI_STATE);
  CHECK_STATUS(infini_session_next_text(session, NULL, NULL, 0, NULL), INFINI_STATE);
  CHECK_ERROR(infini_session_feed(session, bad, 2, NULL), INFINI_INVALID_ARGUMENT, "512");
  CHECK(position_of(session) == 0);

  CHECK_OK(infini_session_feed(session, &bos, 1, NULL));
  CHECK_OK(infini_session_logits(session, logits, 512, NULL));
  CHECK_STATUS(infini_session_logits(session, logits, 511, &needed), INFINI_BUFFER_TOO_SMALL);
  CHECK(needed == 512);
  CHECK_OK(infini_session_embedding(session, embedding, 64, NULL));
  CHECK_STATUS(infini_session_embedding(session, embedding, 63, &needed), INFINI_BUFFER_TOO_SMALL);
  CHECK(needed == 64);
  for (int i = 0; i < 512; ++i) CHECK(fabsf(logits[i] - expected.logits_after_bos[i]) < 1e-4f);

  /* All positions at once; score is -ln softmax of the row before. */
  infini_session *twin = NULL;
  CHECK_OK(infini_session_fork(session, &twin));
  CHECK_STATUS(infini_session_feed_logits(session, expected.tokens, 3, NULL, rows, 1535, &needed),
               INFINI_BUFFER_TOO_SMALL);
  CHECK(needed == 1536);
  CHECK_STATUS(infini_session_score(twin, expected.tokens, 3, NULL, nll, 2, &needed), INFINI_BUFFER_TOO_SMALL);
  CHECK(needed == 3);
  CHECK_OK(infini_session_feed_logits(session, expected.tokens, 3, NULL, NULL, 0, &needed));
  CHECK(needed == 1536);
  CHECK_OK(infini_session_score(twin, expected.tokens, 3, NULL, NULL, 0, &needed));
  CHECK(needed == 3);
  CHECK(position_of(session) == 1 && position_of(twin) == 1);
  CHECK_OK(infini_session_feed_logits(session, expected.tokens, 3, NULL, rows, 3 * 512, NULL));
  CHECK_OK(infini_session_score(twin, expected.tokens, 3, NULL, nll, 3, NULL));
  for (int i = 0; i < 3; ++i) {
    const float *row = i == 0 ? logits : rows + (i - 1) * 512;
    double sum = 0;
    for (int t = 0; t < 512; ++t) sum += exp(row[t] - row[expected.tokens[i]]);
    CHECK(fabs(log(sum) - nll[i]) < 1e-4);
  }
  CHECK_OK(infini_session_logits(session, logits, 512, NULL));
  for (int t = 0; t < 512; ++t) CHECK(fabsf(logits[t] - rows[2 * 512 + t]) < 1e-4f);
  infini_session_free(twin);
  infini_session_free(session);

  session = new_session(stories, 1);
  CHECK_OK(infini_session_score_text(session, "Once upon a time", 16, NULL, &total, &scored));
  CHECK(scored == position_of(session) - 1 && total > 0 && total < 20); /* the BOS has nothing before it */
  CHECK_OK(infini_session_score_text(session, "", 0, NULL, &total, &scored));
  CHECK(scored == 0 && total == 0);
  CHECK_OK(infini_session_reset(session));
  CHECK_OK(infini_session_score(session, expected.tokens, 2, NULL, nll, 2, NULL));
  CHECK(nll[0] != nll[0] && nll[1] > 0);
  infini_session_free(session);
}

static void check_stops(void) {
  collector text = {{0}, 0, 0};
  infini_session *session = after_bos(100);
  const char *stop = strstr(expected.text, "there was");
  set_string(session, "stop", "nowhere\nthere was");
  CHECK_OK(infini_session_generate(session, collect, &text, NULL));
  CHECK(reason_is(session, "stop_string") && text.size == (size_t)(stop - expected.text));
  CHECK(memcmp(text.text, expected.text, text.size) == 0);
  infini_session_free(session);

  /* An end token ends a run and is not fed. */
  session = after_bos(100);
  set_string(session, "logit_bias", "2:1e9");
  CHECK_STATUS(infini_session_next(session, NULL, NULL), INFINI_END);
  CHECK(reason_is(session, "end_token") && position_of(session) == 1);
  CHECK_ERROR(infini_session_next_text(session, NULL, NULL, 0, NULL), INFINI_END, "");
  infini_options *options = NULL;
  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_set_string(options, "logit_bias", "512:1"));
  CHECK_ERROR(infini_session_set_options(session, options), INFINI_INVALID_ARGUMENT, "512");
  CHECK_OK(infini_options_set_string(options, "logit_bias", ""));
  CHECK_OK(infini_options_set_int(options, "max_tokens", 0));
  CHECK_OK(infini_session_set_options(session, options));
  CHECK_STATUS(infini_session_next(session, NULL, NULL), INFINI_END);
  CHECK(reason_is(session, "max_tokens"));
  infini_options_free(options);
  infini_session_free(session);
}

static int stop_at_512(void *user_data, const char *stage, int64_t done, int64_t total) {
  ++*(int *)user_data;
  CHECK(strcmp(stage, "feed") == 0 && total == 2000);
  return done >= 512;
}

static int cancel_session(void *user_data, const char *stage, int64_t done, int64_t total) {
  (void)stage, (void)done, (void)total;
  CHECK_OK(infini_session_cancel(user_data));
  return 0;
}

/* A cancel that comes while a call reads its only token ends that call, not the next one, and nothing is lost. */
static void check_cancel_within_a_token(infini_session *session, infini_session *whole, infini_task *task) {
  int32_t token = 0, twin = 0;
  size_t size = 0, twin_size = 0;
  int64_t done = 0, total = 0;
  char text[64], twin_text[64], stage[16];
  CHECK_OK(infini_task_set_progress(task, cancel_session, session));
  CHECK_STATUS(infini_session_next(session, task, &token), INFINI_CANCELLED);
  CHECK_OK(infini_session_next(whole, NULL, &twin));
  CHECK(token == twin && position_of(session) == position_of(whole));
  CHECK_ERROR(infini_session_feed(session, &token, 1, task), INFINI_CANCELLED, "1 of 1");
  CHECK_OK(infini_session_feed(whole, &token, 1, NULL));
  CHECK_STATUS(infini_session_next_text(session, task, text, sizeof text, &size), INFINI_CANCELLED);
  CHECK_OK(infini_session_next_text(session, NULL, text, sizeof text, &size));
  CHECK_OK(infini_session_next_text(whole, NULL, twin_text, sizeof twin_text, &twin_size));
  CHECK(size == twin_size && strcmp(text, twin_text) == 0 && position_of(session) == position_of(whole));
  CHECK_OK(infini_task_stage(task, stage, sizeof stage, NULL));
  CHECK_OK(infini_task_done(task, &done)); /* tokens of the run, of all its calls */
  CHECK_OK(infini_task_total(task, &total));
  CHECK(strcmp(stage, "generate") == 0 && done == 24 && total == 100);
  CHECK_OK(infini_task_set_progress(task, NULL, NULL));
}

/* Cancelled calls say how far they came, and what follows is as if nothing had happened. */
static void check_cancel(void) {
  infini_session *session = after_bos(100), *whole = after_bos(100);
  infini_task *task = NULL;
  int32_t tokens[2000], token = 0, twin = 0;
  int64_t done = 0;
  int calls = 0;
  collector text = {{0}, 0, 5};
  for (int i = 0; i < 2000; ++i) tokens[i] = expected.tokens[(size_t)i % expected.n_tokens];
  CHECK_OK(infini_task_create(&task));
  CHECK_OK(infini_task_set_progress(task, stop_at_512, &calls));
  CHECK_ERROR(infini_session_feed(session, tokens, 2000, task), INFINI_CANCELLED, "512 of 2000");
  CHECK_OK(infini_task_done(task, &done));
  CHECK(calls == 1 && done == 512 && position_of(session) == 513);
  CHECK_OK(infini_task_set_progress(task, NULL, NULL));
  CHECK_OK(infini_task_cancel(task)); /* a call without tokens hears it, too */
  CHECK_ERROR(infini_session_feed(session, NULL, 0, task), INFINI_CANCELLED, "0 of 0");
  CHECK_OK(infini_session_feed(session, NULL, 0, task));
  CHECK_OK(infini_session_feed(session, tokens + 512, 1488, task));
  CHECK_OK(infini_session_feed(whole, tokens, 2000, NULL));
  for (int i = 0; i < 20; ++i) {
    CHECK_OK(infini_session_next(session, NULL, &token));
    CHECK_OK(infini_session_next(whole, NULL, &twin));
    CHECK(token == twin);
  }
  CHECK_OK(infini_session_cancel(session)); /* no call runs: nothing happens */
  CHECK_OK(infini_session_feed(session, tokens, 10, NULL));
  CHECK_OK(infini_session_feed(whole, tokens, 10, NULL));
  CHECK_OK(infini_session_cancel(session));
  CHECK_OK(infini_session_next(session, NULL, &token));
  CHECK_OK(infini_session_next(whole, NULL, &twin));
  CHECK(token == twin);
  CHECK_OK(infini_task_cancel(task)); /* a task's cancel waits for a call */
  CHECK_ERROR(infini_session_feed(session, tokens, 10, task), INFINI_CANCELLED, "0 of 10");
  CHECK_OK(infini_task_cancel(task));
  CHECK_STATUS(infini_session_next(session, task, &token), INFINI_CANCELLED);
  CHECK(token == -1 && position_of(session) == position_of(whole));
  CHECK_OK(infini_session_next(session, task, &token));
  CHECK_OK(infini_session_next(whole, NULL, &twin));
  CHECK(token == twin);
  check_cancel_within_a_token(session, whole, task);
  infini_session_free(whole);
  infini_session_free(session);

  /* The callback stops, then the task cancels, then the run goes on to its end. */
  session = after_bos(100);
  CHECK_ERROR(infini_session_generate(session, collect, &text, NULL), INFINI_CANCELLED, "callback");
  CHECK(reason_is(session, "none") && memcmp(text.text, expected.text, text.size) == 0);
  CHECK_OK(infini_task_cancel(task));
  CHECK_STATUS(infini_session_generate(session, collect, &text, task), INFINI_CANCELLED);
  CHECK_OK(infini_session_generate(session, collect, &text, task));
  CHECK(memcmp(text.text, expected.text, text.size) == 0 && position_of(session) == 101);
  infini_task_free(task);
  infini_session_free(session);
}

/* A fork goes on as its parent, text that waits to be fetched included, and outlives model and parent. */
static void check_fork(void) {
  infini_session *session = after_bos(40), *fork = NULL;
  char one[64], other[64];
  size_t size = 0;
  infini_options *options = NULL;
  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_set_double(options, "temperature", 1));
  CHECK_OK(infini_options_set_int(options, "seed", 7));
  CHECK_OK(infini_session_set_options(session, options));
  CHECK_OK(infini_session_next_text(session, NULL, one, sizeof one, &size));
  CHECK_OK(infini_session_next_text(session, NULL, NULL, 0, &size));
  CHECK_OK(infini_session_fork(session, &fork));
  infini_status status;
  while ((status = infini_session_next_text(session, NULL, one, sizeof one, NULL)) == INFINI_OK) {
    CHECK_OK(infini_session_next_text(fork, NULL, other, sizeof other, NULL));
    CHECK(strcmp(one, other) == 0);
  }
  CHECK_STATUS(infini_session_next_text(fork, NULL, other, sizeof other, NULL), INFINI_END);
  infini_session_free(session);
  CHECK_OK(infini_session_feed_text(fork, " and then", 9, NULL));
  char json[512];
  CHECK_OK(infini_session_info_json(fork, json, sizeof json, NULL));
  CHECK(strstr(json, "\"seed\":7") && strstr(json, "\"temperature\":1.0"));
  CHECK(strstr(json, "\"stop_reason\":\"max_tokens\""));
  CHECK_OK(infini_session_reset(fork));
  CHECK(position_of(fork) == 0);
  infini_options_free(options);
  infini_session_free(fork);
}

/* A long text in pieces of any size is the text tokenized at once. */
static void check_text_stream(void) {
  enum { SIZE = 30000 };
  static char text[SIZE + 1], piece[65536];
  for (size_t i = 0, n = strlen(expected.text); i < SIZE; ++i) text[i] = expected.text[i % n];
  infini_text_stream *stream = NULL;
  infini_session *session = new_session(stories, 1);
  size_t size = 0, total = 0, count = 0;
  CHECK_OK(infini_text_stream_create(&stream));
  for (size_t at = 0; at < SIZE; at += 7919) {
    CHECK_OK(infini_text_stream_push(stream, text + at, at + 7919 < SIZE ? 7919 : SIZE - at));
    if (at + 7919 >= SIZE) CHECK_OK(infini_text_stream_finish(stream));
    while (infini_text_stream_next(stream, NULL, 0, &size) == INFINI_OK) {
      CHECK_STATUS(infini_text_stream_next(stream, piece, size - 1, NULL), INFINI_BUFFER_TOO_SMALL);
      CHECK_OK(infini_text_stream_next(stream, piece, sizeof piece, &size));
      CHECK(memcmp(text + total, piece, size) == 0);
      total += size;
      CHECK_OK(infini_session_feed_text(session, piece, size, NULL));
    }
  }
  CHECK(total == SIZE);
  CHECK_OK(infini_model_token_count(stories, text, SIZE, INFINI_TOKENS_START, &count));
  CHECK(position_of(session) == (int64_t)count);
  CHECK_STATUS(infini_text_stream_push(stream, "a", 1), INFINI_STATE);
  infini_text_stream_free(stream);

  CHECK_OK(infini_text_stream_create(&stream));
  CHECK_OK(infini_text_stream_push(stream, "ab\xc3", 3));
  CHECK_ERROR(infini_text_stream_push(stream, "x", 1), INFINI_INVALID_ARGUMENT, "2");
  CHECK_STATUS(infini_text_stream_finish(stream), INFINI_INVALID_ARGUMENT);
  CHECK_OK(infini_text_stream_push(stream, "\xbc", 1));
  CHECK_OK(infini_text_stream_finish(stream));
  CHECK_OK(infini_text_stream_next(stream, piece, sizeof piece, &size));
  CHECK(strcmp(piece, "ab\xc3\xbc") == 0);
  CHECK_STATUS(infini_text_stream_next(stream, piece, sizeof piece, &size), INFINI_END);
  infini_text_stream_free(stream);
  infini_session_free(session);
}

int main(void) {
  expected = read_golden();
  stories = open_model(STORIES, "f32");
  check_transcript();
  check_numbers();
  check_stops();
  check_cancel();
  check_text_stream();

  /* The model goes before its sessions. */
  infini_session *session = after_bos(3);
  infini_model *model = stories;
  infini_session *other = new_session(model, 3);
  check_fork();
  infini_model_free(model);
  int32_t token = 0;
  for (int i = 0; i < 3; ++i) {
    CHECK_OK(infini_session_next(session, NULL, &token));
    CHECK(token == expected.tokens[i]);
  }
  infini_session_free(other);
  infini_session_free(session);
  return check_failures != 0;
}
