// The search for retrieval heads (Wu et al., arXiv 2404.15574): those that attend from where a value is predicted to
// where it stood before. It also finds heads that attend from a value to its name.
#pragma once

#include <cstdint>
#include <vector>

#include "base/limits.h"
#include "base/schema.h"
#include "train/trainer.h"

namespace infini {

struct FoundHead {
  size_t layer, head;
  double weight, name_weight;  // of those that HeadSearch sums: at values, and from values to names

  template <class Visitor>
  void fields(Visitor &v) {
    v("layer", layer, 0, kMostLayers, "");
    v("head", head, 0, 1e6, "");
    v("weight", weight);
    v("name_weight", name_weight);
  }
  JsonText json() const { return settings_json(*this).json(); }
};

struct HeadSearch {
  int heads = 0;  // of a layer
  // [layers][heads], mean attention weights. value_weight: from the token that predicts a token of an answer to where
  // that last stood, over answers across segments. name_weight: from the tokens of a value, and the one before them, to
  // its name.
  std::vector<double> value_weight, name_weight;
  int64_t lookups = 0, right = 0;  // tokens of such answers; those that the model predicts with full attention
  int64_t tokens = 0;              // that were read
  // The `most` heads of the greatest value weights, the greatest first.
  std::vector<FoundHead> best(size_t most = SIZE_MAX) const;
};

struct Reading;
// All heads, and what was read, as infini_trainer_find_heads_json says.
JsonObject describe(const HeadSearch &found, const Reading &reading);
size_t most_heads_json(const Config &config);  // bytes that this takes at most

// Reads sequences with full attention, whatever window and gates the trainer has. Changes nothing. INVALID_ARGUMENT
// where the sequences hold no such answer.
HeadSearch find_heads(Trainer &trainer, SequenceSource &source, int sequences, int segment, int segments,
                      Task *task = nullptr);

}  // namespace infini
