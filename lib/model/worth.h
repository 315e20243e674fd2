// How much each token of a chunk is worth keeping, where sentences are kept; does nothing elsewhere.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/forward.h"

namespace infini {

class Worth {
 public:
  Worth(const Threads &threads, const Model &model, std::span<const StateTokens> chunk, Workspace &workspace);

  // The first tokens of the states, from the logits before them; and what closing a segment will keep, which must be
  // known before the chunk runs.
  void of_first_tokens(bool exact);
  // The residual stream after a layer, x [count][stride], which a probe may read. Layers after it know which sentences
  // of the window would be kept.
  void of_layer(int layer, const float *x, int64_t stride);
  // Whether the logits of all rows are needed: where surprise is the measure.
  bool wants_rows() const;
  // A row of logits says how likely the token of the next row was; the first of a state is known already.
  void of_next_tokens(int64_t first, int64_t rows, const float *logits, int64_t stride);
  // The chunk was read: its states learn what its tokens are worth, and what is kept from now on.
  void note();

 private:
  bool begins_state(size_t row) const;

  const Threads &threads_;
  const Model &model_;
  const AttentionShape &shape_;
  const KeepProbe &probe_;
  const std::span<const StateTokens> chunk_;
  Workspace &workspace_;
  std::vector<int32_t> &tokens_;
};

}  // namespace infini
