/* Random calls with arguments good and bad, for AddressSanitizer: an error or a result, never a crash, and buffers
   of exactly the size that was promised. Seeded; INFINI_FUZZ_SECONDS (10) limits the time, INFINI_FUZZ_SEED chooses. */
#define _GNU_SOURCE
#include <sched.h>
#include <time.h>

#include "check.h"

enum { SLOTS = 4 };

static uint64_t state = 1;
static infini_options *options[SLOTS];
static infini_task *tasks[SLOTS];
static infini_model *models[SLOTS];
static infini_session *sessions[SLOTS];
static infini_text_stream *streams[SLOTS];
static infini_batch *batches[SLOTS];
static struct {
  void *bytes;
  size_t size;
} snapshots[SLOTS]; /* those that were saved last, some of them damaged */
static long statuses[2000], chats_read;

static uint32_t draw(uint32_t below) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 33) % below;
}
static int once_in(uint32_t n) { return draw(n) == 0; }

/* Every status is a known one and none is a fault; every error says something. */
static infini_status got(infini_status status) {
  CHECK(strcmp(infini_status_name((int)status), "UNKNOWN") != 0 && status != INFINI_INTERNAL);
  CHECK(status <= INFINI_END || infini_last_error()[0] != 0);
  ++statuses[status];
  return status;
}

/* A handle of one kind, or NULL once in a while. */
#define PICK(slots) (slots[draw(SLOTS)])

static const char *const names[] = {"compute",
                                    "gemm",
                                    "threads",
                                    "memory",
                                    "update",
                                    "segment",
                                    "carry",
                                    "sinks",
                                    "chunk",
                                    "deterministic",
                                    "max_tokens",
                                    "temperature",
                                    "top_k",
                                    "top_p",
                                    "min_p",
                                    "repetition_penalty",
                                    "presence_penalty",
                                    "frequency_penalty",
                                    "penalty_window",
                                    "checkpoints",
                                    "compress",
                                    "rewind_sampler",
                                    "logit_bias",
                                    "seed",
                                    "stop",
                                    "ignore_end",
                                    "special",
                                    "nothing",
                                    ""};
static const char *const texts[] = {"auto", "f32",          "bf16",  "onednn", "openblas", "native", "file",
                                    "open", "off",          "delta", "linear", "",         "e",      "ab\n\\n",
                                    "\\",   "3:1.5,4:-inf", "3:",    "x",      "-1:0",     "\xff",   "1:nan"};
static const double reals[] = {0, 1, -1, 0.5, 2, 100, 1e300, -1e300, 1e-30};
static const int64_t integers[] = {0, 1, 2, -1, 7, 16, 64, 600, INT32_MAX, INT64_MAX, INT64_MIN};

/* A text of the caller's in a buffer of its own size; not always UTF-8. */
static char *random_text(size_t *size) {
  static const char *const parts[] = {"a",   " ", "Once upon a time", "\n", "</s>", "\xc3\xa9", "\xf0\x9f\x99\x82",
                                      "<s>", "1"};
  const uint32_t count = draw(12);
  char *text = malloc(256);
  *size = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const char *part = parts[draw(sizeof parts / sizeof *parts)];
    memcpy(text + *size, part, strlen(part));
    *size += strlen(part);
  }
  if (once_in(10) && *size > 0) text[draw((uint32_t)*size)] = (char)draw(256);
  char *exact = realloc(text, *size + (*size == 0));
  return exact;
}

static int32_t *random_tokens(size_t *count) {
  *count = once_in(8) ? draw(700) : draw(20);
  int32_t *tokens = malloc(*count * sizeof *tokens + (*count == 0));
  for (size_t i = 0; i < *count; ++i) tokens[i] = (int32_t)draw(30);
  if (once_in(10) && *count > 0) tokens[draw((uint32_t)*count)] = (int32_t)draw(2000) - 1000;
  return tokens;
}

