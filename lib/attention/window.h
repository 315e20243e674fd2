// What local attention sees: sinks, kept sentences, carry and the open segment, and where they stand in the stream.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "attention/rope.h"
#include "base/buffer.h"
#include "gemm/gemm.h"

namespace infini {

struct AttentionShape {
  int heads, kv_heads;
  int key_size, value_size;
  int segment, carry, sinks;  // tokens
  NumberType type;            // of K and V in the window, and of the local products
  int keep = 0;               // tokens of sentences that stood out: see keep.h
  float keep_least = -1e6f;   // what a kept sentence must be worth at least
  float keep_focus = 0;       // KeepProbe::focus
  int keep_standing = 0;      // KeepProbe::standing
  int window = 0;             // tokens that a query sees, its own included; 0: all of the list
  int group() const { return heads / kv_heads; }
  int64_t most_keys() const { return int64_t{sinks} + keep + carry + segment; }  // in view
};

// Positions count the stream's tokens from 0. The keys in view stand in a list: the sinks, the kept tokens, then every
// token from window_begin on. Positions of keys run on with the stream, which is the same as restarting them,
// because rotation is relative; only sinks and kept tokens are turned anew, to stand right before the window.
struct View {
  int64_t position = 0;       // tokens so far
  int64_t origin = 0;         // where the local view began: 0, or where a memory alone was restored
  int64_t window_begin = 0;   // the first token after the sinks and the kept ones
  int64_t segment_begin = 0;  // the first token of the open segment
  int64_t sinks = 0;          // in view before the window
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
  int64_t from;  // the first key whose token, asking, sees it raised
};

// What is in view once a segment was closed.
struct Closing {
  View after;
  std::vector<KeptSpan> spans;   // after.kept tokens in all
  std::vector<int64_t> sources;  // [after.kept]: where each stood in the list before, ascending
};

// By what the keys before a window are turned: cosine and sine [front][rope.dimensions / 2] of their positions.
class FrontAngles {
 public:
  // Nothing is computed anew where it is asked for the same once more: layers are alike.
  void turn(const Threads &threads, const Rope &rope, const View &view);
  std::vector<float> cosine, sine;

 private:
  const Rope *rope_ = nullptr;
  int64_t begin_ = 0, front_ = 0;
};

// K and V of one layer. Views may be the stream's or, from append() and close(), as this layer sees them. Keys are
// turned by their position; the open segment's keys are kept as they were too,
// because the memory takes them without position.
class Window {
 public:
  // keeps_keys [kv_heads]: whether the head has a memory, which wants its open segment's keys.
  Window(const AttentionShape &shape, const std::vector<bool> &keeps_keys);
  Window copy(const View &view) const;
  void clear(const View &view);  // forgets the stream that led to `view`

  // Writes the token at `position`, the next one of `view` or a later one of the same segment.
  // key [key_size] before rotation, value [value_size].
  void append(const View &view, int64_t position, int kv_head, const float *key, const float *value, const Rope &rope,
              const float *cosine, const float *sine);
  // Moves the carry to where it stands after the segment was closed, gathers what is kept, and turns it and the sinks.
  void close(const View &before, const Closing &closing, int kv_head, const Rope &rope, const FrontAngles &angles);
  // What is kept, in the order of the list: [view.kept][kv_heads] of a key before rotation and its value, [key_size +
  // value_size] f32.
  std::vector<float> kept(const View &view) const;
  // A copy in which that is kept instead: `after` is `before` but for kept. `angles` are those of `after`.
  Window with_kept(const View &before, const View &after, const std::vector<float> &kept, const Rope &rope,
                   const FrontAngles &angles) const;
  // Large pages from now on, if `view` fills more than half of the window.
  void settle(const View &view);
  // The same of a window that holds nothing yet, and memory for all that `view` uses.
  void prepare(const View &view);

  // Keys [key_size, count] and values [count, value_size] of the list, from index `begin` (a multiple of 64) on.
  Panels keys(int kv_head, int64_t begin, int64_t count) const;
  Panels values(int kv_head, int64_t begin, int64_t count) const;
  // The open segment's keys before rotation, f32 [count][key_size], from its token `begin` on.
  void raw_keys(int kv_head, int64_t begin, int64_t count, float *keys) const;
  // Values of the list as f32 panels [value_size / 64][count][64].
  void raw_values(int kv_head, int64_t index, int64_t count, float *values) const;

