/* Trainers: steps, reports, evaluation, checkpoints, and the model that comes out. */
#include <locale.h>

#include "check.h"

#define CHECKPOINT "capi_trainer_test.checkpoint"
#define TRAINED "capi_trainer_test.gguf"
#define DESCRIPTION(part)                                                \
  "{\"training\": {\"train\": \"" part                                   \
  "\", \"tokens\": 256, \"segment\": 32, \"segments\": 4, \"carry\": 8," \
  " \"sinks\": 2, \"gates\": [[-1, -1, 0]], \"warmup\": 0}, \"data\": {\"type\": \"random\", \"share\": 0.5}}"

static infini_trainer *new_trainer(const infini_model *model, const char *description) {
  infini_trainer *trainer = NULL;
  infini_options *options = NULL;
  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_set_int(options, "threads", 1));
  CHECK_OK(infini_options_set_string(options, "compute", "f32"));
  CHECK_OK(infini_trainer_create(model, description, options, NULL, &trainer));
  infini_options_free(options);
  if (!trainer) exit(1);
  return trainer;
}

/* The number that a text begins with, written with a point whatever the host's locale has. */
static double read_number(const char *text) {
  char local[32];
  snprintf(local, sizeof local, "%.31s", text);
  char *const point = strchr(local, '.');
  if (point && (size_t)(point - local) < strspn(local, "-0123456789.")) *point = *localeconv()->decimal_point;
  return atof(local);
}

/* The number behind "name" in a JSON object. */
static double number_in(const char *json, const char *name) {
  char key[64];
  snprintf(key, sizeof key, "\"%s\":", name);
  const char *found = strstr(json, key);
  CHECK(found != NULL);
  return found ? read_number(found + strlen(key)) : -1;
}

/* The same in the trainer's last report or its state. */
typedef infini_status (*json_function)(const infini_trainer *, char *, size_t, size_t *);
static double number(json_function function, const infini_trainer *trainer, const char *name) {
  char json[8192];
  CHECK_OK(function(trainer, json, sizeof json, NULL));
  return number_in(json, name);
}

static int cancel_at_two(void *user_data, const char *stage, int64_t done, int64_t total) {
  *(int64_t *)user_data = done;
  return strcmp(stage, "train") == 0 && total == 5 && done == 2;
}

static int cancel_first(void *user_data, const char *stage, int64_t done, int64_t total) {
  ++*(int64_t *)user_data;
  return strcmp(stage, "train") == 0 && done == 0 && total == 1;
}

static int same_files(const char *a, const char *b) {
  FILE *first = fopen(a, "rb"), *second = fopen(b, "rb");
  int x = 0, y = 0;
  CHECK(first && second);
  while (first && second && x == y && x != EOF) x = getc(first), y = getc(second);
  if (first) fclose(first);
  if (second) fclose(second);
  return x == y;
}

/* Counts the reports of a call that works. */
static int work_begins(void *user_data, const char *stage, int64_t done, int64_t total) {
  (void)stage, (void)done, (void)total;
  ++*(int *)user_data;
  return 0;
}

/* The call gives what it measured; asking how much room that needs, and giving too little, begins no work. */
static void check_evaluation(infini_trainer *trainer) {
  const char *data = "{\"type\": \"random\", \"seed\": 7}";
  char json[2048];
  size_t needed = 0, size = 0;
  int begun = 0;
  infini_task *task = NULL;
  CHECK_OK(infini_task_create(&task));
  CHECK_OK(infini_task_set_progress(task, work_begins, &begun));
  CHECK_OK(infini_trainer_evaluate_json(trainer, data, 2, 3, task, NULL, 0, &needed));
  CHECK_STATUS(infini_trainer_evaluate_json(trainer, data, 2, 3, task, json, needed - 1, &size),
               INFINI_BUFFER_TOO_SMALL);
  CHECK(begun == 0 && size == needed && needed <= sizeof json);
  CHECK_OK(infini_trainer_evaluate_json(trainer, data, 2, 3, task, json, needed, &size));
  CHECK(begun > 0 && size < needed && size == strlen(json));
  CHECK(number_in(json, "predictions") == 2 * (3 * 32 - 1) && number_in(json, "segments") == 3);
  infini_task_free(task);
}

