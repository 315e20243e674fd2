// Infini-attention of one layer over whole streams, forward and backward through every segment: what attention/equations.h says,
// one (stream, KV head) at a time, in f32 whatever the products' type is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/attention.h"
#include "base/buffer.h"
#include "train/layout.h"
#include "train/rope_table.h"

namespace infini {

// What a forward pass keeps of one layer's attention for the backward pass.
struct AttentionTrace {
  void reserve(const AttentionRules &rules, const Layout &layout);
  int64_t bytes() const { return static_cast<int64_t>(a_dot.bytes() + log_sum.bytes() + memory.bytes()); }
  static int64_t memory_size(const AttentionShape &shape) {
    return round_up(MemoryTile::size(shape.key_size, shape.value_size), 16);
  }

  Buffer<float> a_dot;    // [rows][heads * value_size]
  Buffer<float> log_sum;  // [rows][heads]: of the scores' exponentials
  Buffer<float> memory;   // [segments][kv_heads][memory_size]: as MemoryTile has it, before the segment
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

// Supervision of heads, [heads] of one layer or [layers][heads] of all. nullptr: none.
struct HeadTargets {
  const float *retrieval = nullptr;  // loss weight of a supervised retrieval
  const float *silence = nullptr;   // of heads of one digit index, in rows that ask for another digit or for none: loss
                                    // weight of log(1 + sigma(q) z / epsilon), 0 where the head finds nothing
  const float *local = nullptr;     // loss weight of supervised local attention
  const int32_t *places = nullptr;  // digit index: which token of a value a head retrieves, -1: all; nullptr: all
  HeadTargets of_layer(size_t layer, int heads) const {
    const size_t first = layer * static_cast<size_t>(heads);
    const auto from = [first](auto *all) { return all ? all + first : nullptr; };
    return {from(retrieval), from(silence), from(local), from(places)};
  }
};

// One layer of one batch. qkv rows are as QkvRows says.
struct LayerAttention {
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
void attend_streams(const Threads &threads, const LayerAttention &layer, NumberType type, void *out,
                    int64_t out_stride);

// Losses of supervised attention.
struct Supervised {
  double loss = 0;    // -weight * log(share), summed, and that of silence
  double share = 0;   // of the attention that falls on the sources, summed
  int64_t count = 0;  // supervised queries, once for each head
  void add(const Supervised &other);
};
struct Supervision {
  Supervised retrieval, local;
  void add(const Supervision &other);
};

// da [rows][heads * value_size] is d loss / d A. Writes dqkv, like qkv; adds to dbeta [heads] the gradient of the gates.
Supervision attend_streams_gradient(const Threads &threads, const LayerAttention &layer, const float *da,
                                    int64_t da_stride, float *dqkv, double *dbeta);

// Supervision of retrievals alone, forward and backward: there is no other loss. Of qkv it reads k, and q of the rows
// `supervised` (Layout::told); it writes dqkv, like qkv, for the same.
Supervised supervise_streams(const Threads &threads, const LayerAttention &layer, std::span<const int64_t> supervised,
                             float *dqkv);

}  // namespace infini
