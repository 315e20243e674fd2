// Reports of training as JSON, with the fields that infini_train.h documents.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "train/trainer.h"

namespace infini {

JsonObject describe(const Trainer &trainer);
JsonObject describe(const Tally &tally);
JsonObject describe(const Trainer &trainer, const StepReport &report);
// So many steps, counted by the task; `report` is that of the last one that was made. INVALID_ARGUMENT: fewer than 0.
void train(Trainer &trainer, int64_t steps, Task *task, std::string &report);

// What is read to measure, and not to train: sequences as long as the trainer's are now.
struct Reading {
  // `segments`: of a sequence, 0: as many as in training. INVALID_ARGUMENT for fewer, or no sequence.
  Reading(const Trainer &trainer, int sequences, int segments);
  JsonObject json() const;
  int sequences, segment, segments;
};
// The most bytes that a tally and a reading take as JSON.
inline constexpr size_t kMeasuredJson = 1024;

// [layers][heads]: weights of the gates.
std::vector<std::vector<double>> gate_weights(const Trainer &trainer);
// The mean share of attention that supervised look-ups put on their sources, where there were any.
std::optional<double> source_share(const Tally &tally);
// right / all; null where there is none.
std::optional<double> share_of(int64_t right, int64_t all);

}  // namespace infini