/* A cancelled task leaves no trainer, no file, and a trainer as it was. */
static void check_cancels(const infini_model *model, infini_trainer *trainer) {
  static const char path[] = "capi_trainer_test.none";
  infini_trainer *none = trainer;
  infini_task *task = NULL;
  int64_t done = 0, total = 0;
  CHECK_OK(infini_task_create(&task));
  CHECK_OK(infini_task_cancel(task));
  CHECK_ERROR(infini_trainer_create(model, "{\"data\": {\"type\": \"random\"}}", NULL, task, &none), INFINI_CANCELLED,
              "creating");
  CHECK(!none);
  CHECK_OK(infini_task_cancel(task));
  CHECK_ERROR(infini_trainer_save(trainer, path, task), INFINI_CANCELLED, "saving");
  CHECK_OK(infini_task_cancel(task));
  CHECK_ERROR(infini_trainer_restore(trainer, path, task), INFINI_CANCELLED, "restoring");
  CHECK_OK(infini_task_cancel(task));
  CHECK_ERROR(infini_trainer_write(trainer, path, "f32", task), INFINI_CANCELLED, "saving");
  CHECK(fopen(path, "rb") == NULL);
  CHECK_OK(infini_trainer_write(trainer, path, "f32", task));
  CHECK_OK(infini_task_done(task, &done));
  CHECK_OK(infini_task_total(task, &total));
  CHECK(done == total && total > 1000);
  remove(path);
  infini_task_free(task);
}

static void check_training(const infini_model *model) {
  infini_trainer *trainer = new_trainer(model, DESCRIPTION("all")), *other = new_trainer(model, DESCRIPTION("all"));
  char buffer[8];
  size_t size = 0;
  CHECK_OK(infini_trainer_report_json(trainer, buffer, sizeof buffer, &size));
  CHECK(strcmp(buffer, "{}") == 0);
  CHECK_OK(infini_trainer_step(trainer, NULL));
  CHECK(number(infini_trainer_report_json, trainer, "step") == 1);
  CHECK(number(infini_trainer_report_json, trainer, "tokens") == 256);
  CHECK(number(infini_trainer_report_json, trainer, "loss") > 6); /* at random nothing better than ln 512 can be had */
  CHECK(number(infini_trainer_report_json, trainer, "tokens_per_second") > 0);
  CHECK_STATUS(infini_trainer_report_json(trainer, buffer, sizeof buffer, &size), INFINI_BUFFER_TOO_SMALL);
  CHECK(number(infini_trainer_info_json, trainer, "trained_parameters") > 200000);

  /* A cancelled run keeps the steps that were done. */
  int64_t seen = 0;
  infini_task *task = NULL;
  CHECK_OK(infini_task_create(&task));
  CHECK_OK(infini_task_set_progress(task, cancel_at_two, &seen));
  CHECK_STATUS(infini_trainer_run(trainer, 5, task), INFINI_CANCELLED);
  CHECK(seen == 2 && number(infini_trainer_info_json, trainer, "steps") == 3);

  /* A step is cancelled before it is over. */
  seen = 0;
  CHECK_OK(infini_task_set_progress(task, cancel_first, &seen));
  CHECK_STATUS(infini_trainer_step(trainer, task), INFINI_CANCELLED);
  CHECK(seen == 1 && number(infini_trainer_info_json, trainer, "steps") == 3);
  CHECK_OK(infini_task_set_progress(task, NULL, NULL));
  check_cancels(model, trainer);
  CHECK_OK(infini_trainer_save(trainer, CHECKPOINT, NULL));
  CHECK_OK(infini_trainer_run(trainer, 3, task));
  infini_task_free(task);

  /* From the checkpoint the same model comes out, bit for bit. */
  CHECK_OK(infini_trainer_restore(other, CHECKPOINT, NULL));
  CHECK(number(infini_trainer_info_json, other, "steps") == 3);
  CHECK_OK(infini_trainer_run(other, 3, NULL));
  CHECK_OK(infini_trainer_write(trainer, TRAINED, "f32", NULL));
  CHECK_OK(infini_trainer_write(other, TRAINED ".other", "f32", NULL));
  CHECK(same_files(TRAINED, TRAINED ".other"));
  remove(TRAINED ".other");

  check_evaluation(trainer);
  infini_model *trained = open_model(TRAINED, "f32");
  char value[64];
  CHECK_OK(infini_model_info(trained, "segment", value, sizeof value, NULL));
  CHECK(strcmp(value, "32") == 0);
  CHECK_OK(infini_model_info(trained, "trained_memory", value, sizeof value, NULL));
  CHECK(strcmp(value, "true") == 0);

  infini_trainer *of_trained = new_trainer(trained, DESCRIPTION("all"));
  CHECK_ERROR(infini_trainer_restore(of_trained, CHECKPOINT, NULL), INFINI_MODEL_MISMATCH, CHECKPOINT);
  infini_model_free(trained);
  infini_trainer_free(of_trained);
  CHECK_ERROR(infini_trainer_write_adapter(trainer, TRAINED, NULL), INFINI_STATE, "LoRA");
  CHECK_ERROR(infini_trainer_write(trainer, TRAINED, "q4", NULL), INFINI_INVALID_ARGUMENT, "q4");
  CHECK_STATUS(infini_trainer_write(trainer, "/nonexistent/model.gguf", "f16", NULL), INFINI_IO);
  infini_trainer_free(trainer);
  infini_trainer_free(other);

  infini_trainer *lora = new_trainer(model, DESCRIPTION("lora"));
  CHECK_OK(infini_trainer_run(lora, 2, NULL));
  CHECK_OK(infini_trainer_write_adapter(lora, TRAINED, NULL));
  CHECK_ERROR(infini_trainer_restore(lora, CHECKPOINT, NULL), INFINI_MODEL_MISMATCH,
              "otherwise: \"train\" was \"all\" and is \"lora\";");
  infini_trainer_free(lora);
  remove(CHECKPOINT);
  remove(TRAINED);
}

