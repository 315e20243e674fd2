// Sources of sequences from a description in JSON: those of recall_source.h and text_sources.h.
#pragma once

#include <memory>
#include <string_view>

#include "adapt/curriculum.h"
#include "adapt/recall_source.h"
#include "base/json.h"
#include "model/model.h"
#include "train/sequence.h"

namespace infini {

// INVALID_ARGUMENT names the field that is wrong; STATE where the source needs a tokenizer and the model has none;
// otherwise the errors are those of the sources. The model must outlive the source. Recall tasks are as hard as the
// curriculum says, or without one (null) as their description says. `cache`: of their prose; null: each source has its
// own. `task` may cancel the reading of prose.
std::unique_ptr<SequenceSource> make_source(const nlohmann::json &description, const Model &model,
                                            std::shared_ptr<const Curriculum> curriculum, TokenCache *cache = nullptr,
                                            Task *task = nullptr);
std::unique_ptr<SequenceSource> make_source(std::string_view description, const Model &model,
                                            TokenCache *cache = nullptr, Task *task = nullptr);
// The table of the fields (schema.h) of each type of source.
JsonObject describe_sources();

}  // namespace infini
