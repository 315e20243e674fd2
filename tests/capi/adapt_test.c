/* Adaptations: steps, what is kept, and the model that comes out. */
#include "check.h"

#define ADAPTED "capi_adapt_test.gguf"
#define KEPT "capi_adapt_test.adapt"
#define NOVEL INFINI_SOURCE_DIR "/samples/texts/wuthering_heights.txt"
#define SETTINGS(more)                                              \
  "{\"texts\": [\"" NOVEL "\"], \"held_out\": \"" INFINI_SOURCE_DIR \
  "/samples/texts/lord_jim.txt\", \"held_out_tokens\": 512, \"steps\": 6, \"segments\": 4, \"type\": \"f32\"" more "}"

static infini_adaptation *new_adaptation(const char *settings) {
  infini_adaptation *adaptation = NULL;
  infini_options *options = NULL;
  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_set_int(options, "threads", 1));
  CHECK_OK(infini_options_set_string(options, "compute", "f32"));
  CHECK_OK(infini_adaptation_create(STORIES, settings, options, NULL, &adaptation));
  infini_options_free(options);
  if (!adaptation) exit(1);
  return adaptation;
}

static int says(infini_status (*write)(const infini_adaptation *, char *, size_t, size_t *),
                const infini_adaptation *adaptation, const char *text) {
  char json[16384];
  CHECK_OK(write(adaptation, json, sizeof json, NULL));
  return strstr(json, text) != NULL;
}

static uint32_t file_sum(const char *path) {
  FILE *file = fopen(path, "rb");
  uint32_t sum = 2166136261u;
  int byte;
  CHECK(file != NULL);
  while (file && (byte = getc(file)) != EOF) sum = (sum ^ (uint32_t)byte) * 16777619u;
  if (file) fclose(file);
  return sum;
}

static int exists(const char *path) {
  FILE *file = fopen(path, "rb");
  if (file) fclose(file);
  return file != NULL;
}

int main(void) {
  char json[16384];
  infini_adaptation *adaptation = NULL, *other = NULL;
  CHECK_OK(infini_adaptation_settings_json(json, sizeof json, NULL));
  CHECK(strstr(json, "{\"name\":\"nats\",\"type\":\"double\",\"default\":8.0,\"least\":1e-06,\"greatest\":1000000.0") !=
        NULL);

  /* Nothing is kept; stories260K looks nothing up, and learns from text. */
  adaptation = new_adaptation(SETTINGS(""));
  CHECK(says(infini_adaptation_report_json, adaptation, "{}"));
  CHECK_ERROR(infini_adaptation_write(adaptation, ADAPTED, NULL), INFINI_STATE, "not adapted");
  CHECK_OK(infini_adaptation_step(adaptation, NULL));
  CHECK(says(infini_adaptation_report_json, adaptation, "\"phase\":\"find\""));
  CHECK_OK(infini_adaptation_step(adaptation, NULL));
  CHECK(says(infini_adaptation_report_json, adaptation, "{\"phase\":\"before\",\"measured\":{\"nll\":"));
  infini_task *task = NULL;
  CHECK_OK(infini_task_create(&task));
  CHECK_OK(infini_task_cancel(task));
  CHECK_STATUS(infini_adaptation_run(adaptation, task), INFINI_CANCELLED);
  infini_task_free(task);
  CHECK_OK(infini_adaptation_step(adaptation, NULL));
  CHECK(says(infini_adaptation_report_json, adaptation, "{\"step\":1,"));
  CHECK(says(infini_adaptation_report_json, adaptation, "\"phase\":\"train\",\"steps\":6}"));
  CHECK_OK(infini_adaptation_run(adaptation, NULL));
  CHECK_STATUS(infini_adaptation_step(adaptation, NULL), INFINI_END);
  CHECK(says(infini_adaptation_report_json, adaptation, "\"phase\":\"after\""));
  CHECK(says(infini_adaptation_info_json, adaptation, "\"phases\":[\"train\"],\"phases_done\":1,\"complete\":true"));
  CHECK(says(infini_adaptation_info_json, adaptation, "\"no_task\":\"no head looks"));
  CHECK_OK(infini_adaptation_save(adaptation, NULL));
  CHECK_OK(infini_adaptation_write(adaptation, ADAPTED, NULL));
  infini_adaptation_free(adaptation);
  const uint32_t whole = file_sum(ADAPTED);
  infini_model *adapted = open_model(ADAPTED, "f32");
  char value[64];
  CHECK_OK(infini_model_info(adapted, "trained_memory", value, sizeof value, NULL));
  CHECK(strcmp(value, "true") == 0);
  infini_model_free(adapted);

  /* One that is kept, and left after its fourth step, goes on to the same bytes; other settings are refused. */
  other = new_adaptation(SETTINGS(", \"checkpoint\": \"" KEPT "\""));
  for (int step = 0; step < 2 + 4; ++step) CHECK_OK(infini_adaptation_step(other, NULL));
  CHECK_OK(infini_task_create(&task));
  CHECK_OK(infini_task_cancel(task));
  CHECK_STATUS(infini_adaptation_save(other, task), INFINI_CANCELLED);
  CHECK(!exists(KEPT ".train.trainer"));
  infini_task_free(task);
  CHECK_OK(infini_adaptation_save(other, NULL));
  infini_adaptation_free(other);
  CHECK(exists(KEPT ".json") && exists(KEPT ".train.trainer"));
  CHECK_ERROR(
      infini_adaptation_create(STORIES, SETTINGS(", \"checkpoint\": \"" KEPT "\", \"seed\": 5"), NULL, NULL, &other),
      INFINI_MODEL_MISMATCH, "\"seed\" was 1 and is 5");
  other = new_adaptation(SETTINGS(", \"checkpoint\": \"" KEPT "\""));
  CHECK_OK(infini_adaptation_step(other, NULL));
  CHECK(says(infini_adaptation_report_json, other, "{\"step\":5,"));
  CHECK_OK(infini_adaptation_run(other, NULL));
  CHECK_OK(infini_adaptation_write(other, ADAPTED, NULL));
  CHECK(file_sum(ADAPTED) == whole);
  CHECK_OK(infini_adaptation_discard(other));
  CHECK(!exists(KEPT ".json") && !exists(KEPT ".train.trainer"));
  infini_adaptation_free(other);
  remove(ADAPTED);

  CHECK_ERROR(infini_adaptation_create(STORIES, "{", NULL, NULL, &other), INFINI_INVALID_ARGUMENT, "JSON");
  CHECK_ERROR(infini_adaptation_create(STORIES, "{}", NULL, NULL, &other), INFINI_INVALID_ARGUMENT, "adapt.texts");
  CHECK_ERROR(infini_adaptation_create(STORIES, SETTINGS(", \"step\": 1"), NULL, NULL, &other), INFINI_INVALID_ARGUMENT,
              "step");
  CHECK_ERROR(infini_adaptation_create(STORIES, SETTINGS(", \"part\": \"some\""), NULL, NULL, &other),
              INFINI_INVALID_ARGUMENT, "adapt.part is \"some\"");
  CHECK_ERROR(infini_adaptation_create(STORIES, SETTINGS(", \"borders\": [0]"), NULL, NULL, &other),
              INFINI_INVALID_ARGUMENT, "adapt.borders");
  CHECK_ERROR(infini_adaptation_create("/nonexistent.gguf", SETTINGS(""), NULL, NULL, &other), INFINI_IO,
              "/nonexistent.gguf");
  CHECK(other == NULL);
  return check_failures != 0;
}
