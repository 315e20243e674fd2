// What two streams left behind, added up, or one taken away from the other.
#pragma once

#include "model/model.h"
#include "model/state.h"

namespace infini {

// `other` has no open segment and no window; it is of the same model. M and z of `state` get `weight` times those of
// `other`. With a positive weight what `other` keeps stands before what `state` keeps, and of all the worthiest stay
// within the budget; with a negative one the sentences that both keep go. INVALID_ARGUMENT where a normaliser would
// fall below 0: more is taken away than there is. `state` may then hold anything.
void merge(const Threads &threads, const Model &model, State &state, const State &other, double weight);

}  // namespace infini
