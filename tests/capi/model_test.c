/* Models: opening, creating, saving, facts, text and tokens. */
#include <errno.h>

#include "check.h"

#define SAVED "capi_model_test.gguf"
#ifdef _WIN32 /* which replaces no file that is being read */
#define QUANTIZED "capi_model_test.q8.gguf"
#else
#define QUANTIZED SAVED
#endif

static int has(const infini_model *model, const char *name, const char *expected) {
  char value[128];
  CHECK_OK(infini_model_info(model, name, value, sizeof value, NULL));
  if (strcmp(value, expected) == 0) return 1;
  fprintf(stderr, "%s is '%s'\n", name, value);
  return 0;
}

static void write_file(const char *path, const void *data, size_t size) {
  FILE *file = fopen(path, "wb");
  CHECK(file && fwrite(data, 1, size, file) == size);
  if (file) fclose(file);
}

static void check_bad_files(void) {
  infini_model *model = NULL;
  infini_options *options = NULL;
  CHECK_ERROR(infini_model_open("/nonexistent/m\xc3\xb6"
                                "del.gguf",
                                NULL, NULL, &model),
              INFINI_IO,
              "m\xc3\xb6"
              "del");
  CHECK(infini_last_os_error() == ENOENT);
  CHECK_ERROR(infini_model_open("", NULL, NULL, &model), INFINI_IO, "");
  CHECK_STATUS(infini_model_open("/", NULL, NULL, &model), INFINI_IO);
  write_file(SAVED, "", 0);
  CHECK_STATUS(infini_model_open(SAVED, NULL, NULL, &model), INFINI_TRUNCATED);
  CHECK(infini_last_os_error() == 0);
  write_file(SAVED, "this is no model at all, but a sentence", 39);
  CHECK_ERROR(infini_model_open(SAVED, NULL, NULL, &model), INFINI_FORMAT, SAVED);
  write_file(SAVED, "GGUF\x03\0\0\0\x01\0\0\0", 12);
  CHECK_ERROR(infini_model_open(SAVED, NULL, NULL, &model), INFINI_TRUNCATED, SAVED);
  write_file(SAVED, "GGUF\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
  CHECK_ERROR(infini_model_open(SAVED, NULL, NULL, &model), INFINI_VERSION, "9");
  remove(SAVED);
  CHECK(model == NULL);

  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_set_int(options, "segment", 100000));
  CHECK_ERROR(infini_model_open(STORIES, options, NULL, &model), INFINI_INVALID_ARGUMENT, "window");
  CHECK_OK(infini_options_set_int(options, "segment", 20000000));
  CHECK_ERROR(infini_model_open(STORIES, options, NULL, &model), INFINI_INVALID_ARGUMENT, "window");
  infini_options_free(options);
}