/* Calls a function of the buffer rule: for the size, too small, and exactly right. `call` uses b, n, &size. */
#define BUFFER_CALLS(type, call)                                                               \
  do {                                                                                         \
    size_t size = 0, n = 0;                                                                    \
    type *b = NULL;                                                                            \
    if (got(call) != INFINI_OK) break;                                                         \
    n = size > 0 && once_in(3) ? draw((uint32_t)size) : size + draw(2);                        \
    const size_t promised = size;                                                              \
    b = malloc(n * sizeof *b + (n == 0));                                                      \
    const infini_status result = got(call);                                                    \
    CHECK(result == (n < promised ? INFINI_BUFFER_TOO_SMALL : INFINI_OK) && size == promised); \
    free(b);                                                                                   \
  } while (0)

/* The same for calls that work before they write: what they ask for is enough, and too little ends them before the work. */
#define WORK_CALLS(call)                                                                                       \
  do {                                                                                                         \
    size_t size = 0, n = 0;                                                                                    \
    char *b = NULL;                                                                                            \
    if (got(call) != INFINI_OK) break;                                                                         \
    n = size > 0 && once_in(3) ? draw((uint32_t)size) : size + draw(2);                                        \
    const size_t promised = size;                                                                              \
    b = malloc(n + (n == 0));                                                                                  \
    const infini_status result = got(call);                                                                    \
    CHECK((result == INFINI_BUFFER_TOO_SMALL) == (n < promised) && (result != INFINI_OK || size <= promised)); \
    free(b);                                                                                                   \
  } while (0)

static int stop_sometimes(void *user_data, const char *text, size_t text_size) {
  CHECK(text && text_size > 0);
  return --*(int *)user_data <= 0;
}
static int progress_sometimes(void *user_data, const char *stage, int64_t done, int64_t total) {
  (void)user_data;
  CHECK(stage[0] != 0 && done >= 0 && (total == 0 || done <= total));
  return once_in(20);
}

static void call_options(void) {
  infini_options **slot = &PICK(options);
  int64_t number = 0;
  double real = 0;
  const char *const name = names[draw(sizeof names / sizeof *names)];
  switch (draw(7)) {
    case 0:
      if (!once_in(4)) break;
      infini_options_free(*slot);
      if (once_in(8)) *slot = NULL;
      else got(infini_options_create(slot));
      break;
    case 1: got(infini_options_set_int(*slot, name, integers[draw(sizeof integers / sizeof *integers)])); break;
    case 2: got(infini_options_set_double(*slot, name, reals[draw(sizeof reals / sizeof *reals)])); break;
    case 3: got(infini_options_set_string(*slot, name, texts[draw(sizeof texts / sizeof *texts)])); break;
    case 4: got(infini_options_get_int(*slot, name, &number)); break;
    case 5: got(infini_options_get_double(*slot, name, &real)); break;
    case 6: BUFFER_CALLS(char, infini_options_get_string(*slot, name, b, n, &size)); break;
  }
}

static void call_task_and_log(void) {
  infini_task **slot = &PICK(tasks);
  int64_t number = 0;
  int level = 0;
  switch (draw(6)) {
    case 0:
      infini_task_free(*slot);
      if (once_in(8)) *slot = NULL;
      else got(infini_task_create(slot));
      break;
    case 1:
      if (once_in(4)) got(infini_task_cancel(*slot));
      break;
    case 2: got(infini_task_done(*slot, &number)); break;
    case 3: BUFFER_CALLS(char, infini_task_stage(*slot, b, n, &size)); break;
    case 4: got(infini_task_set_progress(*slot, once_in(2) ? progress_sometimes : NULL, NULL)); break;
    case 5: BUFFER_CALLS(char, infini_log_next(&level, b, n, &size)); break;
  }
}

static void call_stream(void) {
  infini_text_stream **slot = &PICK(streams);
  size_t text_size = 0;
  char *text = random_text(&text_size);
  switch (draw(8)) {
    case 0:
      infini_text_stream_free(*slot);
      if (once_in(8)) *slot = NULL;
      else got(infini_text_stream_create(slot));
      break;
    case 1: got(infini_text_stream_finish(*slot)); break;
    case 2: BUFFER_CALLS(char, infini_text_stream_next(*slot, b, n, &size)); break;
    default: got(infini_text_stream_push(*slot, text, text_size));
  }
  free(text);
}

#define CHATTY "capi_fuzz_test_chat.gguf"

