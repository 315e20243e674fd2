// Damaged snapshots with the right checksums: each must be refused with a proper error that leaves the session as it
// was, or give a session that goes on. `--corpus FOLDER` writes the undamaged ones, as seeds of the fuzzer.
#include <filesystem>
#include <fstream>

#include "mutations.h"
#include "snapshot_touch.h"

int main(int argc, char **argv) {
  using Kind = infini::Session::SnapshotKind;
  std::vector<fuzz::Original> originals;
  const auto add = [&](int tokens, int level, Kind kind, const char *window_type) {
    std::string bytes = fuzz::snapshot_bytes(tokens, level, kind, window_type);
    if (argc == 3 && std::string(argv[1]) == "--corpus") {
      const std::string name = std::to_string(originals.size()) + ".snap";
      std::ofstream(std::string(argv[2]) + "/" + name, std::ios::binary) << bytes;
    }
    originals.push_back({bytes, infini::SnapshotView(test::as_bytes(bytes), "original").entries()[0].offset});
    return fuzz::touch_snapshot(test::as_bytes(bytes));
  };
  bool good = true;
  for (const int level : {0, 3})
    for (const Kind kind : {Kind::SESSION, Kind::MEMORY})
      for (const int tokens : {0, 5, 30}) good = good && add(tokens, level, kind, "compute");
  good = good && add(30, 0, Kind::SESSION, "int8");
  if (!good) return std::fprintf(stderr, "a good snapshot was refused\n"), 1;
  if (argc == 3) return 0;
  // Seeds that were refused would lead the fuzzer nowhere.
  size_t seeds = 0;
  for (const auto &file : std::filesystem::directory_iterator(INFINI_SOURCE_DIR "/tests/fuzz/corpus/snapshot")) {
    std::ifstream in(file.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    if (!fuzz::touch_snapshot(test::as_bytes(bytes)))
      return std::fprintf(stderr, "the seed %s is refused: write the seeds anew\n", file.path().string().c_str()), 1;
    ++seeds;
  }
  if (seeds != originals.size())
    return std::fprintf(stderr, "%zu seeds, but %zu kinds of snapshots: write the seeds anew\n", seeds,
                        originals.size()),
           1;
  return fuzz::run_mutations(argc, argv, originals, fuzz::touch_snapshot);
}
