// Sources of sequences from a description in JSON: tasks.h and data.h.
#pragma once

#include <memory>
#include <string_view>

#include "base/json.h"
#include "text/tokenizer.h"
#include "adapt/curriculum.h"
#include "train/sequence.h"
#include "adapt/tasks.h"

namespace infini {

// INVALID_ARGUMENT names the field that is wrong; otherwise the errors are those of the sources. The tokenizer must outlive
// the source. Tasks are as hard as the curriculum says; without one (NULL), as their description does. Their prose is on the
// shelf; without one, each has its own.
std::unique_ptr<SequenceSource> make_source(std::string_view description, const Tokenizer &tokenizer,
                                            std::shared_ptr<const Curriculum> curriculum, ProseShelf *shelf = nullptr);
std::unique_ptr<SequenceSource> source_of(const nlohmann::json &description, const Tokenizer &tokenizer,
                                          std::shared_ptr<const Curriculum> curriculum, ProseShelf *shelf = nullptr);
// Of each type of source the table of its fields (schema.h).
JsonObject describe_sources();

}  // namespace infini
