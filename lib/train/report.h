// Reports of training as JSON, with the fields that infini_train.h documents.
#pragma once

#include <optional>

#include "base/json.h"
#include "train/trainer.h"

namespace infini {

JsonObject describe(const Tally &tally);
JsonObject describe(const Trainer &trainer, const StepReport &report);
// Weights of the gates, one list a layer.
JsonList describe_gates(const Trainer &trainer);
// The mean share of attention that supervised look-ups put on their sources, where there were any.
std::optional<double> source_share(const Tally &tally);
// right / all; null where there is none.
std::optional<double> share_of(int64_t right, int64_t all);

}  // namespace infini