static void replace_model(infini_model **slot) {
  char json[256];
  static const char *const extras[] = {"",
                                       ", \"tied\": true",
                                       ", \"update\": \"linear\"",
                                       ", \"first_segment\": \"ungated\"",
                                       ", \"gate\": \"-inf\"",
                                       ", \"gate\": -3.5",
                                       ", \"carry\": 9, \"sinks\": 3",
                                       ", ",
                                       ", \"tokenizer\": \"" STORIES "\"",
                                       ", \"unknown\": 1",
                                       ", \"head_size\": 6"};
  infini_model_free(*slot);
  if (once_in(3)) {
    got(infini_model_open(once_in(10) ? GOLDEN : once_in(2) ? CHATTY : STORIES, PICK(options), PICK(tasks), slot));
  } else {
    const int heads = 1 << draw(3);
    sprintf(json,
            "{\"layers\": %d, \"width\": %d, \"heads\": %d, \"kv_heads\": %d, \"hidden\": %d, \"vocabulary\": 30,"
            " \"segment\": %d, \"context\": 256, \"seed\": %d%s}",
            1 + (int)draw(2), 8 * (1 + (int)draw(4)), heads, once_in(2) ? heads : 1, 1 + (int)draw(40),
            1 + (int)draw(40), (int)draw(100), extras[draw(sizeof extras / sizeof *extras)]);
    got(infini_model_create(json, PICK(options), NULL, slot));
  }
}

static const char *const chats[] = {"[]",
                                    "[{\"role\":\"user\",\"content\":\"a\"}]",
                                    "[{\"role\":\"system\",\"content\":null},{\"role\":\"user\",\"content\":[]}]",
                                    "[{\"role\":\"user\",\"content\":\"</s>\\u0000<|im_end|>\"}]",
                                    "[{\"role\":1}]",
                                    "{",
                                    "[[[["};

static void call_model(void) {
  infini_model **slot = &PICK(models);
  size_t text_size = 0, n_tokens = 0, number = 0;
  char *text = random_text(&text_size);
  int32_t *tokens = random_tokens(&n_tokens), token = (int32_t)draw(1000) - 100;
  int answer = 0;
  const int flags = (int)draw(once_in(20) ? 100 : 4);
  static const char *const facts[] = {
      "layers", "name", "fingerprint", "general.architecture", "x", "tokenizer.ggml.tokens"};
  switch (draw(13)) {
    case 0:
      if (once_in(3)) replace_model(slot);
      break;
    case 1: got(infini_model_vocabulary(*slot, &number)); break;
    case 2: BUFFER_CALLS(int32_t, infini_model_tokenize(*slot, text, text_size, flags, b, n, &size)); break;
    case 3: got(infini_model_token_count(*slot, text, text_size, flags, &number)); break;
    case 4: BUFFER_CALLS(char, infini_model_detokenize(*slot, tokens, n_tokens, flags, b, n, &size)); break;
    case 5: got(infini_model_token_is_end(*slot, token, &answer)); break;
    case 6: got(infini_model_token_is_control(*slot, token, &answer)); break;
    case 7: {
      const char *const messages = chats[draw(sizeof chats / sizeof *chats)];
      BUFFER_CALLS(char, infini_model_apply_chat(*slot, messages, flags, b, n, &size));
      break;
    }
    case 8: {
      const char *const name = facts[draw(sizeof facts / sizeof *facts)];
      BUFFER_CALLS(char, infini_model_info(*slot, name, b, n, &size));
      break;
    }
    case 9: BUFFER_CALLS(char, infini_model_info_json(*slot, b, n, &size)); break;
    case 10: {
      const int64_t length = integers[draw(sizeof integers / sizeof *integers)];
      BUFFER_CALLS(char, infini_model_footprint_json(*slot, length, b, n, &size));
      break;
    }
    case 11: {
      const char *const messages = chats[draw(sizeof chats / sizeof *chats)];
      BUFFER_CALLS(int32_t, infini_model_chat_tokens(*slot, messages, flags, b, n, &size));
      break;
    }
    case 12:
      if (once_in(20)) got(infini_model_save(*slot, "capi_fuzz_test.gguf", PICK(tasks)));
      break;
  }
  free(text);
  free(tokens);
}

