// Which heads retrieve: those that look from the place where a value must be said to where it stood before (Wu et al.,
// arXiv 2404.15574). And which look from a value to the name that it belongs to.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "train/attend_streams.h"
#include "train/sequence.h"

namespace infini {

// The token that looks, and the one before it that it is to look at.
struct Lookup {
  int64_t row, source;
};
// From the token before an answer's digit, which predicts it, to where that digit stood last; of answers whose value last
// stood in another segment.
std::vector<Lookup> value_lookups(const Sequence &sequence);
// From a value's digits, and the token before them, to the name.
std::vector<Lookup> name_lookups(const Sequence &sequence);

// sums [heads] += local attention's weights from `row` to `source`. The pass has gone forward over one sequence, which
// was one segment.
void add_lookup_weights(const LayerAttention &pass, std::span<const Lookup> lookups, double *sums);

struct HeadSearch {
  int layers = 0, heads = 0;
  std::vector<double> value_weight, name_weight;  // [layers][heads]: means over all lookups
  int64_t lookups = 0, right = 0;                 // of values; digits that full attention predicts
  int64_t tokens = 0;
};

}  // namespace infini
