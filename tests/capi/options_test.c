/* Statuses, options, tasks, the log. */
#include "check.h"

static void check_statuses(void) {
  static const struct {
    infini_status status;
    int value;
    const char *name;
  } expected[] = {{INFINI_OK, 0, "OK"},
                  {INFINI_END, 1, "END"},
                  {INFINI_INVALID_ARGUMENT, 100, "INVALID_ARGUMENT"},
                  {INFINI_UNKNOWN_OPTION, 101, "UNKNOWN_OPTION"},
                  {INFINI_BUFFER_TOO_SMALL, 102, "BUFFER_TOO_SMALL"},
                  {INFINI_IO, 200, "IO"},
                  {INFINI_NO_SPACE, 201, "NO_SPACE"},
                  {INFINI_FORMAT, 300, "FORMAT"},
                  {INFINI_TRUNCATED, 301, "TRUNCATED"},
                  {INFINI_MODEL_MISMATCH, 400, "MODEL_MISMATCH"},
                  {INFINI_VERSION, 500, "VERSION"},
                  {INFINI_CHECKSUM, 600, "CHECKSUM"},
                  {INFINI_OUT_OF_MEMORY, 700, "OUT_OF_MEMORY"},
                  {INFINI_CANCELLED, 800, "CANCELLED"},
                  {INFINI_STATE, 900, "STATE"},
                  {INFINI_UNSUPPORTED, 1000, "UNSUPPORTED"},
                  {INFINI_INTERNAL, 1100, "INTERNAL"}};
  for (size_t i = 0; i < sizeof expected / sizeof *expected; ++i) {
    CHECK((int)expected[i].status == expected[i].value);
    CHECK(strcmp(infini_status_name(expected[i].value), expected[i].name) == 0);
    CHECK(strlen(infini_status_text(expected[i].value)) > 5);
  }
  CHECK(strcmp(infini_status_name(99), "UNKNOWN") == 0);
}

/* An option that belongs to the other object is refused by every call that takes options, and nothing changes. */
static void check_scopes(void) {
  static const char *const of_model[] = {"segment", "carry", "sinks"}, *const of_session[] = {"chunk", "seed",
                                                                                              "special"};
  infini_model *model = open_model(STORIES, "f32"), *other = NULL;
  infini_session *session = new_session(model, 5), *second = NULL;
  infini_trainer *trainer = NULL;
  infini_options *options = NULL;
  char table[16384];
  CHECK_OK(infini_options_json(table, sizeof table, NULL));
  CHECK(strstr(table, "{\"name\":\"compute\",\"scope\":\"model\",") && strstr(table, "\"threads\",\"scope\":\"any\","));
  CHECK(strstr(table, "\"chunk\",\"scope\":\"session\",") && strstr(table, "\"seed\",\"scope\":\"generation\","));
  CHECK(strstr(table, "\"special\",\"scope\":\"text\","));
  for (size_t i = 0; i < 3; ++i) {
    CHECK_OK(infini_options_create(&options));
    CHECK_OK(infini_options_set_int(options, "threads", 1)); /* belongs to both */
    CHECK_OK(infini_options_set_int(options, of_model[i], 1));
    CHECK_ERROR(infini_session_create(model, options, &second), INFINI_INVALID_ARGUMENT, "belongs to a model");
    CHECK_ERROR(infini_trainer_create(model, "{}", options, NULL, &trainer), INFINI_INVALID_ARGUMENT, of_model[i]);
    CHECK(strstr(infini_last_error(), "a trainer takes compute and threads") != NULL);
    CHECK_ERROR(infini_session_set_options(session, options), INFINI_INVALID_ARGUMENT, of_model[i]);
    infini_options_free(options);
    CHECK_OK(infini_options_create(&options));
    CHECK_OK(infini_options_set_int(options, of_session[i], 1));
    CHECK_OK(infini_session_set_options(session, options));
    CHECK_ERROR(infini_model_open(STORIES, options, NULL, &other), INFINI_INVALID_ARGUMENT, "belongs to a session");
    CHECK_ERROR(infini_model_create(NULL, options, NULL, &other), INFINI_INVALID_ARGUMENT, of_session[i]);
    CHECK_ERROR(infini_trainer_create(model, "{}", options, NULL, &trainer), INFINI_INVALID_ARGUMENT, of_session[i]);
    infini_options_free(options);
  }
  infini_session_free(session);
  infini_model_free(model);
}

