#include <infini/infini.h>
#include <stdio.h>

static int show(void *user_data, const char *text, size_t text_size) {
  return fwrite(text, 1, text_size, (FILE *)user_data) != text_size;
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : "samples/models/stories260K.gguf";
  infini_model *model = NULL;
  infini_session *session = NULL;
  int failed = infini_model_open(path, NULL, NULL, &model) != INFINI_OK ||
               infini_session_create(model, NULL, &session) != INFINI_OK ||
               infini_session_feed_text(session, "Once upon a time", 16, NULL) != INFINI_OK ||
               infini_session_generate(session, show, stdout, NULL) != INFINI_OK;
  if (failed) fprintf(stderr, "%s\n", infini_last_error());
  infini_session_free(session);
  infini_model_free(model);
  return failed;
}
