// Damaged GGUF files: each must open or be refused with a proper error. `--corpus FOLDER` writes a good one of every
// value type, a seed of the fuzzer.
#include "gguf_touch.h"
#include "mutations.h"

int main(int argc, char **argv) {
  const std::string every = test::every_value_type().bytes;
  if (argc == 3 && std::string(argv[1]) == "--corpus") {
    std::ofstream(std::string(argv[2]) + "/every_value_type.gguf", std::ios::binary) << every;
    return 0;
  }
  std::ifstream file(INFINI_SOURCE_DIR "/tests/fixtures/infini/delta-ungated-mqa.gguf", std::ios::binary);
  const std::vector<fuzz::Original> originals = {fuzz::original({std::istreambuf_iterator<char>(file), {}}),
                                                 fuzz::original(every)};
  return fuzz::run_mutations(argc, argv, originals, fuzz::touch_gguf);
}
