// What training saw, as JSON: the fields that the header documents.
#pragma once

#include <nlohmann/json.hpp>

#include "train/trainer.h"

namespace infini {

nlohmann::ordered_json describe(const Tally &tally);
nlohmann::ordered_json describe(const Trainer &trainer, const StepReport &report);
// Weights of the gates, one list a layer.
nlohmann::ordered_json describe_gates(const Trainer &trainer);
// right / all; null where there is none.
nlohmann::ordered_json share_of(int64_t right, int64_t all);

}  // namespace infini
