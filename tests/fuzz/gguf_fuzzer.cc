// libFuzzer: any bytes as a GGUF file.
#include "gguf_touch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz::touch_gguf(std::as_bytes(std::span(data, size)));
  return 0;
}