static void call_session(void) {
  infini_session **slot = &PICK(sessions), **other = &PICK(sessions);
  size_t text_size = 0, n_tokens = 0;
  char *text = random_text(&text_size);
  int32_t *tokens = random_tokens(&n_tokens), token = 0;
  const size_t vocabulary = once_in(4) ? draw(600) : once_in(2) ? 30 : 512;
  const size_t wanted = once_in(4) ? draw(2000) : n_tokens * vocabulary;
  float *numbers = malloc((wanted + vocabulary + n_tokens) * sizeof *numbers + 1);
  float *exact = realloc(numbers, wanted * sizeof *numbers + 1);
  int pieces = 1 + (int)draw(10);
  double nll = 0;
  int64_t count = 0;
  switch (draw(19)) {
    case 0:
      if (!once_in(3)) break;
      infini_session_free(*slot);
      got(infini_session_create(PICK(models), PICK(options), slot));
      break;
    case 1:
      if (slot == other) break;
      infini_session_free(*other);
      got(infini_session_fork(*slot, other));
      break;
    case 2: got(infini_session_set_options(*slot, PICK(options))); break;
    case 3:
      if (once_in(4)) BUFFER_CALLS(int32_t, infini_session_text_tokens(*slot, text, text_size, b, n, &size));
      else got(infini_session_feed_text(*slot, text, text_size, PICK(tasks)));
      break;
    case 4: got(infini_session_generate(*slot, stop_sometimes, &pieces, PICK(tasks))); break;
    case 5:
      if (once_in(4)) got(infini_session_next_text(*slot, PICK(tasks), NULL, 0, NULL));
      else BUFFER_CALLS(char, infini_session_next_text(*slot, NULL, b, n, &size));
      break;
    case 6: got(infini_session_next(*slot, PICK(tasks), &token)); break;
    case 7: got(infini_session_start_generation(*slot)); break;
    case 8: BUFFER_CALLS(char, infini_session_stop_reason(*slot, b, n, &size)); break;
    case 9:
      if (once_in(4)) got(infini_session_cancel(*slot));
      break;
    case 10: got(infini_session_logits(*slot, exact, wanted, NULL)); break;
    case 11: got(infini_session_embedding(*slot, exact, wanted, NULL)); break;
    case 12: got(infini_session_feed_logits(*slot, tokens, n_tokens, PICK(tasks), exact, wanted, NULL)); break;
    case 13: got(infini_session_score(*slot, tokens, n_tokens, PICK(tasks), exact, wanted, NULL)); break;
    case 14: got(infini_session_score_text(*slot, text, text_size, PICK(tasks), &nll, &count)); break;
    case 15: got(infini_session_close_segment(*slot)); break;
    case 16:
      if (once_in(3)) got(infini_session_reset(*slot));
      else BUFFER_CALLS(char, infini_session_info_json(*slot, b, n, &size));
      break;
    case 18: {
      const char *const messages = chats[draw(sizeof chats / sizeof *chats)];
      if (once_in(3)) BUFFER_CALLS(int32_t, infini_session_chat_tokens(*slot, messages, b, n, &size));
      else chats_read += got(infini_session_chat(*slot, messages, PICK(tasks))) == INFINI_OK;
      break;
    }
    case 17: got(infini_session_feed(*slot, tokens, n_tokens, PICK(tasks))); break;
  }
  free(exact);
  free(text);
  free(tokens);
}

