// The search for heads that retrieve: those that attend from where a value is predicted to where it stood before (Wu et
// al., arXiv 2404.15574). It also finds heads that attend from a value to its name.
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"
#include "train/trainer.h"

namespace infini {

struct FoundHead {
  size_t layer, head;
  double weight, name_weight;  // as in HeadSearch
  JsonText json() const;
};

struct HeadSearch {
  int heads = 0;  // of a layer
  // [layers][heads], mean attention weights. Of a value: from the token that predicts a digit of an answer to where
  // that digit stood last, over answers whose value last stood in another segment. Of a name: from the digits of a
  // value, and the token before them, to the name.
  std::vector<double> value_weight, name_weight;
  int64_t lookups = 0, right = 0;  // digits of such answers; those that the model predicts with full attention
  int64_t tokens = 0;              // that were read
  // Heads in the order of their value weight, the greatest first; `most` at most.
  std::vector<FoundHead> best(size_t most = SIZE_MAX) const;
};

struct Reading;
// All of them, and what was read.
JsonObject describe(const HeadSearch &found, const Reading &reading);
size_t most_heads_json(const Config &config);  // bytes that this takes at most

// Reads sequences with full attention, whatever window and gates the trainer has. Changes nothing. INVALID_ARGUMENT
// where the sequences hold no such answer.
HeadSearch find_heads(Trainer &trainer, SequenceSource &source, int sequences, int segment, int segments,
                      Task *task = nullptr);

}  // namespace infini
