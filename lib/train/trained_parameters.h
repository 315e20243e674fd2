// Which parameters a trainer trains, and by which rule of the optimizer.
#pragma once

#include <vector>

#include "train/optimizer.h"
#include "train/parameters.h"
#include "train/supervisor.h"
#include "train/train_config.h"

namespace infini {

// Whether a run leaves the matrix as the model's file has it.
bool is_frozen(const TrainConfig &config, const Supervisor &supervisor, const TensorSpec &spec);
// By parameter: whether it gets gradients, and belongs to what checkpoints hold and the written model has.
// INVALID_ARGUMENT where retrievals are to be trained, and none is supervised.
std::vector<bool> choose_trained(const TrainConfig &config, const LayerRange &layers, const Supervisor &supervisor,
                                 const Parameters &parameters);
// Of these, what the optimizer changes itself: not those that are only initialised.
std::vector<Variable> choose_variables(const TrainConfig &config, const Parameters &parameters,
                                       const std::vector<bool> &trained);
// The matrices that get adapters; none unless these are trained.
std::vector<size_t> choose_adapted(const TrainConfig &config, const LayerRange &layers, const Parameters &parameters);

}  // namespace infini