static void check_facts(void) {
  infini_model *model = open_model(STORIES, "f32");
  size_t size = 0, vocabulary = 0, width = 0;
  char fingerprint[64];
  CHECK(has(model, "architecture", "llama") && has(model, "layers", "5") && has(model, "heads", "8"));
  CHECK(has(model, "kv_heads", "4") && has(model, "width", "64") && has(model, "tokenizer", "llama"));
  CHECK(has(model, "compute", "f32") && has(model, "trained_memory", "false") && has(model, "chat_template", "null"));
  CHECK(has(model, "segment", "254") && has(model, "carry", "254") && has(model, "sinks", "4"));
  CHECK(has(model, "epsilon", "1e-06") && has(model, "llama.block_count", "5"));
  CHECK_OK(infini_model_info(model, "fingerprint", fingerprint, sizeof fingerprint, &size));
  CHECK(size == 32 && strspn(fingerprint, "0123456789abcdef") == 32);
  CHECK_ERROR(infini_model_info(model, "colour", NULL, 0, &size), INFINI_INVALID_ARGUMENT, "fingerprint");
  CHECK_ERROR(infini_model_info(model, "tokenizer.ggml.tokens", NULL, 0, &size), INFINI_INVALID_ARGUMENT, "array");
  CHECK_OK(infini_model_vocabulary(model, &vocabulary));
  CHECK_OK(infini_model_width(model, &width));
  CHECK(vocabulary == 512 && width == 64);

  CHECK_OK(infini_model_info_json(model, NULL, 0, &size));
  char *json = malloc(size);
  CHECK_STATUS(infini_model_info_json(model, json, size - 1, &size), INFINI_BUFFER_TOO_SMALL);
  CHECK_OK(infini_model_info_json(model, json, size, NULL));
  CHECK(json[0] == '{' && json[size - 1] == '}');
  free(json);

  /* Saved and opened again it is the same model. */
  CHECK_OK(infini_model_save(model, SAVED, NULL));
  infini_model *again = open_model(SAVED, "f32");
  CHECK(has(again, "fingerprint", fingerprint));
  infini_model_free(again);
  CHECK_STATUS(infini_model_save(model, "/nonexistent/model.gguf", NULL), INFINI_IO);

  /* Quantised it takes a quarter, and says what it is made of; what cannot be is refused, and nothing is written. */
  infini_task *task = NULL;
  CHECK_OK(infini_task_create(&task));
  CHECK_OK(infini_model_quantize(SAVED, QUANTIZED, "Q8_0", NULL, task));
  int64_t bytes_done = 0;
  CHECK_OK(infini_task_done(task, &bytes_done));
  CHECK(bytes_done > 0);
  infini_model *small = open_model(QUANTIZED, "f32");
  CHECK(has(small, "tensor_types", "{\"Q8_0\":31,\"F32\":11,\"F16\":5}"));
  infini_model_free(small);
  CHECK_ERROR(infini_model_quantize(SAVED, SAVED, "q9", NULL, NULL), INFINI_INVALID_ARGUMENT, "IQ4_XS");
  CHECK_STATUS(infini_model_quantize(SAVED, "/nonexistent/model.gguf", "q8_0", NULL, NULL), INFINI_IO);
  CHECK_STATUS(infini_model_quantize("/nonexistent/model.gguf", SAVED, "q8_0", NULL, NULL), INFINI_IO);
  infini_task_cancel(task);
  CHECK_STATUS(infini_model_quantize(SAVED, SAVED, "q4_0", NULL, task), INFINI_CANCELLED);
  infini_task_free(task);
  remove(QUANTIZED);
  remove(SAVED);
  infini_model_free(model);
}

static void check_settings(infini_model *model) {
  static char table[16384];
  const char path[] = "capi_model_test.none";
  CHECK_OK(infini_creation_settings_json(table, sizeof table, NULL));
  CHECK(strstr(table, "\"layers\"") && strstr(table, "\"qwen2\"") && strstr(table, "\"least\""));
  CHECK_OK(infini_keep_settings_json(table, sizeof table, NULL));
  CHECK(strstr(table, "\"pieces\"") && strstr(table, "[layer, head, nats]"));
  CHECK_ERROR(infini_model_fit_keep(model, "{}", path, NULL), INFINI_INVALID_ARGUMENT, "pieces");
  CHECK_ERROR(infini_model_fit_keep(model, "{\"peaces\": []}", path, NULL), INFINI_INVALID_ARGUMENT, "'pieces'?");
  CHECK_ERROR(infini_model_fit_keep(model, "{\"pieces\": [{\"keep\": 1}]}", path, NULL), INFINI_INVALID_ARGUMENT,
              "lesson_json.pieces[0].keep");
  CHECK_ERROR(infini_model_fit_keep(model, "{\"pieces\": [], \"stray\": 1}", path, NULL), INFINI_INVALID_ARGUMENT,
              "stray");
  CHECK_ERROR(infini_model_fit_keep(model, "{\"pieces\": []}", path, NULL), INFINI_STATE, "keeps no sentences");
}

