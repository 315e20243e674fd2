// (10) of attention/equations.h, one row of one head at a time, as sessions and training compute it. lib/README.md says
// why (6) is written twice.
#pragma once

#include "attention/attention.h"

namespace infini {

// The weight of A_mem, of a head whose sigmoid(beta) is `weight` and whose memory holds `held` tokens.
inline float gate_of(const AttentionRules &rules, float weight, int64_t held) {
  return held > 0 || rules.first_gated ? weight : 0;
}

// out = gate * A_mem + (1 - gate) * A_dot, where a_mem is still to be divided by `denominator`, and a_dot by `sum`.
// a_mem: nullptr for the empty memory, whose A_mem is 0.
template <class Number>
void mix_head(float gate, const float *a_mem, float denominator, const float *a_dot, float sum, int64_t n,
              Number *out) {
  mix(a_mem ? a_mem : a_dot, a_mem ? gate / denominator : 0, a_dot, (1 - gate) / sum, n, out);
}

}  // namespace infini
