// Initialises heads of the memory, and heads that carry names to them, by ridge regression: see fit_heads.cc.
#pragma once

#include "train/trainer.h"

namespace infini {

// Before the first step of a trainer of "retrieval", supervised heads with a digit index are fitted, by ridge regression
// over all that is drawn. `nats`: what a group of such heads adds to the logit of the digit that it retrieves. With config.hand_on,
// instead: v and o of heads whose local attention is supervised. INVALID_ARGUMENT where there is neither; CANCELLED, and
// errors of the source: nothing has changed.
void fit_heads(Trainer &trainer, double nats, Task *task = nullptr);

}  // namespace infini
