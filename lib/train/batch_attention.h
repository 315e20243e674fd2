// Infini-attention of one layer over a batch of whole streams, forward and backward through every segment. It computes
// what attention/equations.h says, one (stream, KV head) at a time, in f32 whatever the type of the products is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/attention.h"
#include "base/buffer.h"
#include "train/rope_table.h"
#include "train/supervisor.h"

namespace infini {

// What the forward pass of one layer's attention stores for the backward pass.
struct AttentionTrace {
  // f(buffer, how many elements it needs) for each buffer.
  template <class F>
  void each_buffer(const AttentionRules &rules, const BatchLayout &layout, const F &f) {
    const AttentionShape &shape = rules.shape;
    f(a_dot, layout.rows() * shape.attended_columns());
    f(log_sum, layout.rows() * shape.heads);
    f(memory, static_cast<int64_t>(layout.segments.size()) * shape.kv_heads * memory_size(shape));
  }
  void reserve(const AttentionRules &rules, const BatchLayout &layout) {
    each_buffer(rules, layout, [](auto &buffer, int64_t size) { buffer.reserve(size); });
  }
  int64_t bytes() const { return static_cast<int64_t>(a_dot.bytes() + log_sum.bytes() + memory.bytes()); }
  static int64_t memory_size(const AttentionShape &shape) {
    return round_up(MemoryTile::size(shape.key_size, shape.value_size), 16);
  }

  Buffer<float> a_dot;    // [rows][heads * value_size]: A_dot of (6), the output of local attention
  Buffer<float> log_sum;  // [rows][heads]: logarithm of the sum of the scores' exponentials
  Buffer<float> memory;   // [segments][kv_heads][memory_size]: M and z before the segment, laid out as in MemoryTile
};

// Working space of all threads, which layers share.
class TraceScratch {
 public:
  void reserve(std::span<const AttentionRules> kinds, int threads);  // `kinds`: the rules of these layers
  int64_t bytes() const { return static_cast<int64_t>(numbers_.bytes()); }

 private:
  friend class StreamForward;
  Buffer<float> numbers_;  // [threads][per_thread_]
  int64_t per_thread_ = 0;
};

// The attention of one layer over one batch.
struct LayerAttention {
  const AttentionRules &rules;
  const BatchLayout &layout;
  const RopeTable &rope;
  QkvRows qkv;                            // queries, keys and values of all rows, before rotation
  const float *gate_weight;               // [heads]: sigmoid(beta)
  int layer;                              // its index, by which `supervision` knows it
  const SupervisionWeights *supervision;  // nullptr: nothing is supervised
  AttentionTrace &trace;
  TraceScratch &scratch;
};

// Writes A of (10), [rows][heads * value_size] of `type`, rows out_stride elements apart.
void attend_streams(const Threads &threads, const LayerAttention &layer, NumberType type, void *out,
                    int64_t out_stride);

// Losses of supervised attention, summed over supervised (query, head).
struct Supervised {
  double loss = 0;    // -weight * log(share), and the loss of silence
  double share = 0;   // of the attention, what falls on its targets: 0 to 1 each
  int64_t count = 0;  // of shares
  void add(const Supervised &other);
};
struct Supervision {
  Supervised retrieval, local;
  void add(const Supervision &other);
};

// The backward pass. `da` [rows][heads * value_size] is d loss / d A. Writes d loss / d qkv into dqkv, laid out like
// qkv, and adds the gradients of the gates to dbeta [heads].
Supervision attend_streams_gradient(const Threads &threads, const LayerAttention &layer, const float *da,
                                    int64_t da_stride, float *dqkv, double *dbeta);

// Forward and backward where supervision of retrievals is the only loss. Of qkv it reads k of all rows, and q of the
// rows `supervised` (BatchLayout::supervised_rows); of dqkv it writes the same parts.
Supervised supervise_streams(const Threads &threads, const LayerAttention &layer, std::span<const int64_t> supervised,
                             float *dqkv);

}  // namespace infini