  // All that `view` uses, in a layout that is no kernel's: how snapshots hold a window. Per KV head rows of the list's
  // keys, turned, [keys][key_size], and values [keys][value_size]; keys before rotation of the open segment, where the
  // head has a memory, and of what is kept, [...][key_size], all of `type`, and zeros to a multiple of 4 bytes; then,
  // in f32, the sinks' keys before rotation and values.
  int64_t row_bytes(const View &view, NumberType type) const;
  void to_rows(const View &view, char *to) const;                       // of shape.type
  void from_rows(const View &view, NumberType type, const char *from);  // into a window that holds nothing yet

  // Takes over what `view` uses of a window of the other number type.
  void convert_from(const Window &other, const View &view);
  bool is_finite(const View &view) const;  // all that `view` uses

  int64_t capacity() const { return capacity_; }
  int64_t bytes() const { return static_cast<int64_t>(storage_.bytes()); }  // of all that it may come to use
  int64_t bytes_in_use(const View &view) const;

  // Every stretch of memory that `view` uses, in a fixed order: f(data, bytes, type of its numbers). Per KV head: keys
  // in panels of 64 tokens, values [tokens][64] for each 64 of value_size, keys of the open segment before rotation,
  // the sinks' keys before rotation and values in f32, and kept keys before rotation. This is also how snapshots of
  // format 1 hold a window.
  template <class Visit>
  void visit(const View &view, const Visit &f) {
    visit_own(view.through(shape_), f);
  }
  template <class Visit>
  void visit(const View &view, const Visit &f) const {
    const_cast<Window *>(this)->visit(
        view, [&](char *data, int64_t bytes, NumberType type) { f(static_cast<const char *>(data), bytes, type); });
  }

 private:
  struct Head {
    char *keys, *values, *raw;       // panels, panels, [segment][key_size] or null, of shape.type
    float *sink_keys, *sink_values;  // [sinks][key_size] before rotation, [sinks][value_size]
    char *kept;                      // [keep][key_size] before rotation, of shape.type
  };
  template <class Visit>
  void visit_own(const View &view, const Visit &f);       // as this window sees it
  char *key_cell(const Head &head, int64_t index) const;  // the first of a token's cells, a row of a panel apart
  int64_t key_cells() const;
  void put_key(Head &head, int64_t index, const float *key);
  void put_key_row(Head &head, int64_t index, const char *key);  // of shape.type, as the next
  void get_key_row(const Head &head, int64_t index, char *key) const;
  void put_value(Head &head, int64_t index, const float *value);
  void get_key(const Head &head, int64_t index, float *key) const;
  Window empty_copy() const;  // of the same shape, with nothing in it
  void get_value(const Head &head, int64_t index, float *value) const;
  void turn_front(Head &head, const View &view, const Rope &rope, const FrontAngles &angles);
  void gather_kept(Head &head, const View &before, const Closing &closing, const Rope &rope);
  void move(Head &head, int64_t from, int64_t to, int64_t count);

  AttentionShape shape_;
  int64_t capacity_;      // keys, a multiple of 64
  int64_t key_padded_;    // rows of a panel of keys
  Buffer<char> storage_;  // of all heads
  bool large_pages_ = false;
  std::vector<Head> heads_;
};

template <class Visit>
void Window::visit_own(const View &view, const Visit &f) {
  const int64_t bytes = bytes_of(shape_.type), tokens = round_up(view.keys(), kPanel);
  const int64_t sinks = std::min<int64_t>(shape_.sinks, view.position - view.origin);
  for (Head &head : heads_) {
    f(head.keys, tokens * key_padded_ * bytes, shape_.type);
    for (int64_t panel = 0; panel < round_up(shape_.value_size, kPanel) / kPanel; ++panel)
      f(head.values + panel * capacity_ * kPanel * bytes, tokens * kPanel * bytes, shape_.type);
    if (head.raw) f(head.raw, view.open() * shape_.key_size * bytes, shape_.type);
    f(reinterpret_cast<char *>(head.sink_keys), sinks * shape_.key_size * 4, NumberType::F32);
    f(reinterpret_cast<char *>(head.sink_values), sinks * shape_.value_size * 4, NumberType::F32);
    f(head.kept, view.kept * shape_.key_size * bytes, shape_.type);
  }
}

}  // namespace infini
