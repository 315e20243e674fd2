// What the kinds of benchmark share.
#pragma once

#include <vector>

#include "bench_train.h"
#include "common.h"
#include "runs.h"

namespace cli {

struct BenchArguments : ModelArguments {
  std::string depths = "0", folder = ".";
  int64_t runs = 5, generated = 32, batch = 0, chunk = 0;
  int threads = 0;
  bool snapshot = false, train = false;
  TrainBench training;
};

// infini bench --snapshot, at `depths` in rising order.
void bench_snapshot(const BenchArguments &arguments, const Options &of_model, const Options &options,
                    const std::vector<int64_t> &depths);

}  // namespace cli
