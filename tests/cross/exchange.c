/* Snapshots and models that two builds hand to each other:
     exchange save OUT KIND       a session that has read a story
     exchange resave OUT KIND IN  one that opened IN, and what it goes on with; not for bf16, which processors round differently
     exchange quantize OUT TYPE [IN]  a model in that type: of IN, else of samples/models/recall.gguf
   KIND: f32, bf16 (what is computed with), memory (of f32, alone). */
#include "check.h"

#define MODEL INFINI_SOURCE_DIR "/samples/models/recall.gguf"

int main(int argc, char **argv) {
  if (argc >= 4 && argc <= 5 && !strcmp(argv[1], "quantize")) {
    CHECK_OK(infini_model_quantize(argc == 5 ? argv[4] : MODEL, argv[2], argv[3], NULL, NULL));
    return check_failures != 0;
  }
  const int opens = argc == 5 && !strcmp(argv[1], "resave");
  if (!opens && !(argc == 4 && !strcmp(argv[1], "save"))) return fprintf(stderr, "see exchange.c\n"), 2;
  static const char story[] =
      "Once upon a time there was a fox. The fox lived in a wood, and every day it ran to the sea. ";
  const int memory = !strcmp(argv[3], "memory");
  infini_model *model = open_model(MODEL, memory ? "f32" : argv[3]);
  infini_session *session = new_session(model, -1);
  if (opens) CHECK_OK(infini_session_restore(session, argv[4], NULL));
  else
    for (int i = 0; i < 10; ++i) CHECK_OK(infini_session_feed_text(session, story, strlen(story), NULL));
  CHECK_OK(infini_session_save(session, argv[2], memory ? INFINI_SNAPSHOT_MEMORY : 0, "a fox", "far away", NULL));
  if (opens && memory) CHECK_OK(infini_session_feed_text(session, story, strlen(story), NULL));
  for (int i = 0; opens && i < 40 && strcmp(argv[3], "bf16") != 0; ++i) {
    int32_t token = -1;
    CHECK_OK(infini_session_next(session, NULL, &token));
    printf("%d ", (int)token);
  }
  if (opens) printf("\n");
  infini_session_free(session);
  infini_model_free(model);
  return check_failures != 0;
}
