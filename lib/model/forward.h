// Tokens through the layers.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "model/state.h"

namespace infini {

// Activations of one block, reused by the next. T is the longest block so far.
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
  Buffer<float> branch;        // [T][width rounded up to 64]: what is added to x, where more than a product makes it
  Buffer<float> logits;        // [kLogitsRows][vocabulary rounded up to 64]: for the logits of every position
  std::vector<float> worth;    // [T]: of each token, where sentences are kept: see attention/keep.h
  std::vector<uint8_t> ends;   // [T]: whether a sentence ends with it
  // Where set, hears of the residual stream behind each layer: x [rows][stride].
  std::function<void(int layer, const float *x, int64_t rows, int64_t stride)> watch;
  AttentionScratch attention;
  std::vector<int64_t> first_rows;  // of the block's parts
  int64_t tokens = 0;
  // Where the angles of a layer's rotation begin in cosine and sine.
  int64_t angles(const Config &config, int rotation) const;
};

// Tokens that go to one session's state.
struct Part {
  State *state;
  std::span<const int32_t> tokens;
};

// Receives the logits of rows first .. first + rows of the block: [rows][stride]. Its loops may use the block's threads.
using LogitsSink =
    std::function<void(const Threads &threads, int64_t first, int64_t rows, const float *logits, int64_t stride)>;

// Reads one block: each part's tokens, whatever segments they span, closing those that they fill. The tokens of all
// parts are rows of the same products. Every state then stands after its last token. `sink` may be empty. If this
// throws, state.broken tells whether a state can still be used.
void forward(const Threads &threads, const Model &model, std::span<const Part> parts, Workspace &workspace, bool exact,
             const LogitsSink &sink);

// -ln p of a token, in nats, from the logits before it.
inline float negative_log_likelihood(const float *logits, int64_t vocabulary, int32_t token) {
  return log_sum_exp(logits, vocabulary) - logits[token];
}

int64_t count_tokens(std::span<const Part> parts);

// How many tokens one block may read of those that follow `state`: where sentences are kept it ends with the segment,
// since what is kept then must be known before.
int64_t longest_block(const Model &model, const State &state);

// Folds the open segment, if it holds any token. `empty`: the window is left empty, and what is worth it is kept.
void close_segment(const Threads &threads, const Model &model, State &state, Workspace &workspace, bool empty = false);

// The logits of each state's last token, from its `hidden`, as one product.
void compute_logits(const Threads &threads, const Model &model, std::span<State *const> states, Workspace &workspace,
                    bool exact);

}  // namespace infini
