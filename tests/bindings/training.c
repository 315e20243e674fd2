/* Prints what a small training came to: two reports, an evaluation, and the model that came out. Every language's suite
   makes the same calls and must print the same, digit for digit. The numbers are those of this machine, so they are
   compared with this program and not with a file that is kept.
     training TOKENIZER TEXT OUT.gguf */
#include <infini/infini_train.h>
#include <stdio.h>
#include <string.h>

static int show(void *user_data, const char *text, size_t text_size) {
  return fwrite(text, 1, text_size, (FILE *)user_data) != text_size;
}

/* Prints the last report without the times at its end. */
static int print_report(const infini_trainer *trainer) {
  char json[2048];
  if (infini_trainer_report_json(trainer, json, sizeof json, NULL) != INFINI_OK) return 1;
  char *times = strstr(json, ",\"seconds\"");
  if (times) *times = 0;
  return printf("%s\n", json) < 0;
}

static int print_evaluation(infini_trainer *trainer) {
  char json[2048];
  const char *data = "{\"type\": \"random\"}";
  if (infini_trainer_evaluate_json(trainer, data, 2, 3, NULL, json, sizeof json, NULL) != INFINI_OK) return 1;
  return printf("%s\n", json) < 0;
}

static int train(const infini_model *model, const char *description, const infini_options *options, const char *path) {
  infini_trainer *trainer = NULL;
  int failed = infini_trainer_create(model, description, options, NULL, &trainer) != INFINI_OK ||
               infini_trainer_step(trainer, NULL) != INFINI_OK || print_report(trainer) ||
               infini_trainer_run(trainer, 79, NULL) != INFINI_OK || print_report(trainer) ||
               print_evaluation(trainer) || infini_trainer_write(trainer, path, "f32", NULL) != INFINI_OK;
  infini_trainer_free(trainer);
  return failed;
}

static int tell(const char *path, const infini_options *computing, const infini_options *options) {
  const char *prompt = "Once upon a time";
  char fingerprint[64] = "";
  infini_model *model = NULL;
  infini_session *session = NULL;
  int failed = infini_model_open(path, computing, NULL, &model) != INFINI_OK ||
               infini_model_info(model, "fingerprint", fingerprint, sizeof fingerprint, NULL) != INFINI_OK ||
               printf("%s\n", fingerprint) < 0 || infini_session_create(model, options, &session) != INFINI_OK ||
               infini_session_feed_text(session, prompt, strlen(prompt), NULL) != INFINI_OK ||
               infini_session_generate(session, show, stdout, NULL) != INFINI_OK || printf("\n") < 0;
  infini_session_free(session);
  infini_model_free(model);
  return failed;
}

int main(int argc, char **argv) {
  char config[4096], description[4096];
  infini_options *computing = NULL, *options = NULL;
  infini_model *model = NULL;
  if (argc != 4) return fprintf(stderr, "usage: training TOKENIZER TEXT OUT.gguf\n"), 2;
  snprintf(config, sizeof config,
           "{\"layers\": 2, \"width\": 32, \"heads\": 2, \"kv_heads\": 2, \"hidden\": 64, \"segment\": 16, "
           "\"tokenizer\": \"%s\"}",
           argv[1]);
  snprintf(description, sizeof description,
           "{\"training\": {\"tokens\": 512, \"segments\": 4, \"rate\": 0.01, \"warmup\": 0},"
           " \"data\": {\"type\": \"text\", \"files\": [\"%s\"]}}",
           argv[2]);
  int failed = infini_options_create(&computing) != INFINI_OK || infini_options_create(&options) != INFINI_OK ||
               infini_options_set_string(computing, "compute", "f32") != INFINI_OK ||
               infini_options_set_int(computing, "threads", 1) != INFINI_OK ||
               infini_options_set_int(options, "threads", 1) != INFINI_OK ||
               infini_options_set_double(options, "temperature", 0) != INFINI_OK ||
               infini_options_set_int(options, "max_tokens", 120) != INFINI_OK ||
               infini_model_create(config, computing, NULL, &model) != INFINI_OK ||
               train(model, description, computing, argv[3]) || tell(argv[3], computing, options);
  if (failed) fprintf(stderr, "%s\n", infini_last_error());
  infini_model_free(model);
  infini_options_free(computing);
  infini_options_free(options);
  return failed;
}
