// What local attention sees: sinks, kept sentences, carry and the open segment, and where they stand in the stream.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/rope.h"
#include "gemm/gemm.h"

namespace infini {

// The heads of a layer.
struct HeadShape {
  int heads = 0, kv_heads = 0;
  int key_size = 0, value_size = 0;               // d_key, d_value of one head
  int group() const { return heads / kv_heads; }  // query heads that share one KV head
  // Columns of what one product makes of a token: q of all heads, then k, then v; and of all heads' outputs.
  int64_t q_columns() const { return int64_t{heads} * key_size; }
  int64_t k_columns() const { return int64_t{kv_heads} * key_size; }
  int64_t v_columns() const { return int64_t{kv_heads} * value_size; }
  int64_t qkv_columns() const { return q_columns() + k_columns() + v_columns(); }
  int64_t attended_columns() const { return int64_t{heads} * value_size; }
};

struct AttentionShape : HeadShape {
  int segment, carry, sinks;  // tokens
  NumberType type;            // of K and V in the window, unless they are int8, and of the local products
  int keep = 0;               // tokens of sentences that stood out: see keep.h
  float keep_least = -1e6f;   // what a kept sentence must be worth at least
  float keep_focus = 0;       // KeepProbe::focus
  int keep_standing = 0;      // KeepProbe::standing
  int window = 0;             // tokens that a query sees, its own included; 0: all of the list
  bool int8 = false;          // K and V in the window are int8, with a scale for each token
  NumberType list_type() const { return int8 ? NumberType::I8 : type; }
  int64_t most_keys() const { return int64_t{sinks} + keep + carry + segment; }  // in view
};

// Positions count the stream's tokens from 0. The keys in view stand in a list: the sinks, the kept tokens, then every
// token from window_begin on. Positions of keys run on with the stream, which is the same as restarting them,
// because rotation is relative; only sinks and kept tokens are rotated anew, to stand right before the window.
struct View {
  int64_t position = 0;       // tokens so far
  int64_t origin = 0;         // where the local view began: 0, or where a memory alone was restored
  int64_t window_begin = 0;   // the first token after the sinks and the kept ones
  int64_t segment_begin = 0;  // the first token of the open segment
  int64_t sinks = 0;          // tokens in view before the kept ones
  int64_t kept = 0;           // tokens in view between the sinks and the window
  int64_t memory_tokens = 0;  // folded into the memory

  int64_t open() const { return position - segment_begin; }  // tokens in the open segment
  int64_t front() const { return sinks + kept; }             // keys before the window
  int64_t index_of(int64_t token) const { return front() + token - window_begin; }
  int64_t keys() const { return index_of(position); }
  // As a layer of this shape sees it. Views are kept for layers without a window of their own; a layer that has one
  // sees no sinks and nothing kept, and before the open segment as much as its window needs.
  View through(const AttentionShape &shape) const;
  // The view after the open segment was closed, where nothing is kept.
  View closed(const AttentionShape &shape) const;
};

// A sentence that is kept.
struct KeptSpan {
  int64_t begin;  // position of its first token
  int32_t tokens;
  float worth;  // what it is ranked by: see keep.h
};

// A sentence of the list that heads with a bias raise.
struct RaisedSpan {
  int64_t index;  // of its first key
  int64_t tokens;
  int64_t from;  // index of the first token whose queries see it raised
};

// What is in view once a segment was closed. One is used again and again, so that no token allocates.
struct Closing {
  View after;
  std::vector<KeptSpan> spans;   // after.kept tokens in all
  std::vector<int64_t> sources;  // [after.kept]: where each stood in the list before, ascending
  // Of Keep::close(): what there was to choose from, the best first, and which of it stays.
  std::vector<KeptSpan> candidates;
  std::vector<size_t> ranking;
  std::vector<bool> stays;
};

// By what the keys before a window are rotated: cosine and sine [front][rope.dimensions / 2] of their positions.
class FrontAngles {
 public:
  // Computes them, unless they are those of the last call: most layers ask for the same.
  void prepare(const Threads &threads, const Rope &rope, const View &view);
  std::vector<float> cosine, sine;

 private:
  const Rope *rope_ = nullptr;
  int64_t begin_ = 0, front_ = 0;
};

}  // namespace infini
