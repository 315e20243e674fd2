/* The reference transcript of stories260K: a float64 implementation's greedy continuation of BOS. */
#ifndef GOLDEN_H
#define GOLDEN_H

#include <ctype.h>
#include <locale.h>

#include "check.h"

typedef struct golden {
  int32_t tokens[512];
  size_t n_tokens;
  char text[4096];
  float logits_after_bos[512];
} golden;

/* What stands behind "key": in the file. */
static inline char *golden_value(char *json, const char *key) {
  char quoted[64];
  sprintf(quoted, "\"%s\":", key);
  char *found = strstr(json, quoted);
  if (!found) exit(1);
  found += strlen(quoted);
  while (isspace((unsigned char)*found)) ++found;
  return found + 1; /* past the bracket or the quote */
}

static inline golden read_golden(void) {
  static char json[1 << 17];
  golden result;
  memset(&result, 0, sizeof result);
  FILE *file = fopen(GOLDEN, "rb");
  if (!file) exit(1);
  json[fread(json, 1, sizeof json - 1, file)] = 0;
  fclose(file);
  /* Numbers are read as JSON writes them, whatever the locale of the test. */
  char locale[64];
  snprintf(locale, sizeof locale, "%s", setlocale(LC_NUMERIC, NULL));
  setlocale(LC_NUMERIC, "C");
  for (char *at = golden_value(json, "greedy_from_bos_ids"); *at != ']'; at += strspn(at, ", \r\n"))
    result.tokens[result.n_tokens++] = (int32_t)strtol(at, &at, 10);
  char *number = golden_value(json, "logits_after_bos");
  for (int i = 0; i < 512; ++i, number += strspn(number, ", \r\n"))
    result.logits_after_bos[i] = strtof(number, &number);
  setlocale(LC_NUMERIC, locale);
  char *out = result.text;
  for (const char *at = golden_value(json, "greedy_text"); *at != '"'; ++at) {
    if (*at == '\\') {
      *out++ = *++at; /* only quotes are escaped there */
    } else if (strncmp(at, "<0x0A>", 6) == 0) {
      *out++ = '\n';
      at += 5;
    } else {
      *out++ = *at;
    }
  }
  return result;
}

#endif
