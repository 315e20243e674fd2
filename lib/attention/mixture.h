// (6) and (10) of attention/equations.h, as sessions and training compute them.
#pragma once

#include <algorithm>

#include "attention/attention.h"

namespace infini {

// The keys from <= index < to that a query sees of those at hand.
struct SeenKeys {
  int64_t from, to;
};

// (6) for a tile of queries over `count` keys, without the division: the sum of exp(score - maximum) V, and in `sums`
// [rows] the maximum and what is to be divided by. How keys and values lie is the caller's: multiply_keys() writes
// Q K^T to scores [rows][count], and multiply_values() sums V by the weights p [rows][count], which may be the scores'
// own place. seen(row) gives the row's SeenKeys; add_bias(row, its scores, their end) may add to the scores.
template <class Number, class MultiplyKeys, class Seen, class AddBias, class MultiplyValues>
void attend_tile(float cap, int64_t rows, int64_t count, float *scores, Number *p, SoftmaxPart *sums,
                 const MultiplyKeys &multiply_keys, const Seen &seen, const AddBias &add_bias,
                 const MultiplyValues &multiply_values) {
  multiply_keys();
  for (int64_t row = 0; row < rows; ++row) {
    const auto [from, to] = seen(row);
    float *const row_scores = scores + row * count;
    if (cap > 0) soft_cap(row_scores + from, to - from, cap);
    add_bias(row, row_scores, to);
    Number *const weights = p + row * count;
    std::fill_n(weights, from, Number{});
    sums[row] = softmax_part(row_scores + from, to - from, count - from, weights + from);
  }
  multiply_values();
}

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
