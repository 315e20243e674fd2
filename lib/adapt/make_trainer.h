// A trainer from one JSON description, as the C interface and the command give it.
#pragma once

#include <memory>
#include <string_view>

#include "base/json.h"
#include "base/options.h"
#include "adapt/recall_trainer.h"
#include "adapt/recall_source.h"

namespace infini {

// From a JSON object as describe_trainer() says. Options: threads, compute. `cache`: of the prose
// of tasks; null: each task has its own.
std::unique_ptr<RecallTrainer> make_trainer(std::shared_ptr<const Model> model, std::string_view description,
                                            const Options &options, TokenCache *cache = nullptr, Task *task = nullptr);

// The table of the description's fields (schema.h).
JsonText describe_trainer();

// As of any trainer, and what the description wants to be measured.
JsonObject describe(const RecallTrainer &trainer);

}  // namespace infini
