// What computes the streams of a model: the seam at which a device would stand. Sessions, batches and scoring speak to
// an Engine and to nothing below it (tests/cli/layers.py).
//
// It is a class and no table of functions, because there is one implementation, on the processor. For a second one
// these members are the interface: each is a chunk of work, which is worth a call into a plug-in. What a caller sees of
// a state lies in the host's memory; its Layers lie where the engine computes, which copies, clears and measures them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <exception>
#include <memory>
#include <span>
#include <vector>

#include "format/snapshot.h"
#include "model/model.h"
#include "model/state.h"

namespace infini {

struct Workspace;

// Tokens of a chunk that go to one session's state.
struct StateTokens {
  State *state;
  std::span<const int32_t> tokens;
};

// A change of states: it begins here and ends with the scope, unless an exception does, which leaves them broken.
class Unfinished {
 public:
  explicit Unfinished(std::span<const StateTokens> all) : all_(all) { begin(); }
  explicit Unfinished(State &state) : one_{&state, {}}, all_(&one_, 1) { begin(); }
  Unfinished(const Unfinished &) = delete;
  Unfinished &operator=(const Unfinished &) = delete;
  ~Unfinished() {
    if (std::uncaught_exceptions() > errors_) return;
    for (const StateTokens &one : all_) --one.state->changes_;
  }

 private:
  void begin() {
    for (const StateTokens &one : all_) ++one.state->changes_;
  }
  const StateTokens one_{};
  const std::span<const StateTokens> all_;
  const int errors_ = std::uncaught_exceptions();
};

// Receives the logits of rows first .. first + rows of the chunk: [rows][stride]. Its loops may use its threads.
using LogitsSink =
    std::function<void(const Threads &threads, int64_t first, int64_t rows, const float *logits, int64_t stride)>;

// Fills the spans, one after the other, with the bytes of a section, which must be exactly as many; else throws.
using ReadSection = std::function<void(const std::vector<std::span<std::byte>> &spans)>;

// One thread at a time. An engine holds no stream, only the buffers of a chunk, which the next one uses again.
class Engine {
 public:
  explicit Engine(const Model &model);
  ~Engine();

  // The state of a stream that begins. Any engine of the model may go on with it.
  State make_state(int checkpoints) const;
  Checkpoint make_checkpoint() const;  // to read sections of a snapshot into

  // How many tokens the next chunk of `state` may read. Where sentences are kept it ends with the segment at the
  // latest: what closing a segment keeps must be known before the chunk that closes it.
  int64_t longest_chunk(const State &state) const;
  // Reads one chunk: each state's tokens, whatever segments they span, closing those that they fill. The tokens of all
  // states are rows of the same products. Every state then stands after its last token. `exact`: a token's numbers
  // depend on nothing else in the chunk. `sink` may be empty. If this throws, state.broken() tells whether a state can
  // still be used.
  void forward(const Threads &threads, std::span<const StateTokens> chunk, bool exact, const LogitsSink &sink = {});
  // Folds the open segment, if it holds any token. `empty`: the window is left empty, and what is worth it is kept.
  void close_segment(const Threads &threads, State &state, bool empty = false);
  // The logits of each state's last token, from its `hidden`, as one product.
  void compute_logits(const Threads &threads, std::span<State *const> states, bool exact);
  // As merge() of model/merge.h: `other` has no open segment and no window.
  void merge(const Threads &threads, State &state, const State &other, double weight) const;

  // The sections of a snapshot that hold what lies in layers; stream/snapshot.cc says what is in them, and names them.
  // They refer to the point or state, which must live as long. What reads returns whether all numbers are finite;
  // `stored` is the type of the snapshot's numbers, and point.view must be set before.
  NumberType number_type() const;  // of what is kept, and of windows
  RowNumbers row_numbers() const;  // of windows, which may be int8
  SnapshotSection memory_section(const Point &point) const;
  bool read_memory(Point &point, const ReadSection &read) const;
  SnapshotSection window_section(const Point &point) const;
  // The point's windows must hold nothing yet. The section has window_bytes(); read_window_1 reads one of format 1.
  uint64_t window_bytes(const Point &point, RowNumbers stored) const;
  bool read_window(const Threads &threads, Point &point, RowNumbers stored, std::span<const std::byte> section) const;
  bool read_window_1(Point &point, NumberType stored, const ReadSection &read) const;
  // The sentences of a state that has an empty window, and into such a state as many as fit its budget.
  SnapshotSection kept_section(const State &state) const;
  int64_t kept_bytes(int64_t tokens, NumberType stored) const;
  bool read_kept(State &state, std::vector<KeptSpan> spans, NumberType stored, const ReadSection &read) const;

  void reserve(int64_t tokens, int threads);  // takes the buffers of a chunk of so many tokens now
  int64_t bytes() const;                      // of these buffers

 private:
  const Model &model_;
  std::unique_ptr<Workspace> workspace_;
};

// -ln p of a token, in nats, from the logits before it.
inline float negative_log_likelihood(const float *logits, int64_t vocabulary, int32_t token) {
  return log_sum_exp(logits, vocabulary) - logits[token];
}

}  // namespace infini
