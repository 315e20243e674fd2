// Tokens through the layers: the engine on the processor.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "kernels/kernels.h"
#include "model/engine.h"

namespace infini {

// Activations of one chunk, reused by the next. T is the longest chunk so far.
struct Workspace {
  void reserve(const Model &model, int64_t tokens, int threads);
  int64_t bytes() const;

  Buffer<float> x;             // [T][width rounded up to 64]: the residual stream
  Buffer<char> normed;         // [T][width] of the compute type
  Buffer<float> qkv;           // [T][columns of qkv rounded up to 64]
  Buffer<char> attended;       // [T][heads * value_size] of the compute type
  Buffer<float> gate_up;       // [T][2 * hidden rounded up to 64]
  Buffer<char> activated;      // [T][hidden] of the compute type
  Buffer<float> cosine, sine;  // of each rotation, [T][dimensions / 2]: see angles()
  Buffer<float> branch;        // [T][width rounded up to 64]: what is added to x, where a product alone is not it
  Buffer<float> logits;        // [kLogitsRows][vocabulary rounded up to 64]: for the logits of every position
  std::vector<int32_t> ids;    // [T]: the chunk's tokens, where sentences are kept
  std::vector<float> worth;    // [T]: of each of them: see attention/keep.h
  std::vector<uint8_t> ends;   // [T]: whether a sentence ends with it
  std::vector<std::vector<RaisedSpan>> raised;  // of each state
  // Where set, is called with the residual stream after each layer: x [rows][stride].
  std::function<void(int layer, const float *x, int64_t rows, int64_t stride)> watch;
  AttentionScratch attention;
  struct StateRows {
    int64_t first;  // row of its first token
    View after;     // of its state, once a layer has read it
  };
  std::vector<StateRows> rows;  // of each state
  int64_t tokens = 0;
  // Where the angles of a layer's rotation begin in cosine and sine.
  int64_t angles(const Config &config, int rotation) const;
};

// What Engine does by them, where each is explained.
void forward(const Threads &threads, const Model &model, std::span<const StateTokens> chunk, Workspace &workspace,
             bool exact, const LogitsSink &sink);

int64_t longest_chunk(const Model &model, const State &state);

void close_segment(const Threads &threads, const Model &model, State &state, Workspace &workspace, bool empty = false);

void compute_logits(const Threads &threads, const Model &model, std::span<State *const> states, Workspace &workspace,
                    bool exact);

int64_t count_tokens(std::span<const StateTokens> chunk);

}  // namespace infini
