// The forward pass of one (stream, KV head).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "attention/mixture.h"
#include "kernels/tile.h"
#include "train/batch_attention.h"

namespace infini {

constexpr int64_t kStreamRows = 32;  // queries (token and head of a group) that go through the products together
constexpr int64_t kFoldRows = 128;   // tokens of a closing segment that go through the products together

inline int64_t tile_tokens(const AttentionShape &shape) { return std::max<int64_t>(1, kStreamRows / shape.group()); }
inline int64_t window_rows(const AttentionShape &shape) {
  return round_up(int64_t{shape.sinks} + shape.carry + shape.segment, kPanel);
}

// The scratch memory of one thread, which computes a segment of one KV head at a time. A row of a tile is a (token,
// query head of the group), or a token of the window, or one of the tokens that are folded together.
struct StreamTiles {
  Tile queries_, sigma_, dqueries_, dsigma_;  // [rows][key_size]; queries rotated and scaled
  Tile a_dot_, a_mem_, dlocal_, dretrieved_;  // [rows][value_size]
  Tile window_keys_, window_values_;          // [window][...]; keys rotated
  Tile transposed_keys_, transposed_values_;  // the same transposed
  Tile dwindow_keys_, dwindow_values_;
  Tile fold_values_, fold_known_, fold_gradient_;  // [kFoldRows][value_size]
  Tile transposed_memory_, transposed_gradient_;   // M and dM transposed
  float *dmemories_;                               // gradient of each KV head's memory
  float *piece_memory_, *sums_;                    // a memory before a piece, and what pieces add
  float *scores_, *dscores_;                       // [rows][window]
  float *denominator_, *ddenominator_;             // [rows]
  SoftmaxPart *parts_;                             // [rows]: of local attention
  float *row_, *rotated_;                          // one key, query or value
  float *capped_;                                  // one row of scores

  // take(floats) gives the numbers of each in turn.
  template <class Take>
  void arrange(const AttentionShape &shape, const Take &take) {
    const int64_t rows = tile_tokens(shape) * shape.group(), window = window_rows(shape),
                  both = std::max(rows, kFoldRows);
    const int64_t keys = shape.key_size, values = shape.value_size, memory = AttentionTrace::memory_size(shape);
    const auto tile = [&](int64_t r, int64_t columns) { return Tile{take(tile_size(r, columns)), r}; };
    for (Tile *t : {&queries_, &dqueries_}) *t = tile(rows, keys);
    for (Tile *t : {&sigma_, &dsigma_}) *t = tile(both, keys);
    for (Tile *t : {&a_dot_, &a_mem_, &dlocal_, &dretrieved_}) *t = tile(rows, values);
    for (Tile *t : {&window_keys_, &dwindow_keys_}) *t = tile(window, keys);
    for (Tile *t : {&window_values_, &dwindow_values_}) *t = tile(window, values);
    transposed_keys_ = tile(keys, window);
    transposed_values_ = tile(values, window);
    for (Tile *t : {&fold_values_, &fold_known_, &fold_gradient_}) *t = tile(kFoldRows, values);
    for (Tile *t : {&transposed_memory_, &transposed_gradient_}) *t = tile(values, keys);
    dmemories_ = take(shape.kv_heads * memory);
    for (float **numbers : {&piece_memory_, &sums_}) *numbers = take(memory);
    for (float **numbers : {&scores_, &dscores_}) *numbers = take(rows * window);
    for (float **numbers : {&denominator_, &ddenominator_}) *numbers = take(both);
    parts_ = reinterpret_cast<SoftmaxPart *>(take(rows * 2));
    capped_ = take(window);
    for (float **numbers : {&row_, &rotated_}) *numbers = take(std::max(keys, values));
  }
};

// Names are those of attention/equations.h.
class StreamForward : protected StreamTiles {
 public:
  // Computes in the scratch of the thread `here`. without_values: values are not read, and of the memory only z is
  // computed.
  StreamForward(const Threads &here, const LayerAttention &layer, int64_t item, bool without_values = false)
      : layer_(layer), shape_(layer.rules.shape), kind_(*layer.rules.memory),
        stream_(layer.layout.streams[item / shape_.kv_heads]), kv_head_(static_cast<int>(item % shape_.kv_heads)),
        keys_(shape_.key_size), values_(without_values ? 0 : shape_.value_size), group_(shape_.group()) {
    for (int64_t g = 0; g < group_; ++g) {
      supervises_ |= layer.supervision && layer.supervision->supervises(layer.layer, head(g));
      remembers_ |= supervises_ || layer.gate_weight[head(g)] != 0;
    }
    float *next = layer.scratch.numbers_.data() + here.index() * layer.scratch.per_thread_;
    arrange(shape_, [&](int64_t floats) { return std::exchange(next, next + round_up(floats, 16)); });
  }

