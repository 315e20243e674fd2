// What a state keeps exactly, taken out of it and put into another.
#pragma once

#include <vector>

#include "model/model.h"
#include "model/state.h"

namespace infini {

struct Kept {
  std::vector<KeptSpan> spans;
  // Of each layer that keeps any (one with a window of its own does not): see Window::kept().
  std::vector<std::vector<float>> layers;

  int64_t tokens() const;
  void append(const Kept &other);
  // Those for which stays is true.
  Kept choose(const std::vector<bool> &stays) const;
  Kept within_budget(const AttentionShape &shape) const;  // by choose_spans()
};

// How many numbers a token takes in each layer that keeps any, and how many layers these are.
int64_t kept_token_floats(const Model &model);
int64_t kept_layers(const Model &model);

Kept kept_of(const Model &model, const State &state);
// The state keeps this instead, which must fit its budget.
void set_kept(const Threads &threads, const Model &model, State &state, const Kept &kept);

}  // namespace infini
