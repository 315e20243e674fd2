/* Prints how many tokens a second stories260K generates, pulled as text: the best of many rounds of 200 tokens. The same
   program stands beside it in Java, C# and Go.
     overhead MODEL SECONDS */
#define _POSIX_C_SOURCE 199309L
#include <infini/infini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv) {
  const char *prompt = "Once upon a time";
  infini_options *computing = NULL, *options = NULL;
  infini_model *model = NULL;
  infini_session *session = NULL;
  char text[256];
  size_t size = 0;
  int64_t before = 0, after = 0;
  if (argc != 3) return fprintf(stderr, "usage: overhead MODEL SECONDS\n"), 2;
  int failed = infini_options_create(&computing) != INFINI_OK || infini_options_create(&options) != INFINI_OK ||
               infini_options_set_string(computing, "compute", "f32") != INFINI_OK ||
               infini_options_set_int(computing, "threads", 1) != INFINI_OK ||
               infini_options_set_int(options, "threads", 1) != INFINI_OK ||
               infini_options_set_double(options, "temperature", 0) != INFINI_OK ||
               infini_options_set_int(options, "max_tokens", 200) != INFINI_OK ||
               infini_model_open(argv[1], computing, NULL, &model) != INFINI_OK ||
               infini_session_create(model, options, &session) != INFINI_OK;
  double best = 0;
  for (double begin = now(); !failed && now() - begin < atof(argv[2]);) {
    infini_status status = INFINI_OK;
    failed = infini_session_reset(session) != INFINI_OK ||
             infini_session_feed_text(session, prompt, strlen(prompt), NULL) != INFINI_OK ||
             infini_session_position(session, &before) != INFINI_OK;
    double round = now();
    while (!failed && (status = infini_session_next_text(session, NULL, text, sizeof text, &size)) == INFINI_OK)
      continue;
    round = now() - round;
    failed = failed || status != INFINI_END || infini_session_position(session, &after) != INFINI_OK;
    double speed = (double)(after - before) / round;
    if (speed > best) best = speed;
  }
  if (failed) fprintf(stderr, "%s\n", infini_last_error());
  else printf("%.0f\n", best);
  infini_session_free(session);
  infini_model_free(model);
  infini_options_free(computing);
  infini_options_free(options);
  return failed;
}
