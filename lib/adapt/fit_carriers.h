// Carrier heads copy the name of a value to its tokens. What a plain model holds at the token of a name hardly tells it
// from other names in the layers above, so v and o of carriers are fitted: v is the columns of names, fitted to rows
// that hold a name (regression.h), and o writes a random direction for each, which is that name's alone.
#pragma once

#include "adapt/recall_trainer.h"

namespace infini {

// Sets v and o of the heads that the supervisor fits. Errors: nothing was set.
void fit_carriers(const RecallTrainer &trainer, Trainer::Drawn &drawn, Parameters &parameters);

}  // namespace infini
