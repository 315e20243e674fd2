#include "model/kept.h"

#include <algorithm>
#include <numeric>

#include "model/layers.h"

namespace infini {
namespace {

bool keeps(const Model &model, size_t layer) { return model.rules().of(layer).shape.window == 0; }

}  // namespace

int64_t Kept::tokens() const {
  return std::accumulate(spans.begin(), spans.end(), int64_t{0},
                         [](int64_t sum, const KeptSpan &span) { return sum + span.tokens; });
}

void Kept::append(const Kept &other) {
  spans.insert(spans.end(), other.spans.begin(), other.spans.end());
  layers.resize(other.layers.size());
  for (size_t l = 0; l < layers.size(); ++l)
    layers[l].insert(layers[l].end(), other.layers[l].begin(), other.layers[l].end());
}

Kept Kept::choose(const std::vector<bool> &stays) const {
  Kept chosen;
  chosen.layers.resize(layers.size());
  const int64_t all = tokens();
  int64_t at = 0;
  for (size_t i = 0; i < spans.size(); at += spans[i].tokens, ++i) {
    if (!stays[i]) continue;
    chosen.spans.push_back(spans[i]);
    for (size_t l = 0; l < layers.size(); ++l) {
      const int64_t stride = static_cast<int64_t>(layers[l].size()) / all;
      const auto from = layers[l].begin() + at * stride;
      chosen.layers[l].insert(chosen.layers[l].end(), from, from + spans[i].tokens * stride);
    }
  }
  return chosen;
}

Kept Kept::within_budget(const AttentionShape &shape) const {
  std::vector<size_t> ranking;
  std::vector<bool> stays;
  choose_spans(spans, shape, ranking, stays);
  return choose(stays);
}

int64_t kept_token_floats(const Model &model) {
  const AttentionShape &shape = model.rules().attention.shape;
  return int64_t{shape.kv_heads} * (shape.key_size + shape.value_size);
}

int64_t kept_layers(const Model &model) {
  int64_t count = 0;
  for (size_t l = 0; l < model.weights().layers.size(); ++l) count += keeps(model, l);
  return count;
}

Kept kept_of(const Model &model, const State &state) {
  Kept kept{state.keep.spans(), {}};
  const std::vector<LayerState> &layers = layers_of(state);
  for (size_t l = 0; l < layers.size(); ++l)
    if (keeps(model, l)) kept.layers.push_back(layers[l].window.kept(state.view));
  return kept;
}

void set_kept(const Threads &threads, const Model &model, State &state, const Kept &kept) {
  View after = state.view;
  after.kept = kept.tokens();
  std::vector<LayerState> &layers = layers_of(state);
  FrontAngles &angles = angles_of(state);
  std::vector<Window> windows;
  for (size_t l = 0; l < layers.size(); ++l) {
    if (!keeps(model, l)) continue;
    const AttentionRules &rules = model.rules().of(l);
    angles.prepare(threads, rules.rope, after);
    windows.push_back(layers[l].window.with_kept(state.view, after, kept.layers[windows.size()], rules.rope, angles));
  }
  size_t next = 0;
  for (size_t l = 0; l < layers.size(); ++l)
    if (keeps(model, l)) layers[l].window = std::move(windows[next++]);
  state.keep.set_spans(kept.spans);
  state.view = after;
}

}  // namespace infini
