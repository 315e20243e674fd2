// What the two kinds of benchmark share.
#pragma once

#include <algorithm>
#include <vector>

#include "common.h"

namespace cli {

struct BenchArguments : ModelArguments {
  std::string depths = "0", folder = ".";
  int64_t runs = 5, generated = 32, block = 0;
  int threads = 0;
  bool snapshot = false;
};

// Runs of one measure.
struct Runs {
  std::vector<double> values;

  double least() const { return *std::min_element(values.begin(), values.end()); }
  double greatest() const { return *std::max_element(values.begin(), values.end()); }
  double median() const {
    std::vector<double> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    return (sorted[(sorted.size() - 1) / 2] + sorted[sorted.size() / 2]) / 2;
  }
};

// Feeds `count` tokens drawn at random, the same ones each time.
void feed_random(infini_session *session, int64_t count, int64_t vocabulary, const Progress &progress);

// infini bench --snapshot, at `depths` in rising order.
void bench_snapshot(const BenchArguments &arguments, const Options &options, const std::vector<int64_t> &depths);

}  // namespace cli