/* Snapshots in buffers of exactly their size, and on disk; and going back. */
static void call_keeping(void) {
  static const char path[] = "capi_fuzz_test.snap";
  infini_session *const session = PICK(sessions);
  const uint32_t at = draw(SLOTS);
  const int flags = once_in(4) ? (int)draw(4) : 0;
  size_t needed = 0;
  int64_t position = 0;
  switch (draw(7)) {
    case 0: {
      if (got(infini_session_save_buffer(session, flags, "name", NULL, NULL, NULL, 0, &needed)) != INFINI_OK) break;
      free(snapshots[at].bytes);
      snapshots[at].bytes = malloc(needed);
      snapshots[at].size = needed;
      CHECK_OK(infini_session_save_buffer(session, flags, "name", NULL, NULL, snapshots[at].bytes, needed, &needed));
      if (once_in(4)) ((unsigned char *)snapshots[at].bytes)[draw((uint32_t)needed)] ^= (unsigned char)(1u << draw(8));
      if (once_in(8)) snapshots[at].size = draw((uint32_t)needed);
      break;
    }
    case 1:
    case 2: {
      /* Past its end there is nothing to read. */
      void *const exact = malloc(snapshots[at].size + (snapshots[at].size == 0));
      if (snapshots[at].size > 0) memcpy(exact, snapshots[at].bytes, snapshots[at].size);
      if (once_in(3)) {
        WORK_CALLS(infini_snapshot_json_buffer(exact, snapshots[at].size, flags, NULL, b, n, &size));
      } else {
        int64_t before = -1, after = -1;
        const int known = session && infini_session_position(session, &before) == INFINI_OK;
        const infini_status result = got(infini_session_restore_buffer(session, exact, snapshots[at].size, NULL));
        if (known && result != INFINI_OK)
          CHECK(infini_session_position(session, &after) == INFINI_OK && after == before);
      }
      free(exact);
      break;
    }
    case 3:
      if (once_in(10)) got(infini_session_save(session, path, flags, NULL, "note", PICK(tasks)));
      break;
    case 4:
      if (once_in(4)) got(infini_session_restore(session, path, PICK(tasks)));
      break;
    case 5:
      if (got(infini_session_rewind_limit(session, &position)) != INFINI_OK) break;
      got(infini_session_rewind(session, position + (int64_t)draw(40) - 5));
      break;
    case 6: WORK_CALLS(infini_snapshot_json(path, flags, NULL, b, n, &size)); break;
  }
}

static void call_batch(void) {
  infini_batch **slot = &PICK(batches);
  infini_session *const session = PICK(sessions);
  size_t count = 0;
  switch (draw(7)) {
    case 0:
      if (!once_in(3)) break;
      infini_batch_free(*slot);
      *slot = NULL;
      if (!once_in(8)) got(infini_batch_create(PICK(models), slot));
      break;
    case 1:
    case 2: got(infini_batch_add(*slot, session)); break;
    case 3:
      if (once_in(3)) got(infini_batch_remove(*slot, session));
      break;
    case 4: {
      const uint32_t index = draw(6);
      BUFFER_CALLS(char, infini_batch_text(*slot, index, b, n, &size));
      break;
    }
    default:
      if (got(infini_batch_size(*slot, &count)) == INFINI_OK) {
        const size_t room = once_in(5) ? draw(6) : count;
        int32_t *const tokens = malloc(room * sizeof *tokens + 1);
        got(infini_batch_next(*slot, PICK(tasks), tokens, room, NULL));
        free(tokens);
      }
  }
}

int main(void) {
  const char *const limit = getenv("INFINI_FUZZ_SECONDS"), *const seed = getenv("INFINI_FUZZ_SEED");
  const time_t end = time(NULL) + (limit ? atoi(limit) : 10);
  long calls = 0;
  cpu_set_t one; /* processor: no team spins there while another waits for it, and more calls fit the time */
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  sched_setaffinity(0, sizeof one, &one);
  state = seed ? strtoull(seed, NULL, 10) : 1;
  write_chatty_model(CHATTY);
  for (int i = 0; i < SLOTS; ++i) replace_model(&models[i]);
  while (time(NULL) < end && check_failures == 0) {
    switch (draw(10)) {
      case 0: call_options(); break;
      case 1: call_task_and_log(); break;
      case 2: call_stream(); break;
      case 3: call_model(); break;
      case 4: call_keeping(); break;
      case 5: call_batch(); break;
      default: call_session();
    }
    ++calls;
  }
  for (int i = 0; i < SLOTS; ++i) {
    infini_options_free(options[i]);
    infini_task_free(tasks[i]);
    infini_model_free(models[i]);
    infini_session_free(sessions[i]);
    infini_text_stream_free(streams[i]);
    infini_batch_free(batches[i]);
    free(snapshots[i].bytes);
  }
  CHECK(chats_read > 0);
  remove(CHATTY);
  remove("capi_fuzz_test.gguf");
  remove("capi_fuzz_test.snap");
  printf("%ld calls, %ld of them chats that were read:", calls, chats_read);
  for (int i = 0; i < 2000; ++i)
    if (statuses[i] > 0) printf(" %s %ld", infini_status_name(i), statuses[i]);
  printf("\n");
  return check_failures != 0;
}
