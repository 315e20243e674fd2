#include "model/layers.h"

#include <algorithm>

namespace infini {

HostLayers::HostLayers(const Model &model, RowNumbers numbers) {
  const std::vector<LayerWeights> &weights = model.weights().layers;
  list.reserve(weights.size());
  for (size_t l = 0; l < weights.size(); ++l) {
    AttentionRules rules = model.rules().of(l);
    rules.shape.type = numbers.type;
    rules.shape.int8 = numbers.int8;
    list.emplace_back(rules, weights[l].gate_weight.data());
  }
}

std::unique_ptr<Layers> HostLayers::copy(const View &view) const {
  auto copied = std::make_unique<HostLayers>();
  copied->list.reserve(list.size());
  for (const LayerState &layer : list) copied->list.push_back(layer.copy(view));
  return copied;
}

void HostLayers::clear(const View &view) {
  for (LayerState &layer : list) {
    layer.window.clear(view);
    for (Memory &memory : layer.memory) memory.clear();
  }
}

int64_t HostLayers::bytes(const View &view) const {
  int64_t total = 0;
  for (const LayerState &layer : list) {
    total += layer.window.bytes_in_use(view);
    for (const Memory &memory : layer.memory) total += memory.bytes();
  }
  return total;
}

int64_t HostLayers::held_bytes() const {
  int64_t total = 0;
  for (const LayerState &layer : list) {
    total += layer.window.bytes();
    for (const Memory &memory : layer.memory) total += memory.bytes();
  }
  return total;
}

void keep_boundary(State &state, const View &after, size_t index) {
  std::deque<Checkpoint> &checkpoints = state.checkpoints;
  if (index == 0) {
    checkpoints.emplace_back();
    checkpoints.back().view = after;
    checkpoints.back().layers = std::make_unique<HostLayers>();
    if (checkpoints.size() > static_cast<size_t>(state.most_checkpoints)) checkpoints.pop_front();
  }
  const auto kept_one = std::ranges::find_if(
      checkpoints, [&](const Checkpoint &checkpoint) { return checkpoint.view.position == after.position; });
  if (kept_one != checkpoints.end())
    layers_of(*kept_one).push_back(layers_of(state)[index].copy(after));  // else a later boundary has dropped it
}

}  // namespace infini