static void check_options(void) {
  infini_options *options = NULL;
  int64_t number = 0;
  double real = 0;
  char text[8];
  size_t size = 0;
  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_get_int(options, "chunk", &number));
  CHECK(number == 512);
  CHECK_OK(infini_options_set_int(options, "chunk", 64));
  CHECK_OK(infini_options_get_int(options, "chunk", &number));
  CHECK(number == 64);
  CHECK_OK(infini_options_set_int(options, "temperature", 2)); /* a double takes an int */
  CHECK_OK(infini_options_get_double(options, "temperature", &real));
  CHECK(real == 2);
  CHECK_OK(infini_options_set_double(options, "temperature", 0.5));
  CHECK_OK(infini_options_get_double(options, "temperature", &real));
  CHECK(real == 0.5);

  /* An unknown name lists the known ones; a bad value says what is allowed, and changes nothing. */
  CHECK_ERROR(infini_options_set_int(options, "thread", 1), INFINI_UNKNOWN_OPTION, "threads");
  CHECK_ERROR(infini_options_get_int(options, "", &number), INFINI_UNKNOWN_OPTION, "threads");
  CHECK_ERROR(infini_options_set_int(options, "chunk", 0), INFINI_INVALID_ARGUMENT, "between 1 and 4096");
  CHECK_ERROR(infini_options_set_int(options, "chunk", INT64_MIN), INFINI_INVALID_ARGUMENT, "chunk");
  CHECK_ERROR(infini_options_set_double(options, "top_p", 1.5), INFINI_INVALID_ARGUMENT, "between 0 and 1");
  CHECK_ERROR(infini_options_set_double(options, "chunk", 1.5), INFINI_INVALID_ARGUMENT, "an integer");
  CHECK_ERROR(infini_options_set_string(options, "compute", "f16"), INFINI_INVALID_ARGUMENT, "auto|f32|bf16|int8");
  CHECK_ERROR(infini_options_set_string(options, "chunk", "64"), INFINI_INVALID_ARGUMENT, "an integer");
  CHECK_ERROR(infini_options_set_int(options, "compute", 1), INFINI_INVALID_ARGUMENT, "a text");
  CHECK_ERROR(infini_options_get_int(options, "compute", &number), INFINI_INVALID_ARGUMENT, "a text");
  CHECK_ERROR(infini_options_get_double(options, "chunk", &real), INFINI_INVALID_ARGUMENT, "an integer");
  CHECK_ERROR(infini_options_get_string(options, "chunk", text, sizeof text, &size), INFINI_INVALID_ARGUMENT, "chunk");
  CHECK_OK(infini_options_get_int(options, "chunk", &number));
  CHECK(number == 64);
  /* What is not UTF-8 does not get into the message. */
  CHECK_ERROR(infini_options_set_int(options, "\xff\xfe", 1), INFINI_UNKNOWN_OPTION, "\xef\xbf\xbd");

  /* Buffers: a query, too small, exact, with room. */
  CHECK_OK(infini_options_get_string(options, "compute", NULL, 0, &size));
  CHECK(size == 4);
  memset(text, 'x', sizeof text);
  size = 0;
  CHECK_ERROR(infini_options_get_string(options, "compute", text, 3, &size), INFINI_BUFFER_TOO_SMALL, "4");
  CHECK(size == 4 && text[0] == 'x');
  CHECK_OK(infini_options_get_string(options, "compute", text, 4, &size));
  CHECK(size == 4 && memcmp(text, "autox", 5) == 0);
  CHECK_OK(infini_options_get_string(options, "compute", text, 5, NULL));
  CHECK(memcmp(text, "auto\0x", 6) == 0);
  CHECK_STATUS(infini_options_get_string(options, "compute", text, 0, &size), INFINI_BUFFER_TOO_SMALL);
  infini_options_free(options);
}

static void check_table(void) {
  size_t size = 0, again = 0;
  CHECK_OK(infini_options_json(NULL, 0, &size));
  char *json = malloc(size + 1);
  CHECK_OK(infini_options_json(json, size + 1, &again));
  CHECK(size == again && strlen(json) == size);
  CHECK(strstr(json,
               "{\"name\":\"compute\",\"scope\":\"model\",\"type\":\"string\",\"default\":\"auto\","
               "\"choices\":[\"auto\",\"f32\",\"bf16\",\"int8\"],"));
  CHECK(strstr(
      json,
      "{\"name\":\"chunk\",\"scope\":\"session\",\"type\":\"int\",\"default\":512,\"least\":1,\"greatest\":4096,"));
  CHECK(strstr(json,
               "{\"name\":\"top_p\",\"scope\":\"generation\",\"type\":\"double\",\"default\":1.0,\"least\":0.0,"
               "\"greatest\":1.0,"));
  CHECK(
      strstr(json, "{\"name\":\"seed\",\"scope\":\"generation\",\"type\":\"int\",\"default\":0,\"least\":0,\"help\":"));
  free(json);
}

