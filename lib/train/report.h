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
// Makes so many steps, which the task counts; `report` becomes that of the last one that has happened. INVALID_ARGUMENT
// for fewer than 0.
void train(Trainer &trainer, int64_t steps, Task *task, std::string &report);

// How much an evaluation, or a search for heads, reads: sequences in segments as long as the trainer's are now.
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
// The mean share of supervised retrievals that falls on their source rows, where there were any.
std::optional<double> source_share(const Tally &tally);
// right / all; nothing where all is 0.
std::optional<double> share_of(int64_t right, int64_t all);

}  // namespace infini
