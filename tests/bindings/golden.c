/* Prints the golden transcript: what stories260K writes, greedily, after two prompts. Every language's suite makes the
   same calls and compares with golden.txt, which is what this program printed.
     golden MODEL >golden.txt */
#include <infini/infini.h>
#include <stdio.h>
#include <string.h>

static int show(void *user_data, const char *text, size_t text_size) {
  return fwrite(text, 1, text_size, (FILE *)user_data) != text_size;
}

static int tell(infini_session *session, const char *prompt) {
  printf("> %s\n", prompt);
  int failed = infini_session_feed_text(session, prompt, strlen(prompt), NULL) != INFINI_OK ||
               infini_session_generate(session, show, stdout, NULL) != INFINI_OK;
  printf("\n");
  return failed;
}

int main(int argc, char **argv) {
  infini_options *computing = NULL, *options = NULL;
  infini_model *model = NULL;
  infini_session *session = NULL;
  int64_t position = 0;
  if (argc != 2) return fprintf(stderr, "usage: golden MODEL\n"), 2;
  int failed = infini_options_create(&computing) != INFINI_OK || infini_options_create(&options) != INFINI_OK ||
               infini_options_set_string(computing, "compute", "f32") != INFINI_OK ||
               infini_options_set_int(computing, "threads", 1) != INFINI_OK ||
               infini_options_set_int(options, "threads", 1) != INFINI_OK ||
               infini_options_set_double(options, "temperature", 0) != INFINI_OK ||
               infini_options_set_int(options, "max_tokens", 120) != INFINI_OK ||
               infini_model_open(argv[1], computing, NULL, &model) != INFINI_OK ||
               infini_session_create(model, options, &session) != INFINI_OK || tell(session, "Once upon a time") ||
               tell(session, " Then Tom \xf0\x9f\x98\x80 found a big red ball.") ||
               infini_session_position(session, &position) != INFINI_OK;
  if (failed) fprintf(stderr, "%s\n", infini_last_error());
  else printf("tokens %lld\n", (long long)position);
  infini_session_free(session);
  infini_model_free(model);
  infini_options_free(computing);
  infini_options_free(options);
  return failed;
}