static int count_progress(void *user_data, const char *stage, int64_t done, int64_t total) {
  CHECK(strcmp(stage, "open") == 0 && done >= 1 && done <= total);
  ++*(int *)user_data;
  return 0;
}
static int refuse_progress(void *user_data, const char *stage, int64_t done, int64_t total) {
  (void)stage, (void)done, (void)total;
  return ++*(int *)user_data >= 2;
}

static void check_tasks(void) {
  infini_task *task = NULL;
  infini_model *model = NULL;
  int64_t done = -1, total = -1;
  char stage[16];
  int calls = 0;
  CHECK_OK(infini_task_create(&task));
  CHECK_OK(infini_task_stage(task, stage, sizeof stage, NULL));
  CHECK(strcmp(stage, "idle") == 0);
  CHECK_OK(infini_task_set_progress(task, count_progress, &calls));
  CHECK_OK(infini_model_open(STORIES, NULL, task, &model));
  CHECK_OK(infini_task_stage(task, stage, sizeof stage, NULL));
  CHECK_OK(infini_task_done(task, &done));
  CHECK_OK(infini_task_total(task, &total));
  CHECK(strcmp(stage, "open") == 0 && done == total && total > 1 && calls == total);
  infini_model_free(model);

  /* A cancel from the callback; then one from outside, which waits for the next call and is used up by it. */
  calls = 0;
  CHECK_OK(infini_task_set_progress(task, refuse_progress, &calls));
  CHECK_ERROR(infini_model_open(STORIES, NULL, task, &model), INFINI_CANCELLED, "cancelled");
  CHECK(model == NULL && calls == 2);
  CHECK_OK(infini_task_set_progress(task, NULL, NULL));
  CHECK_OK(infini_task_cancel(task));
  CHECK_OK(infini_task_cancel(task));
  CHECK_STATUS(infini_model_open(STORIES, NULL, task, &model), INFINI_CANCELLED);
  CHECK_OK(infini_model_open(STORIES, NULL, task, &model));
  CHECK_OK(infini_task_cancel(task));
  CHECK_STATUS(infini_model_save(model, "options_test.gguf", task), INFINI_CANCELLED);
  CHECK(fopen("options_test.gguf", "rb") == NULL);
  infini_model_free(model);
  infini_task_free(task);
}

static void hear(void *user_data, int level, const char *message) {
  CHECK(level >= INFINI_LOG_DEBUG && level <= INFINI_LOG_WARNING && message[0] != 0);
  if (level == INFINI_LOG_WARNING && strstr(message, "infini.version")) ++*(int *)user_data;
}

/* stories260K has no trained memory: opening it warns, through the callback and through the queue. */
static void check_log(void) {
  infini_model *model = NULL;
  int heard = 0, level = -1, pulled = 0;
  char message[1024], small[4];
  size_t size = 0, taken = 0;
  while (infini_log_next(NULL, message, sizeof message, NULL) == INFINI_OK) {}
  CHECK_OK(infini_log_set_callback(hear, &heard));
  CHECK_OK(infini_model_open(STORIES, NULL, NULL, &model));
  CHECK_OK(infini_log_set_callback(NULL, NULL));
  infini_model_free(model);
  CHECK(heard == 1);

  CHECK_OK(infini_log_next(&level, NULL, 0, &size));
  CHECK_STATUS(infini_log_next(&level, small, sizeof small, &size), INFINI_BUFFER_TOO_SMALL);
  CHECK_OK(infini_log_next(&level, message, sizeof message, &taken));
  CHECK(size == taken && strlen(message) == size);
  do pulled += level == INFINI_LOG_WARNING && strstr(message, "infini.version") != NULL;
  while (infini_log_next(&level, message, sizeof message, NULL) == INFINI_OK);
  CHECK(pulled == 1);
  CHECK_STATUS(infini_log_next(&level, message, sizeof message, &size), INFINI_END);
  CHECK(size == 0 && message[0] == 0);
}

int main(void) {
  check_statuses();
  check_options();
  check_scopes();
  check_table();
  check_tasks();
  check_log();
  return check_failures != 0;
}
