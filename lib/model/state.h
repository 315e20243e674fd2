// What a session holds of its stream: everything but options, sampler and text.
#pragma once

#include <deque>
#include <vector>

#include "attention/attention.h"
#include "attention/keep.h"
#include "model/model.h"

namespace infini {

// Where a stream stands: what its state and its checkpoints have in common.
struct Point {
  View view;
  std::vector<LayerState> layers;
  Keep keep;                  // sentences that stood out
  std::vector<float> hidden;  // [width]: normed output of the last layer for the last token
  bool has_hidden = false;
};

// A segment boundary to which a session can be rewound.
struct Checkpoint : Point {
  bool begins() const { return layers.empty(); }  // the stream
  int64_t bytes() const;
};

struct State : Point {
  explicit State(const Model &model, int most = 0);
  State copy() const;
  void clear();
  // Goes back to a boundary and forgets those after it.
  void rewind(const Checkpoint &to);
  int64_t bytes() const;             // in use, checkpoints included
  int64_t held_bytes() const;        // the same with the whole buffers of windows
  int64_t checkpoint_bytes() const;  // of all that are kept
  // Layer `index` has closed a segment, after which the view is `after`: copies the layer into that boundary's
  // checkpoint. The first layer makes the checkpoint, and drops the oldest if there are too many. Layers come in order;
  // different states may do this on different threads.
  void boundary_layer(const View &after, const LayerState &layer, size_t index);

  // Around a change that must be whole; changes may nest. One that an error cuts short leaves the state broken: only
  // reset or restore help. Unfinished, of engine.h, calls both.
  void begin_change() { ++changes_; }
  void end_change() { --changes_; }
  bool broken() const { return changes_ > 0; }

  std::vector<float> logits;  // [vocabulary rounded up to 64], of the last token once they were asked for
  bool has_logits = false;
  int most_checkpoints = 0;
  bool closes = false;  // the chunk that is being read closes a segment, and something is kept: see closing
  Closing closing;
  FrontAngles angles;
  std::deque<Checkpoint> checkpoints;  // oldest first; the newest is the beginning of the open segment

 private:
  State() = default;
  int changes_ = 0;  // begun, and not ended
};

}  // namespace infini