  // Segment s of the stream, after those before it.
  void forward(int64_t s, NumberType type, void *out, int64_t out_stride) {
    start(s);
    announce(s + 1);
    load_window(false);
    each_tile([&](int64_t token, int64_t tokens) {
      load_queries(token, tokens);
      attend_locally(token, tokens);
      if (reads()) retrieve(tokens);
      store(token, tokens, type, out, out_stride);
    });
    if (remembers_ && !is_last(s)) fold();
  }

 protected:
  int head(int64_t g) const { return kv_head_ * static_cast<int>(group_) + static_cast<int>(g); }
  const float *query(int64_t row, int64_t g) const { return layer_.qkv.q(shape_, row, head(g)); }
  const float *key(int64_t row) const { return layer_.qkv.k(shape_, row, kv_head_); }
  const float *value(int64_t row) const { return layer_.qkv.v(shape_, row, kv_head_); }
  // Before segment s.
  MemoryTile memory(int64_t s) const {
    float *const memories = layer_.trace.memory.data();
    return {memories + (s * shape_.kv_heads + kv_head_) * AttentionTrace::memory_size(shape_), keys_, values_};
  }
  MemoryTile dmemory() const { return {dmemories_ + kv_head_ * AttentionTrace::memory_size(shape_), keys_, values_}; }
  int64_t trace_at(int64_t row, int64_t g) const { return (row * shape_.heads + head(g)) * values_; }

  void start(int64_t s) {
    segment_ = layer_.layout.segments[s];
    index_ = s;
    view_ = StreamSpan::view(shape_, stream_.first, segment_);
    own_ = view_.index_of(view_.position);
    window_count_ = own_ + segment_.tokens;
  }
  // Says which segment will be computed next, if the stream has it.
  void announce(int64_t s) {
    const bool there = s >= stream_.first_segment && s < stream_.first_segment + stream_.segments;
    later_ = there ? layer_.layout.segments[s].first - segment_.first : 0;
  }
  // Prefetches the same row of the segment that comes next: what one head reads of rows lies far apart, which the
  // processor's own prefetching does not follow. Where segments differ in length some rows are missed.
  void prefetch(const float *row, int64_t stride, int64_t n) const {
    for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(row + later_ * stride + i, 0, 2);
  }
  bool is_last(int64_t s) const { return s + 1 == stream_.first_segment + stream_.segments; }
  bool reads() const { return remembers_ && segment_.held > 0; }
  float gate(int64_t g) const { return gate_of(layer_.rules, layer_.gate_weight[head(g)], segment_.held); }
  // Row of the batch whose token stands at `index` of the window's list.
  int64_t row_at(int64_t index) const {
    return stream_.first + (index < view_.sinks ? index : view_.window_begin + index - view_.sinks);
  }

  // f(token of the segment, tokens)
  template <class Function>
  void each_tile(const Function &f) {
    const int64_t step = tile_tokens(shape_);
    for (int64_t token = 0; token < segment_.tokens; token += step) f(token, std::min(step, segment_.tokens - token));
  }
  // f(row of the tile, row of the batch, head of the group)
  template <class Function>
  void each_query(int64_t token, int64_t tokens, const Function &f) const {
    for (int64_t r = 0; r < tokens * group_; ++r) f(r, segment_.first + token + r / group_, r % group_);
  }

  // Fills row `row` of a tile: make(to) writes a key or query to `to`.
  template <class Make>
  void into_row(const Tile &tile, int64_t row, const Make &make) {
    if (keys_ <= kPanel) return make(tile.data + row * kPanel);
    make(row_);
    put_row(tile, row, row_, keys_);
  }
  // Row `row` of a tile, contiguous in memory.
  const float *as_row(const Tile &tile, int64_t row) {
    if (keys_ <= kPanel) return tile.data + row * kPanel;
    each_panel(keys_, [&](int64_t p, int64_t n) { std::copy_n(tile.panel(p) + row * kPanel, n, row_ + p * kPanel); });
    return row_;
  }

  void load_window(bool for_gradient) {
    for (int64_t i = 0; i < window_count_; ++i) {
      const int64_t row = row_at(i);
      into_row(window_keys_, i, [&](float *to) { layer_.rope.rotate(key(row), keys_, i, 1, to); });
      put_row(window_values_, i, value(row), values_);
      if (i < own_) continue;
      prefetch(key(row), layer_.qkv.stride, keys_);
      prefetch(value(row), layer_.qkv.stride, values_);
    }
    transpose(window_keys_, window_count_, keys_, transposed_keys_);
    if (for_gradient) transpose(window_values_, window_count_, values_, transposed_values_);
  }

