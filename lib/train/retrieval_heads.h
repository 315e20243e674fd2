// Which heads retrieve: those that look from the place where a value must be said to where it stood before (Wu et al.,
// arXiv 2404.15574).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "train/attention_gradient.h"
#include "train/sequence.h"

namespace infini {

// A digit of an answer: the token before it, from which it is predicted, and where the digit stood last.
struct Lookup {
  int64_t row, source;
};
// Those of answers whose value last stood in another segment.
std::vector<Lookup> lookups_of(const Sequence &sequence);

// sums [heads] += local attention's weights from `row` to `source`. The pass has gone forward over one sequence, which
// was one segment.
void add_lookup_weights(const AttentionPass &pass, std::span<const Lookup> lookups, double *sums);

struct HeadSearch {
  int layers = 0, heads = 0;
  std::vector<double> weight;  // [layers][heads]: the mean over all lookups
  int64_t lookups = 0, right = 0;  // `right`: digits that full attention predicts
  int64_t tokens = 0;
};

}  // namespace infini