static int fail_to_sum(void *user_data, float *values, size_t n_values) {
  ++*(int *)user_data;
  return values && n_values > 0 ? 3 : 0;
}

/* One rank of two whose sum fails: what ranks do together is tested by tests/mpi. */
static void check_ranks(const infini_model *model) {
  infini_trainer *trainer = new_trainer(model, DESCRIPTION("gates"));
  int calls = 0;
  CHECK_ERROR(infini_trainer_set_ranks(trainer, 2, 2, fail_to_sum, &calls), INFINI_INVALID_ARGUMENT, "rank is 2");
  CHECK_ERROR(infini_trainer_set_ranks(trainer, -1, 2, fail_to_sum, &calls), INFINI_INVALID_ARGUMENT, "rank is -1");
  CHECK_ERROR(infini_trainer_set_ranks(trainer, 0, 0, fail_to_sum, &calls), INFINI_INVALID_ARGUMENT, "ranks is 0");
  CHECK(number(infini_trainer_info_json, trainer, "ranks") == 1);
  CHECK_OK(infini_trainer_set_ranks(trainer, 1, 2, fail_to_sum, &calls));
  CHECK(number(infini_trainer_info_json, trainer, "rank") == 1 &&
        number(infini_trainer_info_json, trainer, "ranks") == 2);
  CHECK_ERROR(infini_trainer_run(trainer, 2, NULL), INFINI_IO, "returned 3 on rank 1 of 2");
  CHECK(calls == 1 && number(infini_trainer_info_json, trainer, "steps") == 0);
  char json[2048];
  CHECK_ERROR(infini_trainer_evaluate_json(trainer, "{\"type\": \"random\"}", 2, 0, NULL, json, sizeof json, NULL),
              INFINI_IO, "returned 3");
  CHECK(calls == 2);
  CHECK_OK(infini_trainer_set_ranks(trainer, 0, 1, NULL, NULL));
  CHECK_OK(infini_trainer_step(trainer, NULL));
  CHECK(calls == 2 && number(infini_trainer_info_json, trainer, "steps") == 1);
  infini_trainer_free(trainer);
}