  void load_queries(int64_t token, int64_t tokens) {
    const float scale = layer_.rules.score_scale();
    each_query(token, tokens, [&](int64_t r, int64_t row, int64_t g) {
      const int64_t at = own_ + row - segment_.first;
      into_row(queries_, r, [&](float *to) { layer_.rope.rotate(query(row, g), keys_, at, scale, to); });
      if (reads()) into_row(sigma_, r, [&](float *to) { kind_.feature(query(row, g), keys_, to); });
      prefetch(query(row, g), layer_.qkv.stride, keys_);
    });
  }

  // Row r of a tile that begins at `token` of the segment sees the keys unseen(token, r) .. seen(token, r) - 1 of the
  // window's list.
  int64_t seen(int64_t token, int64_t r) const { return own_ + token + r / group_ + 1; }
  int64_t unseen(int64_t token, int64_t r) const {
    return shape_.window > 0 ? std::max<int64_t>(0, seen(token, r) - shape_.window) : 0;
  }

  // (6), and the logarithm of the sum of its exponentials, which the backward pass needs. The window is one tile of
  // keys, and lies unlike a session's, because the backward pass needs it as it is, and transposed.
  void attend_locally(int64_t token, int64_t tokens) {
    const int64_t rows = tokens * group_, last = seen(token, rows - 1), count = round_up(last, 16);
    attend_tile(
        layer_.rules.soft_cap, rows, count, scores_, scores_, parts_,
        [&] { product_to_rows(queries_, rows, keys_, transposed_keys_, count, scores_, count, false); },
        [&](int64_t r) {
      return SeenKeys{unseen(token, r), seen(token, r)};
        },
        [](int64_t, float *, int64_t) {},
        [&] { product(scores_, count, 1, rows, last, window_values_, values_, a_dot_, false); });
    each_query(token, tokens, [&](int64_t r, int64_t row, int64_t g) {
      const auto [maximum, sum] = parts_[r];
      layer_.trace.log_sum[row * shape_.heads + head(g)] = maximum + std::log(sum);
      float *to = layer_.trace.a_dot.data() + trace_at(row, g);
      const float share = 1 / sum;
      each_panel(values_, [&](int64_t p, int64_t n) {
        const float *from = a_dot_.panel(p) + r * kPanel;
        mix(from, share, from, 0, n, to + p * kPanel);
      });
      prefetch(to, shape_.heads * values_, values_);
    });
  }

  // (7): a_mem_ without the division, denominator_.
  void retrieve(int64_t tokens) {
    kind_.read(memory(index_), sigma_, tokens * group_, layer_.rules.epsilon, a_mem_, denominator_);
  }

  // (10)
  void store(int64_t token, int64_t tokens, NumberType type, void *out, int64_t out_stride) {
    each_query(token, tokens, [&](int64_t r, int64_t row, int64_t g) {
      const float *a_dot = layer_.trace.a_dot.data() + trace_at(row, g);
      const int64_t at = row * out_stride + head(g) * values_;
      each_panel(values_, [&](int64_t p, int64_t n) {
        const float *a_mem = reads() ? a_mem_.panel(p) + r * kPanel : nullptr;
        as_numbers(type, out, at + p * kPanel,
                   [&](auto *to) { mix_head(gate(g), a_mem, denominator_[r], a_dot + p * kPanel, 1, n, to); });
      });
    });
  }

  // Features and values of tokens of the closing segment, which go into the memory together.
  FoldRows load_fold(int64_t first, int64_t count) {
    for (int64_t t = 0; t < count; ++t) {
      const int64_t row = segment_.first + first + t;
      into_row(sigma_, t, [&](float *to) { kind_.feature(key(row), keys_, to); });
      put_row(fold_values_, t, value(row), values_);
    }
    return {count, sigma_, fold_values_, fold_known_, denominator_};
  }
  ClosingTokens closing() const { return {segment_.tokens, segment_.held, kFoldRows, layer_.rules.epsilon}; }
  // (8) or (9), times the repeat weight of the segment: gives the memory before the next segment.
  void fold() {
    fold_weighted(kind_, closing(), segment_.repeat_weight, memory(index_), memory(index_ + 1), {sums_, keys_, values_},
                  [&](int64_t first, int64_t count) { return load_fold(first, count); });
  }

  const LayerAttention &layer_;
  const AttentionShape &shape_;
  const MemoryKind &kind_;
  const StreamSpan stream_;
  const int kv_head_;
  const int64_t keys_, values_, group_;
  bool supervises_ = false;  // retrievals of a head of the group
  bool remembers_ = false;   // a head of the group reads the memory

  // The segment at hand.
  SegmentSpan segment_{};
  int64_t index_ = 0, own_ = 0, window_count_ = 0;
  int64_t later_ = 0;  // rows from it to the segment that comes next
  View view_;
};

}  // namespace infini
