// What can be said of a model, by name.
#pragma once

#include <string>

#include "base/json.h"
#include "model/model.h"

namespace infini {

// All that infini_model_info_json lists.
JsonObject facts(const Model &model);
// One of them, the fingerprint, or a key of the model's file that holds a single value, as text. INVALID_ARGUMENT where
// there is no such fact, or the key holds an array.
std::string fact(const Model &model, const std::string &name);

}  // namespace infini
