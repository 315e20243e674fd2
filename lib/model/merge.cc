#include "model/merge.h"

#include <algorithm>
#include <cmath>

#include "model/kept.h"
#include "model/layers.h"

namespace infini {
namespace {

constexpr float kRounding = 1e-3f;  // of a normaliser's entry: what may be missing where all of it is taken away

void merge_memory(Memory &memory, const Memory &other, double weight) {
  std::vector<float> before;
  for (int64_t i = 0; i < memory.key_size(); ++i) before.push_back(memory.normaliser(i));
  memory.merge(other, static_cast<float>(weight));
  for (int64_t i = 0; i < memory.key_size(); ++i)
    if (memory.normaliser(i) < -kRounding * std::max(1.0f, before[i]))
      fail(Status::INVALID_ARGUMENT,
           "more is taken away than the memory holds: what is subtracted was not read into it");
}

// Whether span i of `a` and span j of `b`, which begin with these tokens, are the same tokens read in the same place.
bool same(const Kept &a, size_t i, int64_t a_token, const Kept &b, size_t j, int64_t b_token) {
  if (a.spans[i].tokens != b.spans[j].tokens || a.layers.size() != b.layers.size()) return false;
  const int64_t a_tokens = a.tokens();
  for (size_t l = 0; l < a.layers.size(); ++l) {
    const int64_t stride = static_cast<int64_t>(a.layers[l].size()) / a_tokens;
    const auto from = a.layers[l].begin() + a_token * stride;
    if (!std::equal(from, from + a.spans[i].tokens * stride, b.layers[l].begin() + b_token * stride)) return false;
  }
  return true;
}

Kept without(const Kept &kept, const Kept &gone) {
  std::vector<bool> stays(kept.spans.size(), true);
  int64_t at = 0;
  for (size_t i = 0; i < kept.spans.size(); at += kept.spans[i].tokens, ++i) {
    int64_t other_at = 0;
    for (size_t j = 0; j < gone.spans.size(); other_at += gone.spans[j].tokens, ++j)
      if (same(kept, i, at, gone, j, other_at)) stays[i] = false;
  }
  return kept.choose(stays);
}

}  // namespace

void merge(const Threads &threads, const Model &model, State &state, const State &other, double weight) {
  const double tokens =
      static_cast<double>(state.view.memory_tokens) + weight * static_cast<double>(other.view.memory_tokens);
  std::vector<LayerState> &layers = layers_of(state);
  const std::vector<LayerState> &added = layers_of(other);
  for (size_t l = 0; l < layers.size(); ++l)
    for (size_t h = 0; h < layers[l].memory.size(); ++h)
      if (Memory &memory = layers[l].memory[h]; memory) merge_memory(memory, added[l].memory[h], weight);
  state.view.memory_tokens = static_cast<int64_t>(std::clamp(std::round(tokens), 0.0, 0x1p60));
  if (state.view.memory_tokens == 0)  // nothing is left but rounding
    for (LayerState &layer : layers)
      for (Memory &memory : layer.memory)
        if (memory) memory.clear();
  const AttentionShape &shape = model.rules().attention.shape;
  if (shape.keep == 0 || other.view.kept == 0) return;
  const Kept own = kept_of(model, state), theirs = kept_of(model, other);
  if (weight < 0) return set_kept(threads, model, state, without(own, theirs));
  Kept all = theirs;
  all.append(own);
  set_kept(threads, model, state, all.within_budget(shape));
}

}  // namespace infini
