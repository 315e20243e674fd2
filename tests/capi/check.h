/* A tiny test frame for the C interface, and what its tests share. */
#ifndef CHECK_H
#define CHECK_H

#include <infini/infini_train.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORIES INFINI_SOURCE_DIR "/samples/models/stories260K.gguf"
#define GOLDEN INFINI_SOURCE_DIR "/tests/fixtures/stories260K.golden.json"

static int check_failures = 0;

#define CHECK(condition)                                                     \
  do {                                                                       \
    if (!(condition)) {                                                      \
      ++check_failures;                                                      \
      fprintf(stderr, "%s:%d: false: %s\n", __FILE__, __LINE__, #condition); \
    }                                                                        \
  } while (0)

#define CHECK_STATUS(call, expected)                                                                                  \
  do {                                                                                                                \
    const int check_got = (int)(call);                                                                                \
    if (check_got != (int)(expected)) {                                                                               \
      ++check_failures;                                                                                               \
      fprintf(stderr, "%s:%d: %s: %s instead of %s (%s)\n", __FILE__, __LINE__, #call, infini_status_name(check_got), \
              infini_status_name((int)(expected)), infini_last_error());                                              \
    }                                                                                                                 \
  } while (0)

#define CHECK_OK(call) CHECK_STATUS(call, INFINI_OK)

/* The call fails, and its message contains a text. */
#define CHECK_ERROR(call, expected, part)                                                            \
  do {                                                                                               \
    CHECK_STATUS(call, expected);                                                                    \
    if (!strstr(infini_last_error(), part)) {                                                        \
      ++check_failures;                                                                              \
      fprintf(stderr, "%s:%d: '%s' is not in: %s\n", __FILE__, __LINE__, part, infini_last_error()); \
    }                                                                                                \
  } while (0)

/* Without the model nothing else makes sense. */
static inline infini_model *open_model(const char *path, const char *compute) {
  infini_options *options = NULL;
  infini_model *model = NULL;
  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_set_string(options, "compute", compute));
  CHECK_OK(infini_options_set_int(options, "threads", 1));
  CHECK_OK(infini_model_open(path, options, NULL, &model));
  infini_options_free(options);
  if (!model) exit(1);
  return model;
}

static inline infini_session *new_session(const infini_model *model, int64_t max_tokens) {
  infini_options *options = NULL;
  infini_session *session = NULL;
  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_set_int(options, "threads", 1));
  CHECK_OK(infini_options_set_int(options, "max_tokens", max_tokens));
  CHECK_OK(infini_session_create(model, options, &session));
  infini_options_free(options);
  if (!session) exit(1);
  return session;
}

static inline int64_t position_of(const infini_session *session) {
  int64_t position = -1;
  CHECK_OK(infini_session_position(session, &position));
  return position;
}

/* The small model with a chat template, which stands before its other keys and is as long as keeps the data aligned. */
static inline void write_chatty_model(const char *path) {
  static const char key[] = "tokenizer.chat_template";
  static const char form[] =
      "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
      "{% if add_generation_prompt %}<s>assistant\n{% endif %}";
  static unsigned char bytes[2000000], added[320];
  FILE *file = fopen(STORIES, "rb");
  const size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0;
  if (size < 100 || size == sizeof bytes) exit(1);
  fclose(file);
  const uint64_t key_size = sizeof key - 1, value_size = sizeof added - 8 - key_size - 4 - 8;
  const uint32_t text_type = 8;
  unsigned char *to = added;
  to = (unsigned char *)memcpy(to, &key_size, 8) + 8;
  to = (unsigned char *)memcpy(to, key, key_size) + key_size;
  to = (unsigned char *)memcpy(to, &text_type, 4) + 4;
  to = (unsigned char *)memcpy(to, &value_size, 8) + 8;
  memset(to, ' ', value_size);
  memcpy(to + value_size - (sizeof form - 1), form, sizeof form - 1);
  uint64_t keys;
  memcpy(&keys, bytes + 16, 8);
  ++keys;
  memcpy(bytes + 16, &keys, 8);
  file = fopen(path, "wb");
  if (!file || fwrite(bytes, 1, 24, file) != 24 || fwrite(added, 1, sizeof added, file) != sizeof added ||
      fwrite(bytes + 24, 1, size - 24, file) != size - 24 || fclose(file) != 0)
    exit(1);
}

#endif
