// Heads of the memory, and heads that carry names to it, that begin as a regression instead of at random: see fit_heads.cc.
#pragma once

#include "train/trainer.h"

namespace infini {

// Before the first step of a trainer of "retrieval", heads that are supervised with an offset begin anew, by ridge regression
// over all that is drawn. `nats`: what the memory of such heads is to say for the digit that it finds. With config.hand_on,
// instead: v and o of heads whose local attention is supervised. INVALID_ARGUMENT where there is neither; CANCELLED, and
// errors of the source: nothing has changed.
void fit_heads(Trainer &trainer, double nats, Task *task = nullptr);

}  // namespace infini
