// Initialises heads of the memory, and the carriers below them, by ridge regression: see fit_heads.cc.
#pragma once

#include "adapt/recall_trainer.h"

namespace infini {

// Whether the model's heads can be fitted: not where they share norms (of queries and keys, or after attention), nor
// where layers have windows of their own.
bool heads_can_be_fitted(const Config &model);

// To be called before the first step. Of a trainer of "retrieval" fits q, k, v and o of the supervised heads that have
// an offset to the sequences that the trainer draws; `nats`: what a group of such heads adds to the logit of the token
// that it retrieves. With SupervisionConfig::fitted_norm, fits v and o of the carriers instead, the heads whose local
// attention is supervised. INVALID_ARGUMENT where there is neither; UNSUPPORTED where heads can't be fitted; CANCELLED,
// and errors of the source: nothing has changed.
void fit_heads(RecallTrainer &trainer, double nats, Task *task = nullptr);

}  // namespace infini
