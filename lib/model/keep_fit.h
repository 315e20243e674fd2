// Learning what is worth keeping: see KeepProbe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/task.h"
#include "model/model.h"

namespace infini {

struct KeepFit {
  int layer = -1;           // after which the probe reads; -1: after four sevenths of them
  double ridge = 0.1;       // lambda, of the mean of the diagonal
  int threads = 0;          // 0: as many as there are
  double stray = 0.01;      // of the sentences that are not worth keeping, the share that is kept none the less
  std::vector<float> bias;  // KeepProbe::bias, or empty
  double focus = 1;         // KeepProbe::focus
  int standing = 64;        // KeepProbe::standing
};

// Reads a stream of tokens of which those with a `worth` other than 0 are worth keeping, through a model that keeps
// sentences (option "keep"), and fits a probe by ridge regression over its sentences, those worth keeping weighing as
// much as all the others. INVALID_ARGUMENT where the stream holds no sentence of either sort.
KeepProbe fit_keep(const Model &model, std::span<const int32_t> tokens, std::span<const uint8_t> worth,
                   const KeepFit &fit, Task *task);

struct KeepLesson {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> worth;  // of each
  KeepFit fit;
};
// What infini_model_fit_keep is given. INVALID_ARGUMENT names the field that is not as it should be.
KeepLesson read_keep_lesson(const Model &model, const char *lesson_json);

// The model's file with the probe in it.
Gguf with_probe(const Model &model, const KeepProbe &probe);

}  // namespace infini