static void check_create(void) {
  static const char *const config =
      "{\"name\": \"small\", \"layers\": 2, \"width\": 32, \"heads\": 4, \"kv_heads\": 2, \"hidden\": 48, \"segment\": "
      "16,"
      " \"vocabulary\": 40, \"tied\": true, \"gate\": 0.5, \"seed\": 3, \"update\": \"linear\"}";
  infini_model *model = NULL, *twin = NULL;
  infini_session *session = NULL;
  size_t size = 0;
  infini_task *task = NULL;
  char stage[16];
  int64_t done = 0;
  CHECK_OK(infini_task_create(&task));
  CHECK_OK(infini_task_cancel(task));
  CHECK_ERROR(infini_model_create(config, NULL, task, &model), INFINI_CANCELLED, "creating");
  CHECK(!model);
  CHECK_OK(infini_model_create(config, NULL, task, &model));
  CHECK_OK(infini_task_stage(task, stage, sizeof stage, NULL));
  CHECK_OK(infini_task_done(task, &done));
  CHECK(strcmp(stage, "open") == 0 && done > 1);
  CHECK_OK(infini_task_cancel(task));
  CHECK_ERROR(infini_model_save(model, "capi_model_test.none", task), INFINI_CANCELLED, "as it was");
  CHECK(fopen("capi_model_test.none", "rb") == NULL);
  infini_task_free(task);
  CHECK_OK(infini_model_create(config, NULL, NULL, &twin));
  if (!model || !twin) exit(1);
  char fingerprint[33];
  CHECK_OK(infini_model_info(model, "fingerprint", fingerprint, sizeof fingerprint, NULL));
  CHECK(has(twin, "fingerprint", fingerprint) && has(model, "update", "linear") && has(model, "memory_heads", "4"));
  CHECK(has(model, "name", "small") && has(model, "tokenizer", "null") && has(model, "vocabulary", "40") &&
        has(model, "segment", "16"));
  infini_model_free(twin);

  /* Tokens only: text is refused, tokens work. */
  session = new_session(model, 3);
  int32_t tokens[] = {1, 2, 39};
  int64_t in_segment = 0, in_memory = 0;
  CHECK_ERROR(infini_session_feed_text(session, "a", 1, NULL), INFINI_STATE, "tokenizer");
  CHECK_ERROR(infini_model_token_count(model, "a", 1, INFINI_TOKENS_START, &size), INFINI_STATE, "tokenizer");
  CHECK_OK(infini_session_feed(session, tokens, 3, NULL));
  CHECK_STATUS(infini_session_next_text(session, NULL, NULL, 0, &size), INFINI_STATE);
  for (int i = 0; i < 3; ++i) CHECK_OK(infini_session_next(session, NULL, tokens));
  CHECK_STATUS(infini_session_next(session, NULL, tokens), INFINI_END);
  CHECK(tokens[0] == -1);
  for (int i = 0; i < 10; ++i) CHECK_OK(infini_session_feed(session, tokens + 1, 2, NULL));
  CHECK_OK(infini_session_segment_position(session, &in_segment));
  CHECK_OK(infini_session_memory_tokens(session, &in_memory));
  CHECK(position_of(session) == 26 && in_segment == 10 && in_memory == 16);
  CHECK_OK(infini_session_close_segment(session));
  CHECK_OK(infini_session_close_segment(session));
  CHECK_OK(infini_session_segment_position(session, &in_segment));
  CHECK_OK(infini_session_memory_tokens(session, &in_memory));
  CHECK(in_segment == 0 && in_memory == 26);
  infini_session_free(session);
  infini_model_free(model);

  /* With the tokenizer of another model. */
  CHECK_OK(
      infini_model_create("{\"layers\": 1, \"gate\": \"-inf\", \"tokenizer\": \"" STORIES "\"}", NULL, NULL, &model));
  CHECK(has(model, "name", "created") && has(model, "vocabulary", "512") && has(model, "tokenizer", "llama") &&
        has(model, "memory_heads", "0"));
  infini_model_free(model);

  static const struct {
    const char *json, *message;
  } bad[] = {{"{", "config_json"},
             {"[]", "object"},
             {"{\"layer\": 2}", "layers"},
             {"{\"layers\": 0}", "layers"},
             {"{\"layers\": 2.5}", "a whole number"},
             {"{\"layers\": 18446744073709551615}", "a whole number"},
             {"{\"context\": 5000000000}", "2147483647"},
             {"{\"tied\": 1}", "true or false"},
             {"{\"epsilon\": \"-inf\"}", "a number"},
             {"{\"update\": 1}", "a text"},
             {"{\"heads\": 3, \"kv_heads\": 2}", "head"},
             {"{\"update\": \"x\"}", "update"},
             {"{\"epsilon\": -1}", "epsilon"},
             {"{\"rope_base\": 0}", "rope"},
             {"{\"gate\": 1e300}", "gate"},
             {"{\"segment\": 100000000}", "window"},
             {"{\"width\": 1048576, \"head_size\": 64, \"hidden\": 4194304, \"layers\": 4096}", "GiB"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; ++i) {
    CHECK_ERROR(infini_model_create(bad[i].json, NULL, NULL, &model), INFINI_INVALID_ARGUMENT, bad[i].message);
    CHECK(model == NULL);
  }
  enum { DEEP = 1000000 }; /* deeper than a stack */
  char *deep = malloc(DEEP + 1);
  memset(deep, '[', DEEP);
  deep[DEEP] = 0;
  CHECK_ERROR(infini_model_create(deep, NULL, NULL, &model), INFINI_INVALID_ARGUMENT, "nested");
  free(deep);
  CHECK_STATUS(infini_model_create("{\"tokenizer\": \"/nonexistent\"}", NULL, NULL, &model), INFINI_IO);
  CHECK_ERROR(infini_model_create("{\"embedding_deviation\": 0}", NULL, NULL, &model), INFINI_INVALID_ARGUMENT,
              "embedding_deviation");
  CHECK_ERROR(infini_model_create("{\"embedding_deviation\": -1}", NULL, NULL, &model), INFINI_INVALID_ARGUMENT,
              "embedding_deviation");
}

static void check_text(void) {
  static const char text[] = "Once upon a time, Z\xc3\xbcrich \xf0\x9f\x99\x82";
  infini_model *model = open_model(STORIES, "f32");
  size_t n = 0, again = 0, size = 0;
  int32_t tokens[64], bos = 0, eos = 0;
  char back[64];
  int answer = -1;
  CHECK_OK(infini_model_tokenize(model, text, strlen(text), INFINI_TOKENS_START, NULL, 0, &n));
  CHECK_OK(infini_model_token_count(model, text, strlen(text), INFINI_TOKENS_START, &again));
  CHECK(n == again && n > 5 && n < 64);
  CHECK_STATUS(infini_model_tokenize(model, text, strlen(text), INFINI_TOKENS_START, tokens, n - 1, &again),
               INFINI_BUFFER_TOO_SMALL);
  CHECK(n == again);
  CHECK_OK(infini_model_tokenize(model, text, strlen(text), INFINI_TOKENS_START, tokens, n, NULL));
  CHECK_OK(infini_model_bos(model, &bos));
  CHECK_OK(infini_model_eos(model, &eos));
  CHECK(bos == 1 && eos == 2 && tokens[0] == bos);
  CHECK_OK(infini_model_detokenize(model, tokens, n, INFINI_TOKENS_START, back, sizeof back, &size));
  CHECK(size == strlen(text) && strcmp(back, text) == 0);
  /* Not at the start: no BOS, no space prefix, and back again with what the prefix was. */
  CHECK_OK(infini_model_tokenize(model, " time", 5, 0, tokens, 64, &n));
  CHECK_OK(infini_model_detokenize(model, tokens, n, 0, back, sizeof back, &size));
  CHECK(tokens[0] != bos && size == 5 && memcmp(back, " time", 5) == 0);
  /* Control tokens are text, unless asked for. */
  CHECK_OK(infini_model_token_count(model, "</s>", 4, 0, &n));
  CHECK(n > 1);
  CHECK_OK(infini_model_tokenize(model, "</s>", 4, INFINI_TOKENS_SPECIAL, tokens, 64, &n));
  CHECK(n == 1 && tokens[0] == eos);
  CHECK_OK(infini_model_detokenize(model, tokens, 1, INFINI_TOKENS_START, back, sizeof back, &size));
  CHECK(size == 0 && back[0] == 0);
  CHECK_OK(
      infini_model_detokenize(model, tokens, 1, INFINI_TOKENS_SPECIAL | INFINI_TOKENS_START, back, sizeof back, &size));
  CHECK(strcmp(back, "</s>") == 0);
  CHECK_OK(infini_model_token_is_end(model, eos, &answer));
  CHECK(answer == 1);
  CHECK_OK(infini_model_token_is_control(model, bos, &answer));
  CHECK(answer == 1);
  CHECK_OK(infini_model_token_is_end(model, 403, &answer));
  CHECK(answer == 0);
  CHECK_ERROR(infini_model_token_is_end(model, 512, &answer), INFINI_INVALID_ARGUMENT, "512");
  CHECK_ERROR(infini_model_token_is_control(model, -1, &answer), INFINI_INVALID_ARGUMENT, "-1");
  tokens[0] = INT32_MAX;
  CHECK_STATUS(infini_model_detokenize(model, tokens, 1, INFINI_TOKENS_START, back, sizeof back, &size),
               INFINI_INVALID_ARGUMENT);
  CHECK_ERROR(infini_model_token_count(model, "a", 1, 4, &n), INFINI_INVALID_ARGUMENT, "flags is 4");
  CHECK_ERROR(infini_model_apply_chat(model, "[]", -1, NULL, 0, &size), INFINI_INVALID_ARGUMENT, "flags is -1");
  CHECK_ERROR(infini_model_token_count(model, "abc\xff", 4, INFINI_TOKENS_START, &n), INFINI_INVALID_ARGUMENT,
              "byte 3");
  CHECK_OK(infini_model_token_count(model, NULL, 0, 0, &n));
  CHECK(n == 0);

  static const char messages[] = "[{\"role\": \"user\", \"content\": \"Hello\"}]";
  CHECK_ERROR(infini_model_apply_chat(model, messages, INFINI_CHAT_FIRST | INFINI_CHAT_REPLY, NULL, 0, &size),
              INFINI_UNSUPPORTED, "no chat template");
  CHECK_ERROR(infini_model_chat_turn_end(model, NULL, 0, &size), INFINI_UNSUPPORTED, "no chat template");
  CHECK_ERROR(infini_model_apply_chat(model, "{}", INFINI_CHAT_FIRST | INFINI_CHAT_REPLY, NULL, 0, &size),
              INFINI_INVALID_ARGUMENT, "list");
  CHECK_ERROR(infini_model_apply_chat(model, "[1]", INFINI_CHAT_FIRST | INFINI_CHAT_REPLY, NULL, 0, &size),
              INFINI_INVALID_ARGUMENT, "message 0");
  CHECK_ERROR(infini_model_apply_chat(model, "[", INFINI_CHAT_FIRST | INFINI_CHAT_REPLY, NULL, 0, &size),
              INFINI_INVALID_ARGUMENT, "messages_json");
  infini_model_free(model);
}

static void check_footprint(void) {
  infini_model *model = open_model(STORIES, "f32");
  char json[1024];
  size_t size = 0;
  CHECK_OK(infini_paper_footprint_json(1000000, json, sizeof json, &size));
  CHECK(strstr(json, "{\"method\":\"transformer_xl\",\"values\":50331648,\"bytes\":201326592}"));
  CHECK(strstr(json, "{\"method\":\"memorizing_transformer\",\"values\":183451648,"));
  CHECK(strstr(json, "{\"method\":\"rmt\",\"values\":2457600,"));
  CHECK(strstr(json, "{\"method\":\"infini_attention\",\"values\":1585152,"));
  CHECK_OK(infini_model_footprint_json(model, 1000, json, sizeof json, &size));
  CHECK(strstr(json, "{\"tokens\":1000,\"methods\":[{\"method\":\"kv_cache\",\"values\":320000,\"bytes\":1280000}"));
  CHECK(strstr(json, "{\"method\":\"infini_attention\",\"values\":1440,\"bytes\":5760}"));
  CHECK_STATUS(infini_model_footprint_json(model, -1, json, sizeof json, &size), INFINI_INVALID_ARGUMENT);
  CHECK_STATUS(infini_model_footprint_json(model, INT64_MAX, json, sizeof json, &size), INFINI_INVALID_ARGUMENT);
  CHECK_STATUS(infini_paper_footprint_json(1, json, 3, &size), INFINI_BUFFER_TOO_SMALL);
  infini_model_free(model);

  /* Of four layers two have windows of their own, of 16 tokens: beside the open segment of 254 they hold 15. */
  model = open_model(INFINI_SOURCE_DIR "/tests/fixtures/arch/gemma2.gguf", "f32");
  CHECK_OK(infini_model_footprint_json(model, 1000, json, sizeof json, &size));
  const int token_bytes = 2 * (32 + 32) * 4;
  char expected[64];
  snprintf(expected, sizeof expected, "\"window_bytes\":%d", token_bytes * 2 * (512 + 15 + 254));
  CHECK(strstr(json, expected));

  /* What a session holds in all, as one tells that has read a chunk. */
  const char *const in_all = strstr(json, "\"session_bytes\":");
  CHECK(in_all);
  infini_session *session = NULL;
  CHECK_OK(infini_session_create(model, NULL, &session));
  int32_t tokens[2000];
  for (int i = 0; i < 2000; ++i) tokens[i] = 5;
  CHECK_OK(infini_session_feed(session, tokens, 2000, NULL));
  char facts[4096];
  CHECK_OK(infini_session_info_json(session, facts, sizeof facts, &size));
  const char *const held = strstr(facts, "\"session_bytes\":");
  CHECK(held);
  const double counted = atof(in_all + strlen("\"session_bytes\":")),
               measured = atof(held + strlen("\"session_bytes\":"));
  CHECK(counted > 0.99 * measured && counted < 1.01 * measured); /* what is noted of each open token varies */
  infini_session_free(session);
  infini_model_free(model);
}

int main(void) {
  check_bad_files();
  check_facts();
  check_create();
  infini_model *stories = open_model(STORIES, "f32");
  check_settings(stories);
  infini_model_free(stories);
  check_text();
  check_footprint();
  return check_failures != 0;
}