static void check_refusals(const infini_model *model) {
  infini_trainer *trainer = NULL;
  static char table[1 << 16];
  CHECK_OK(infini_trainer_settings_json(table, sizeof table, NULL));
  CHECK(strstr(table, "[{\"name\":\"training\",\"type\":\"object\",\"fields\":[{\"name\":\"train\",") == table);
  CHECK(strstr(table, "{\"name\":\"rank\",\"type\":\"int\",\"default\":8,\"least\":1,\"greatest\":1024,\"help\":") !=
        NULL);
  CHECK(strstr(table, "\"passkey\":[{\"name\":\"type\",") && strstr(table, "{\"name\":\"curriculum\","));
  CHECK_ERROR(infini_trainer_create(model, "{", NULL, NULL, &trainer), INFINI_INVALID_ARGUMENT, "JSON");
  CHECK_ERROR(infini_trainer_create(model, "[]", NULL, NULL, &trainer), INFINI_INVALID_ARGUMENT, "trainer");
  CHECK_ERROR(infini_trainer_create(model, "{}", NULL, NULL, &trainer), INFINI_INVALID_ARGUMENT, "data");
  CHECK_ERROR(infini_trainer_create(model, "{\"data\": {\"type\": \"random\"}, \"date\": 1}", NULL, NULL, &trainer),
              INFINI_INVALID_ARGUMENT, "date");
  CHECK_ERROR(infini_trainer_create(model, "{\"data\": {\"type\": \"random\", \"share\": 2}}", NULL, NULL, &trainer),
              INFINI_INVALID_ARGUMENT, "share");
  CHECK_ERROR(infini_trainer_create(model, "{\"data\": {\"type\": \"random\"}, \"training\": {\"rate\": \"fast\"}}",
                                    NULL, NULL, &trainer),
              INFINI_INVALID_ARGUMENT, "rate");
  CHECK_ERROR(infini_trainer_create(model, "{\"data\": {\"type\": \"text\", \"files\": [\"/nonexistent\"]}}", NULL,
                                    NULL, &trainer),
              INFINI_IO, "/nonexistent");
  CHECK(trainer == NULL);
}

/* A model that has digits and names, and weights at random: no head looks anywhere. */
static void check_heads(void) {
  infini_model *model = NULL;
  char json[4096];
  const char *recall = "{\"type\": \"recall\", \"density\": [40, 40]}";
  CHECK_OK(infini_model_create(
      "{\"layers\": 2, \"width\": 32, \"heads\": 4, \"kv_heads\": 2, \"hidden\": 32, \"segment\": 32,"
      " \"tokenizer\": \"" INFINI_SOURCE_DIR "/samples/models/words2048.gguf\"}",
      NULL, NULL, &model));
  infini_trainer *trainer = new_trainer(model, DESCRIPTION("all"));
  size_t size = 0;
  CHECK_STATUS(infini_trainer_find_heads_json(trainer, recall, 2, 8, NULL, json, 8, &size), INFINI_BUFFER_TOO_SMALL);
  CHECK(size <= sizeof json);
  CHECK_OK(infini_trainer_find_heads_json(trainer, recall, 2, 8, NULL, json, sizeof json, &size));
  CHECK(strncmp(json, "{\"heads\":[{\"layer\":", 19) == 0 && size == strlen(json));
  CHECK(number_in(json, "weight") > 0.002 && number_in(json, "weight") < 0.1);
  CHECK(number_in(json, "answers") >= 5 && number_in(json, "tokens") == 2 * 8 * 32);
  CHECK_ERROR(infini_trainer_find_heads_json(trainer, "{\"type\": \"random\"}", 2, 8, NULL, json, sizeof json, NULL),
              INFINI_INVALID_ARGUMENT, "answer");
  CHECK_STATUS(infini_trainer_find_heads_json(trainer, recall, 0, 8, NULL, json, sizeof json, NULL),
               INFINI_INVALID_ARGUMENT);
  CHECK_ERROR(infini_trainer_fit_heads(trainer, 8, NULL), INFINI_INVALID_ARGUMENT, "[layer, head, offset]");
  CHECK_ERROR(infini_trainer_fit_heads(trainer, 0, NULL), INFINI_INVALID_ARGUMENT, "nats");
  infini_trainer_free(trainer);
  infini_model_free(model);
}

int main(void) {
  infini_model *model = open_model(STORIES, "f32");
  check_heads();
  check_training(model);
  check_ranks(model);
  check_refusals(model);
  infini_model_free(model);
  return check_failures != 0;
}
