// Infini-attention of one layer over whole streams, forward and backward through every segment: what equations.h says,
// one (stream, KV head) at a time, in f32 whatever the products' type is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/attention.h"
#include "base/buffer.h"
#include "train/layout.h"

namespace infini {

// Rotation by every index that a key may have in a window's list.
class RopeTable {
 public:
  void prepare(const AttentionRules &rules);
  // A head of `size` turned by `index`, times `scale`; y is not x.
  void turn(const float *x, int64_t size, int64_t index, float scale, float *y) const {
    turn(x, size, index, scale, y, sine_);
  }
  // The transpose of that, which gradients take.
  void turn_gradient(const float *x, int64_t size, int64_t index, float scale, float *y) const {
    turn(x, size, index, scale, y, minus_);
  }

 private:
  void turn(const float *x, int64_t size, int64_t index, float scale, float *y, const Buffer<float> &sine) const;

  Rope rope_;
  int64_t stride_ = 0;
  Buffer<float> cosine_, sine_,
      minus_;  // [indices][stride]: of pairs, or, where they are adjacent, as rotate_pairs() has them
};

// What a forward pass keeps of one layer's attention for the backward pass.
struct AttentionTrace {
  void reserve(const AttentionRules &rules, const Layout &layout);
  int64_t bytes() const { return static_cast<int64_t>(a_dot.bytes() + log_sum.bytes() + memory.bytes()); }
  static int64_t memory_size(const AttentionShape &shape) {
    return round_up(shape.value_size, kPanel) * shape.key_size + round_up(shape.key_size, 16);
  }

  Buffer<float> a_dot;    // [rows][heads * value_size]
  Buffer<float> log_sum;  // [rows][heads]: of the scores' exponentials
  Buffer<float> memory;   // [segments][kv_heads][memory_size]: M in panels, then z, before the segment
};

// Scratch of every thread.
class TraceScratch {
 public:
  void reserve(const AttentionRules &rules, int threads);
  int64_t bytes() const { return static_cast<int64_t>(numbers_.bytes()); }

 private:
  friend class StreamAttention;
  Buffer<float> numbers_;  // [threads][per_thread_]
  int64_t per_thread_ = 0;
};

// What heads are told, [heads] of one layer or [layers][heads] of all. nullptr: nothing.
struct HeadTargets {
  const float *retrieval = nullptr;  // what a retrieval that is told where to look weighs in the loss
  const float *silence = nullptr;    // of heads with a place, where another digit, or none, is asked for: what
                                     // log(1 + all / epsilon) weighs, all that a retrieval finds
  const float *local = nullptr;      // what local attention that is told which row to look at weighs
  const int32_t *places = nullptr;   // the digit of a value that a head looks for, -1: all; nullptr: all
  HeadTargets of_layer(size_t layer, int heads) const {
    const size_t first = layer * static_cast<size_t>(heads);
    const auto from = [first](auto *all) { return all ? all + first : nullptr; };
    return {from(retrieval), from(silence), from(local), from(places)};
  }
};

// One layer of one batch. qkv rows are as QkvRows says.
struct AttentionPass {
  const AttentionRules &rules;
  const Layout &layout;
  const RopeTable &rope;
  QkvRows qkv;
  const float *gate_weight;  // [heads], sigmoid(beta)
  HeadTargets targets;
  AttentionTrace &trace;
  TraceScratch &scratch;
};

// A of (10), rows of `type` out_stride apart.
void attend_streams(const AttentionPass &pass, NumberType type, void *out, int64_t out_stride);

// What became of attention that is told where to look.
struct Supervised {
  double loss = 0;    // -weight * log(share of what it is told), summed; and what silence weighs
  double share = 0;   // of the attention that falls there, summed
  int64_t count = 0;  // queries, for each head that was told
  void add(const Supervised &other);
};
struct Supervision {
  Supervised retrieval, local;
  void add(const Supervision &other);
};

// da [rows][heads * value_size] is d loss / d A. Writes dqkv, like qkv; adds to dbeta [heads] the gradient of the gates.
Supervision attend_streams_gradient(const AttentionPass &pass, const float *da, int64_t da_stride, float *dqkv,
                                    double *dbeta);

// Supervision alone, of a pass that has not gone forward: there is no other loss. Of qkv it reads k, and q of the rows `told`
// (Layout::told); it writes dqkv, like qkv, for the same.
Supervised supervise_streams(const AttentionPass &pass, std::span<const int64_t> told, float *dqkv);

}  // namespace infini
