// Which heads retrieve: those that attend from where a value is predicted to where it stood before (Wu et al.,
// arXiv 2404.15574). And which attend from a value to its name.
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"
#include "train/trainer.h"

namespace infini {

struct HeadSearch {
  int layers = 0, heads = 0;
  // [layers][heads]: mean attention weights from the token before an answer's digit, which predicts it, to where that digit
  // stood last, of answers whose value last stood in another segment; and from a value's digits, and the token before them,
  // to the name.
  std::vector<double> value_weight, name_weight;
  int64_t lookups = 0, right = 0;  // of values; digits that full attention predicts
  int64_t tokens = 0;
  // Heads in the order of their value weight, the greatest first, each layer * heads + head.
  std::vector<size_t> order() const;
};

// [{"layer", "head", "weight", "name_weight"}, ...] in that order.
// At most so many, of the largest weight of the value first.
JsonList describe(const HeadSearch &found, size_t most = SIZE_MAX);

// Over sequences that are read with full attention, whatever window and gates of the trainer are. Changes nothing.
// INVALID_ARGUMENT where they hold no such answer.
HeadSearch find_heads(Trainer &trainer, SequenceSource &source, int sequences, int segment, int segments,
                      Task *task = nullptr);

}  // namespace infini
