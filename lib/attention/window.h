// K and V of what local attention sees.
#pragma once

#include <vector>

#include "attention/view.h"
#include "attention/window_panels.h"
#include "base/buffer.h"

namespace infini {

// The numbers of a window's rows: of keys before rotation, and of what is in view, unless that is int8.
struct RowNumbers {
  RowNumbers(NumberType numbers, bool rounded = false) : type(numbers), int8(rounded) {}
  bool operator==(const RowNumbers &) const = default;
  NumberType type;
  bool int8;
};

// K and V of one layer. Views are the stream's; append() and close() take them as this layer sees them (View::through).
// Keys are rotated by their position; those of the open segment are held before rotation too, because the memory takes
// them without position.
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
  // Moves the carry to where it stands after the segment was closed, gathers what is kept, and rotates it and the
  // sinks.
  void close(const View &before, const Closing &closing, int kv_head, const Rope &rope, const FrontAngles &angles);
  // What is kept, in the order of the list: [view.kept][kv_heads] of a key before rotation and its value, [key_size +
  // value_size] f32.
  std::vector<float> kept(const View &view) const;
  // A copy in which that is kept instead: `after` is `before` but for kept. `angles` are those of `after`.
  Window with_kept(const View &before, const View &after, const std::vector<float> &kept, const Rope &rope,
                   const FrontAngles &angles) const;
  // Large pages from now on, if `view` fills more than half of the window.
  void settle(const View &view);
  // The same for a window that holds nothing yet, with pages provided for all that `view` uses.
  void prepare(const View &view);

  // Keys [key_size, count] and values [count, value_size] of the list, from index `begin` (a multiple of 64) on.
  Panels keys(int kv_head, int64_t begin, int64_t count) const;
  Panels values(int kv_head, int64_t begin, int64_t count) const;
  // Where shape.int8: of each of these tokens, by what the numbers of its key, or value, are to be multiplied.
  const float *key_scales(int kv_head, int64_t begin) const { return heads_[kv_head].keys.scales() + begin; }
  const float *value_scales(int kv_head, int64_t begin) const { return heads_[kv_head].values.scales() + begin; }
  // The open segment's keys before rotation, f32 [count][key_size], from its token `begin` on.
  void raw_keys(int kv_head, int64_t begin, int64_t count, float *keys) const;
  // Values of the list as f32 panels [value_size / 64][count][64].
  void raw_values(int kv_head, int64_t index, int64_t count, float *values) const;

  // All that `view` uses, in a layout that depends on no kernel: how snapshots hold a window. Per KV head rows of the
  // list's keys, rotated, [keys][key_size], and values [keys][value_size]; keys before rotation of the open segment,
  // where the head has a memory, and of what is kept, [...][key_size], all of one type, and zeros to a multiple of 4
  // bytes; then, in f32, the sinks' keys before rotation and values. Where the list is int8, its scales come before
  // all that, in f32: [keys] of the keys, and [keys] of the values.
  int64_t row_bytes(const View &view, RowNumbers numbers) const;
  RowNumbers row_numbers() const { return {shape_.type, shape_.int8}; }
  void to_rows(const View &view, char *to) const;                          // of row_numbers()
  void from_rows(const View &view, RowNumbers numbers, const char *from);  // into a window that holds nothing yet

  bool is_finite(const View &view) const;  // all that `view` uses

  int64_t capacity() const { return capacity_; }
  int64_t bytes() const { return static_cast<int64_t>(storage_.bytes()); }  // of all that it may come to use
  int64_t bytes_in_use(const View &view) const;

  // Every stretch of memory that `view` uses, in a fixed order: f(data, bytes, type of its numbers). Per KV head: keys
  // in panels of 64 tokens, values [tokens][64] for each 64 of value_size, keys of the open segment before rotation,
  // the sinks' keys before rotation and values in f32, and kept keys before rotation, which is also how snapshots of
  // format 1 hold a window; then scales, where there are any.
  template <class Visit>
  void visit(const View &view, const Visit &f) {
    each_stretch(view.through(shape_), f);
  }
  template <class Visit>
  void visit(const View &view, const Visit &f) const {
    each_stretch(view.through(shape_), [&](const char *data, int64_t bytes, NumberType type) { f(data, bytes, type); });
  }

 private:
  struct Head {
    KeyPanels keys;
    ValuePanels values;
    char *raw;                       // [segment][key_size] before rotation, of shape.type, or null
    float *sink_keys, *sink_values;  // [sinks][key_size] before rotation, [sinks][value_size]
    char *kept;                      // [keep][key_size] before rotation, of shape.type
  };
  template <class Visit>
  void each_stretch(const View &view, const Visit &f) const;  // of a view as this window sees it
  int64_t key_bytes() const { return int64_t{shape_.key_size} * bytes_of(shape_.type); }
  int64_t sinks_of(const View &view) const { return std::min<int64_t>(shape_.sinks, view.position - view.origin); }
  Window empty_copy() const;  // of the same shape, with nothing in it
  void copy_sinks(const Head &from, Head &to) const;
  void move(Head &head, int64_t from, int64_t to, int64_t count);
  void rotate_front(Head &head, const View &view, const Rope &rope, const FrontAngles &angles);
  void gather_kept(Head &head, const View &before, const Closing &closing, const Rope &rope);

  AttentionShape shape_;
  int64_t capacity_;      // keys, a multiple of 64
  Buffer<char> storage_;  // of all heads
  bool large_pages_ = false;
  std::vector<Head> heads_;
};

template <class Visit>
void Window::each_stretch(const View &view, const Visit &f) const {
  const int64_t tokens = round_up(view.keys(), kPanel);
  for (const Head &head : heads_) {
    const NumberType list = shape_.list_type();
    f(head.keys.data(), head.keys.bytes(tokens), list);
    head.values.each_panel([&](int64_t, int64_t, char *panel) { f(panel, panel_bytes(list, tokens), list); });
    if (head.raw) f(head.raw, view.open() * key_bytes(), shape_.type);
    f(reinterpret_cast<char *>(head.sink_keys), sinks_of(view) * shape_.key_size * 4, NumberType::F32);
    f(reinterpret_cast<char *>(head.sink_values), sinks_of(view) * shape_.value_size * 4, NumberType::F32);
    f(head.kept, view.kept * key_bytes(), shape_.type);
    if (!shape_.int8) continue;
    for (float *const scales : {head.keys.scales(), head.values.scales()})
      f(reinterpret_cast<char *>(scales), tokens * 4, NumberType::F32);
  }
}

}  // namespace infini
