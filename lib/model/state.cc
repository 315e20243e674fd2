#include "model/state.h"

#include <algorithm>

namespace infini {
namespace {

Point copy_point(const Point &point) {
  return {point.view, point.layers ? point.layers->copy(point.view) : nullptr, point.keep, point.hidden,
          point.has_hidden};
}

}  // namespace

int64_t Checkpoint::bytes() const {
  return (layers ? layers->bytes(view) : 0) + keep.bytes() + static_cast<int64_t>(hidden.size() * sizeof(float));
}

State::State(const Config &config, std::unique_ptr<Layers> own, int most) : most_checkpoints(most) {
  layers = std::move(own);
  hidden.resize(static_cast<size_t>(config.width));
  logits.resize(static_cast<size_t>(round_up(config.vocabulary, kPanel)));
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
  layers->clear(view);
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
  if (to.begins()) layers->clear(view);
  else layers = to.layers->copy(target);
  keep = to.keep;
  if (to.has_hidden) hidden = to.hidden;
  has_hidden = to.has_hidden;
  has_logits = false;
  view = target;
  while (checkpoints.back().view.position > target.position) checkpoints.pop_back();
}

int64_t State::bytes() const {
  return static_cast<int64_t>((hidden.size() + logits.size()) * sizeof(float)) + layers->bytes(view) + keep.bytes() +
         checkpoint_bytes();
}

int64_t State::held_bytes() const {
  int64_t total = bytes();
  const auto add_unused = [&](const Point &point) {
    if (point.layers) total += point.layers->held_bytes() - point.layers->bytes(point.view);
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

}  // namespace infini
