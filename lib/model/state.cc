#include "model/state.h"

#include <algorithm>

namespace infini {
namespace {

std::vector<LayerState> copy_layers(const std::vector<LayerState> &layers, const View &view) {
  std::vector<LayerState> copies;
  copies.reserve(layers.size());
  for (const LayerState &layer : layers) copies.push_back(layer.copy(view));
  return copies;
}

Point copy_point(const Point &point) {
  return {point.view, copy_layers(point.layers, point.view), point.keep, point.hidden, point.has_hidden};
}

int64_t layer_bytes(const std::vector<LayerState> &layers, const View &view) {
  int64_t total = 0;
  for (const LayerState &layer : layers) {
    total += layer.window.bytes_in_use(view);
    for (const Memory &memory : layer.memory) total += memory.bytes();
  }
  return total;
}

}  // namespace

int64_t Checkpoint::bytes() const {
  return layer_bytes(layers, view) + keep.bytes() + static_cast<int64_t>(hidden.size() * sizeof(float));
}

State::State(const Model &model, int most) : most_checkpoints(most) {
  const std::vector<LayerWeights> &weights = model.weights().layers;
  layers.reserve(weights.size());
  for (size_t l = 0; l < weights.size(); ++l) layers.emplace_back(model.rules().of(l), weights[l].gate_weight.data());
  hidden.resize(static_cast<size_t>(model.config().width));
  logits.resize(static_cast<size_t>(round_up(model.config().vocabulary, kPanel)));
  clear();
}

State State::copy() const {
  State copied;
  static_cast<Point &>(copied) = copy_point(*this);
  copied.logits = logits;
  copied.has_logits = has_logits;
  copied.changes_ = changes_;
  copied.most_checkpoints = most_checkpoints;
  for (const Checkpoint &checkpoint : checkpoints) copied.checkpoints.push_back({copy_point(checkpoint)});
  return copied;
}

void State::clear() {
  for (LayerState &layer : layers) {
    layer.window.clear(view);
    for (Memory &memory : layer.memory) memory.clear();
  }
  view = {};
  keep = {};
  closes = false;
  has_hidden = has_logits = false;
  changes_ = 0;
  checkpoints.clear();
  if (most_checkpoints > 0) checkpoints.emplace_back();  // the beginning is a boundary too
}

void State::rewind(const Checkpoint &to) {
  const View target = to.view;
  if (to.begins()) {
    for (LayerState &layer : layers) {
      layer.window.clear(view);
      for (Memory &memory : layer.memory) memory.clear();
    }
  } else {
    layers = copy_layers(to.layers, target);
  }
  keep = to.keep;
  if (to.has_hidden) hidden = to.hidden;
  has_hidden = to.has_hidden;
  has_logits = false;
  view = target;
  while (checkpoints.back().view.position > target.position) checkpoints.pop_back();
}

int64_t State::bytes() const {
  return static_cast<int64_t>((hidden.size() + logits.size()) * sizeof(float)) + layer_bytes(layers, view) +
         keep.bytes() + checkpoint_bytes();
}

int64_t State::held_bytes() const {
  int64_t total = bytes();
  const auto add_unused = [&](const auto &holder) {
    for (const LayerState &layer : holder.layers)
      total += layer.window.bytes() - layer.window.bytes_in_use(holder.view);
  };
  add_unused(*this);
  for (const Checkpoint &checkpoint : checkpoints) add_unused(checkpoint);
  return total;
}

int64_t State::checkpoint_bytes() const {
  int64_t total = 0;
  for (const Checkpoint &checkpoint : checkpoints) total += checkpoint.bytes();
  return total;
}

void State::boundary_layer(const View &after, const LayerState &layer, size_t index) {
  if (index == 0) {
    checkpoints.emplace_back();
    checkpoints.back().view = after;
    if (checkpoints.size() > static_cast<size_t>(most_checkpoints)) checkpoints.pop_front();
  }
  const auto kept_one = std::find_if(checkpoints.begin(), checkpoints.end(),
                                     [&](const Checkpoint &c) { return c.view.position == after.position; });
  if (kept_one != checkpoints.end())
    kept_one->layers.push_back(layer.copy(after));  // else a later boundary of the chunk has dropped it
}

}  // namespace infini
