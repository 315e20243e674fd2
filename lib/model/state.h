// What a session holds of its stream: everything but options, sampler and text.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "attention/keep.h"
#include "attention/view.h"
#include "model/config.h"

namespace infini {

// What a stream holds in the model's layers: windows and memories. They lie where the engine computes that made them,
// and it alone looks into them.
class Layers {
 public:
  virtual ~Layers() = default;
  virtual std::unique_ptr<Layers> copy(const View &view) const = 0;  // with a window of what `view` sees
  virtual void clear(const View &view) = 0;                          // as of a stream that begins
  virtual int64_t bytes(const View &view) const = 0;                 // in use
  virtual int64_t held_bytes() const = 0;                            // with the whole buffers of windows
};

// Where a stream stands: what its state and its checkpoints have in common.
struct Point {
  View view;
  std::unique_ptr<Layers> layers;
  Keep keep;                  // sentences that stood out
  std::vector<float> hidden;  // [width]: normed output of the last layer for the last token
  bool has_hidden = false;
};

// A segment boundary to which a session can be rewound.
struct Checkpoint : Point {
  bool begins() const { return !layers; }  // the stream
  int64_t bytes() const;
};

struct State : Point {
  State(const Config &config, std::unique_ptr<Layers> own, int most);
  State copy() const;
  void clear();
  // Goes back to a boundary and forgets those after it.
  void rewind(const Checkpoint &to);
  int64_t bytes() const;             // in use, checkpoints included
  int64_t held_bytes() const;        // the same with the whole buffers of windows
  int64_t checkpoint_bytes() const;  // of all that are kept

  // A change that must be whole, see Unfinished of engine.h, was cut short by an error: only reset or restore help.
  bool broken() const { return changes_ > 0; }

  std::vector<float> logits;  // [vocabulary rounded up to 64], of the last token once they were asked for
  bool has_logits = false;
  int most_checkpoints = 0;
  bool closes = false;  // the chunk that is being read closes a segment, and something is kept: see closing
  Closing closing;
  std::deque<Checkpoint> checkpoints;  // oldest first; the newest is the beginning of the open segment

 private:
  friend class Unfinished;
  State() = default;
  int changes_ = 0;  // begun, and not ended; they may nest
};

}  // namespace infini
