// Initialises heads of the memory, and heads that carry names to them, by ridge regression: see fit_heads.cc.
#pragma once

#include "adapt/recall_trainer.h"

namespace infini {

// Not where heads share norms, of queries and keys or of what they add, nor where layers have windows of their own.
bool heads_can_be_fitted(const Config &model);

// To be called before the first step, of a trainer of "retrieval" that supervises heads with an offset: fits these
// heads to the sequences that it draws. `nats`: what a group of such heads adds to the logit of the digit that it
// retrieves. With SupervisionConfig::fitted_norm, instead: v and o of heads whose local attention is supervised.
// INVALID_ARGUMENT where there is neither; UNSUPPORTED where heads can't be fitted; CANCELLED, and errors of the
// source: nothing has changed.
void fit_heads(RecallTrainer &trainer, double nats, Task *task = nullptr);

}  // namespace infini
