// The library's threads against oneTBB's, on the library's own loops: a program that is linked with one, and another
// that is linked with the other, take turns to read and write tokens.
//
//   bench_threads [MODEL.gguf [THREADS [ROUNDS]]]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "stream/session.h"

using namespace infini;

namespace {

constexpr int kRead = 1024, kWritten = 96;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// Microseconds a token reading and writing, processor time of the same, and milliseconds of processor time that are
// spent in the fifth of a second after a call.
enum { READ, WRITE, CPU_READ, CPU_WRITE, AFTER, FIGURES };
const char *const kNames[FIGURES] = {"reading, us a token", "writing, us a token", "reading, CPU us a token",
                                     "writing, CPU us a token", "CPU ms after a call"};

void measure(const char *path, int64_t threads) {
  Options options;
  options.set("threads", threads);
  const auto model = Model::open(path, options);
  Session session(model, options);
  std::vector<int32_t> tokens(kRead);
  for (int i = 0; i < kRead; ++i) tokens[static_cast<size_t>(i)] = 3 + i * 37 % (model->config().vocabulary - 3);
  session.feed(tokens);  // warm
  double figures[FIGURES];
  const auto time = [&](int from, int count, const auto &work) {
    const double begin = seconds(), cpu = cpu_seconds();
    work();
    figures[from] = 1e6 * (seconds() - begin) / count;
    figures[from + CPU_READ] = 1e6 * (cpu_seconds() - cpu) / count;
  };
  time(READ, kRead, [&] { session.feed(tokens); });
  time(WRITE, kWritten, [&] {
    for (int i = 0; i < kWritten; ++i) session.feed(std::span(tokens).subspan(static_cast<size_t>(i), 1));
  });
  const double cpu = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  figures[AFTER] = 1e3 * (cpu_seconds() - cpu);
  for (const double figure : figures) std::printf("%.9g\n", figure);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[values.size() / 2] + values[(values.size() - 1) / 2]) / 2;
}

}  // namespace

int main(int argc, char **argv) {
  const std::string path = argc > 1 ? argv[1] : INFINI_SOURCE_DIR "/samples/models/recall.gguf";
  const int threads = argc > 2 ? std::atoi(argv[2]) : default_threads();
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 10;
  if (rounds == 0) return measure(path.c_str(), threads), 0;  // for itself, below
  const std::string programs[] = {argv[0], BENCH_THREADS_TBB};
  std::vector<double> all[2][FIGURES];
  for (int round = 0; round < rounds; ++round) {
    for (int turn = 0; turn < 2; ++turn) {
      const int which = (round + turn) % 2;  // what comes first is often the slower, whichever it is
      const std::string command = "'" + programs[which] + "' '" + path + "' " + std::to_string(threads) + " 0";
      FILE *const output = popen(command.c_str(), "r");
      for (auto &figures : all[which]) {
        double figure = 0;
        if (!output || std::fscanf(output, "%lf", &figure) != 1) {
          std::fprintf(stderr, "%s failed\n", command.c_str());
          return 1;
        }
        figures.push_back(figure);
      }
      pclose(output);
    }
  }
  std::printf("%s, %d threads, medians of %d\n%-26s %10s %10s %6s\n", path.c_str(), threads, rounds, "", "own",
              "oneTBB", "ratio");
  for (int i = 0; i < FIGURES; ++i) {
    const double own = median(all[0][i]), tbb = median(all[1][i]);
    std::printf("%-26s %10.2f %10.2f %6.2f\n", kNames[i], own, tbb, tbb > 0 ? own / tbb : 0);
  }
  return 0;
}
