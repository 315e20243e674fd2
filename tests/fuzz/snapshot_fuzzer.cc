// libFuzzer: any bytes as a snapshot whose checksums are right.
#include "snapshot_touch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz::touch_snapshot(std::as_bytes(std::span(data, size)));
  return 0;
}
