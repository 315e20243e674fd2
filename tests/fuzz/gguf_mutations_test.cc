// Damaged GGUF files: each must open or be refused with a proper error.
#include "gguf_touch.h"
#include "mutations.h"

int main(int argc, char **argv) {
  std::ifstream file(INFINI_SOURCE_DIR "/tests/fixtures/infini/delta-ungated-mqa.gguf", std::ios::binary);
  const std::vector<fuzz::Original> originals = {fuzz::original({std::istreambuf_iterator<char>(file), {}}),
                                                 fuzz::original(test::every_value_type().bytes)};
  return fuzz::run_mutations(argc, argv, originals, fuzz::touch_gguf);
}
