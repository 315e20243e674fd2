// infini bench --train: how fast a model is trained, beside what its matrix products alone would allow.
#pragma once

#include <cstdint>
#include <string>

#include "common.h"

namespace cli {

struct TrainBench {
  std::string model;  // "": one of 4 layers, width 256, 4 heads of 64, hidden 704, vocabulary 2048
  std::string optimizer = "muon";
  int64_t segments = 16, tokens = 8192, runs = 5;
  double share = 1;  // of the tokens that are predicted
  int threads = 1;
  bool json = false;
};

void bench_train(const TrainBench &bench, const Options &of_model, const Options &of_trainer);

}  // namespace cli
