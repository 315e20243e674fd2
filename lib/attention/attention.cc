#include "attention/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "attention/mixture.h"
#include "kernels/int8_panel.h"
#include "kernels/kernels.h"

namespace infini {
namespace {

constexpr int64_t kTileRows = 192;      // queries (token and head of a group) that go through the products together
constexpr int64_t kTileKeys = 256;      // keys: scores of a tile stay in the second-level cache
constexpr int64_t kWorthWidening = 16;  // rows for which a tile of int8 is widened, once

int64_t tile_tokens(const AttentionShape &shape) { return std::max<int64_t>(1, kTileRows / shape.group()); }

}  // namespace

LayerState::LayerState(const AttentionRules &rules, const float *gate_weight)
    : window(rules.shape, [&] {
        std::vector<bool> keeps(static_cast<size_t>(rules.shape.kv_heads));
        for (int h = 0; h < rules.shape.heads; ++h)
          if (gate_weight[h] != 0) keeps[h / rules.shape.group()] = true;
        return keeps;
      }()) {
  memory.resize(static_cast<size_t>(rules.shape.kv_heads));
  for (int h = 0; h < rules.shape.heads; ++h) {
    Memory &m = memory[h / rules.shape.group()];
    if (gate_weight[h] != 0 && !m) m = Memory(*rules.memory, rules.shape.key_size, rules.shape.value_size);
  }
}

LayerState LayerState::copy(const View &view) const {
  std::vector<Memory> memories;
  for (const Memory &m : memory) memories.push_back(m.copy());
  return {window.copy(view), std::move(memories)};
}

// One call of attend(): a value for every name of the equations, and the tiles in which they are computed.
class AttentionSpan {
 public:
  AttentionSpan(const Threads &threads, const AttentionRules &rules, const Gemm &gemm, const LayerState &layer,
                const TokenSpan &span, bool exact, AttentionScratch &scratch)
      : threads_(threads), rules_(rules), shape_(rules.shape), gemm_(gemm), layer_(layer),
        view_(span.view.through(rules.shape)), qkv_(span.qkv), tokens_(span.tokens), cosine_(span.cosine),
        sine_(span.sine), gate_weight_(span.gate_weight), keep_bias_(span.keep_bias),
        raised_(shape_.window == 0 && raises(span.keep_bias) ? span.raised : std::span<const RaisedSpan>()),
        own_kernel_(exact || span.tokens == 1), scratch_(scratch), out_(span.out), out_stride_(span.out_stride),
        value_stride_(round_up(shape_.value_size, kPanel)) {}

  void run() {
    const int64_t tiles = (tokens_ + tile_tokens(shape_) - 1) / tile_tokens(shape_);
    const int64_t keys = view_.index_of(view_.position + tokens_ - 1) + 1;
    const int64_t begin = keys_from(0) / kTileKeys * kTileKeys, key_tiles = (keys - begin + kTileKeys - 1) / kTileKeys;
    const int64_t operations = tokens_ * shape_.heads * keys * (shape_.key_size + shape_.value_size);
    if (tiles == 1 && key_tiles > 1 && threads_.count() > 1 && shape_.kv_heads < 4 * threads_.count()) {
      divide_keys(begin, key_tiles, operations);
      return;
    }
    parallel_items(threads_, shape_.kv_heads * tiles, operations, [&](int64_t item, const Threads &here) {
      const Tile tile = make_tile(here, static_cast<int>(item / tiles), item % tiles);
      rotate_queries(tile);
      rank_raised(here, tile);
      const int64_t first_tile = keys_from(tile.first_token) / kTileKeys * kTileKeys;
      for (int64_t first = first_tile; first < last_key(tile); first += kTileKeys) {
        const bool one = first == first_tile;
        attend_keys(here, tile, first, one ? tile.sums : tile.tile_sums, one ? tile.a_dot : tile.tile_a_dot);
        if (!one) combine(tile, tile.tile_sums, tile.tile_a_dot);
      }
      mix_and_store(tile);
    });
  }

  // Floats that a tile needs.
  static int64_t scratch_size(const AttentionShape &shape) {
    const int64_t rows = tile_tokens(shape) * shape.group(), value_stride = round_up(shape.value_size, kPanel);
    const int64_t tile = rows * (2 * shape.key_size + 2 * kTileKeys + 3 * value_stride + 5 + most_sentences(shape)) +
                         (shape.int8 ? kTileKeys * std::max(padded_k(shape.type, shape.key_size), value_stride) : 0) +
                         18 * 16;
    return std::max(tile, AttentionScratch::fold_size(shape));
  }

  // Sentences that rank_raised() ranks, at most: each has a token at least.
  static int64_t most_sentences(const AttentionShape &shape) {
    if (shape.keep_focus == 0) return 0;
    return shape.keep + (shape.keep_standing > 0 ? int64_t{shape.carry} + shape.segment : 0);
  }

 private:
  // Queries of one KV head: rows are (token, head of the group).
  struct Tile {
    int kv_head;
    int64_t first_token, tokens, rows;
    float *q;                       // [rows][key_size], rotated and scaled, of shape.type
    float *sigma_q;                 // [rows][key_size]
    float *scores;                  // [rows][kTileKeys]
    float *p;                       // [rows][kTileKeys] of weights_type()
    float *a_dot, *tile_a_dot;      // [rows][value_stride]: not yet divided by the sum
    SoftmaxPart *sums, *tile_sums;  // [rows]
    float *a_mem;                   // [rows][value_stride]: numerator of (7)
    float *denominator;             // [rows]
    float *behind;                  // [rows][raised_.size()]: nats that the scores of each sentence lose; or null
    float *wide;                    // of int8: keys, or values, of kTileKeys tokens in panels of shape.type; or null
    bool widens() const { return wide && rows >= kWorthWidening; }
  };

  Tile make_tile(const Threads &here, int kv_head, int64_t index) {
    Tile tile;
    tile.kv_head = kv_head;
    tile.first_token = index * tile_tokens(shape_);
    tile.tokens = std::min(tile_tokens(shape_), tokens_ - tile.first_token);
    tile.rows = tile.tokens * shape_.group();
    float *next = scratch_.of_thread(here.index());
    const auto take = [&](int64_t floats) { return std::exchange(next, next + round_up(floats, 16)); };
    tile.q = take(tile.rows * shape_.key_size);
    tile.sigma_q = take(tile.rows * shape_.key_size);
    tile.scores = take(tile.rows * kTileKeys);
    tile.p = take(tile.rows * kTileKeys);
    tile.a_dot = take(tile.rows * value_stride_);
    tile.tile_a_dot = take(tile.rows * value_stride_);
    tile.sums = reinterpret_cast<SoftmaxPart *>(take(tile.rows * 2));
    tile.tile_sums = reinterpret_cast<SoftmaxPart *>(take(tile.rows * 2));
    tile.a_mem = take(tile.rows * value_stride_);
    tile.denominator = take(tile.rows);
    tile.behind = focuses() ? take(tile.rows * sentences()) : nullptr;
    tile.wide = shape_.int8 && !own_kernel_
                    ? take(kTileKeys * std::max(padded_k(shape_.type, shape_.key_size), value_stride_))
                    : nullptr;
    return tile;
  }

  bool raises(const float *bias) const {
    return bias && std::any_of(bias, bias + shape_.heads, [](float nats) { return nats != 0; });
  }
  bool focuses() const { return shape_.keep_focus > 0 && !raised_.empty(); }
  int64_t sentences() const { return static_cast<int64_t>(raised_.size()); }
  int head_of(const Tile &tile, int64_t row) const {
    return tile.kv_head * shape_.group() + static_cast<int>(row % shape_.group());
  }
  int64_t token_of(const Tile &tile, int64_t row) const { return tile.first_token + row / shape_.group(); }
  const float *query(const Tile &tile, int64_t row) const {
    return qkv_.q(shape_, token_of(tile, row), head_of(tile, row));
  }
  // The row's token sees the keys before this index ...
  int64_t keys_seen(const Tile &tile, int64_t row) const {
    return view_.index_of(view_.position + token_of(tile, row)) + 1;
  }
  int64_t last_key(const Tile &tile) const { return keys_seen(tile, tile.rows - 1); }
  // ... and a token of the span those from this one on.
  int64_t keys_from(int64_t token) const {
    if (shape_.window == 0) return 0;
    return std::max<int64_t>(0, view_.index_of(view_.position + token) + 1 - shape_.window);
  }

  // q = rope(Q) * scale
  void rotate_queries(const Tile &tile) {
    const float scale = rules_.score_scale();
    const int64_t half = rules_.rope.dimensions / 2;
    float *const rotated = tile.sigma_q;  // free until the memory is read
    for (int64_t row = 0; row < tile.rows; ++row) {
      const int64_t token = token_of(tile, row);
      float *to = shape_.type == NumberType::F32 ? tile.q + row * shape_.key_size : rotated;
      rules_.rope.apply(query(tile, row), shape_.key_size, cosine_ + token * half, sine_ + token * half, scale, to);
      if (shape_.type == NumberType::BF16)
        narrow(rotated, shape_.key_size, reinterpret_cast<uint16_t *>(tile.q) + row * shape_.key_size);
    }
  }

  // f(sentence, from, to) for what the row sees raised of the keys [first, first + count) of the list, from `first` on.
  template <class Function>
  void each_raised(const Tile &tile, int64_t row, int64_t first, int64_t count, const Function &f) const {
    for (size_t i = 0; i < raised_.size() && raised_[i].index < first + count; ++i) {
      const int64_t at = raised_[i].index - first, end = at + raised_[i].tokens;
      if (end > 0 && raised_[i].from < keys_seen(tile, row)) f(i, std::max<int64_t>(0, at), std::min(count, end));
    }
  }

  // For each row and each sentence that it sees raised: by how much the best score of the sentence's keys is below the
  // best of all these sentences, times the focus.
  void rank_raised(const Threads &here, const Tile &tile) {
    if (!tile.behind) return;
    std::fill_n(tile.behind, tile.rows * sentences(), -std::numeric_limits<float>::infinity());
    const int64_t end = raised_.back().index + raised_.back().tokens;
    for (int64_t first = 0; first < end; first += kTileKeys) {
      const int64_t count = std::min(kTileKeys, round_up(end - first, kPanel));
      multiply_keys(here, tile, first, count);
      for (int64_t row = 0; row < tile.rows; ++row) {
        float *const scores = tile.scores + row * count;
        if (rules_.soft_cap > 0) soft_cap(scores, std::min(count, end - first), rules_.soft_cap);
        each_raised(tile, row, first, count, [&](size_t sentence, int64_t from, int64_t to) {
          float &best = tile.behind[row * sentences() + static_cast<int64_t>(sentence)];
          best = std::max(best, *std::max_element(scores + from, scores + to));
        });
      }
    }
    for (int64_t row = 0; row < tile.rows; ++row) {
      float *const behind = tile.behind + row * sentences();
      const float best = *std::max_element(behind, behind + sentences());
      for (int64_t i = 0; i < sentences(); ++i) behind[i] = shape_.keep_focus * (best - behind[i]);
    }
  }

  // Panels of int8 as ones of shape.type, in tile.wide.
  Panels widened(const Tile &tile, const Panels &panels, ScaleOf of, const float *scales) const {
    const int64_t rows = of == ScaleOf::COLUMN ? padded_k(shape_.type, panels.k) : panels.k;
    std::fill_n(tile.wide, of == ScaleOf::COLUMN && rows > panels.k ? panel_count(panels.n) * panel_size(rows) : 0,
                0.f);
    for (int64_t j = 0; j < panels.n; j += kPanel)
      as_numbers(shape_.type, tile.wide, panel_begin(j, panel_size(rows)), [&](auto *to) {
        widen_panel(panels.panel_of<int8_t>(j), panels.k, of, of == ScaleOf::COLUMN ? scales + j : scales, to);
      });
    return {shape_.type, tile.wide, panels.k, panels.n, panel_size(rows)};
  }

  // scores [rows][count] = Q K^T for the keys [first, first + count) of the list.
  void multiply_keys(const Threads &here, const Tile &tile, int64_t first, int64_t count) {
    const ConstRows q{shape_.type, tile.q, shape_.key_size};
    Panels keys = layer_.window.keys(tile.kv_head, first, count);
    const float *const scales = shape_.int8 ? layer_.window.key_scales(tile.kv_head, first) : nullptr;
    if (tile.widens()) keys = widened(tile, keys, ScaleOf::COLUMN, scales);
    gemm_.multiply(here, q, tile.rows, keys, tile.scores, count, false, own_kernel_);
    if (scales && !tile.widens())
      for (int64_t row = 0; row < tile.rows; ++row) multiply(scales, count, tile.scores + row * count);
  }

  // a_dot = p V, for the same keys. Weights by which numbers of int8 are multiplied are f32, and take their scales.
  void multiply_values(const Threads &here, const Tile &tile, int64_t first, int64_t count, float *a_dot) {
    Panels values = layer_.window.values(tile.kv_head, first, count);
    const float *const scales = shape_.int8 ? layer_.window.value_scales(tile.kv_head, first) : nullptr;
    if (tile.widens()) values = widened(tile, values, ScaleOf::ROW, scales);
    else if (scales)
      for (int64_t row = 0; row < tile.rows; ++row) multiply(scales, count, tile.p + row * count);
    gemm_.multiply(here, {weights_type(tile), tile.p, count}, tile.rows, values, a_dot, value_stride_, false,
                   own_kernel_);  // dense rows, as oneDNN wants
  }
  NumberType weights_type(const Tile &tile) const {
    return shape_.int8 && !tile.widens() ? NumberType::F32 : shape_.type;
  }

  // (6) over the keys [first, first + kTileKeys) of the list.
  void attend_keys(const Threads &here, const Tile &tile, int64_t first, SoftmaxPart *sums, float *a_dot) {
    const int64_t count = std::min(kTileKeys, round_up(last_key(tile) - first, kPanel));
    const auto seen = [&](int64_t row) {
      const int64_t to = std::clamp<int64_t>(keys_seen(tile, row) - first, 0, count);
      return SeenKeys{std::clamp<int64_t>(keys_from(token_of(tile, row)) - first, 0, to), to};
    };
    const auto add_bias = [&](int64_t row, float *scores, int64_t end) {
      const float bias = keep_bias_ ? keep_bias_[head_of(tile, row)] : 0;
      if (bias == 0) return;
      each_raised(tile, row, first, end, [&](size_t sentence, int64_t from, int64_t to) {
        const float behind = tile.behind ? tile.behind[row * sentences() + static_cast<int64_t>(sentence)] : 0;
        for (int64_t i = from; i < to; ++i) scores[i] += bias - behind;
      });
    };
    as_numbers(weights_type(tile), tile.p, 0, [&](auto *weights) {
      attend_tile(
          rules_.soft_cap, tile.rows, count, tile.scores, weights, sums,
          [&] { multiply_keys(here, tile, first, count); }, seen, add_bias,
          [&] { multiply_values(here, tile, first, count, a_dot); });
    });
  }

  // Adds the part of a tile of keys to what came before it, both relative to their own maximum.
  void combine(const Tile &tile, const SoftmaxPart *sums, const float *a_dot) {
    for (int64_t row = 0; row < tile.rows; ++row) {
      SoftmaxPart &total = tile.sums[row];
      const SoftmaxPart part = sums[row];
      if (part.sum == 0) continue;  // the token sees none of these keys
      const float maximum = std::max(total.maximum, part.maximum);
      const float before = std::exp(total.maximum - maximum), now = std::exp(part.maximum - maximum);
      float *row_total = tile.a_dot + row * value_stride_;
      mix(row_total, before, a_dot + row * value_stride_, now, value_stride_, row_total);
      total = {maximum, total.sum * before + part.sum * now};
    }
  }

  // (7) and (10).
  void mix_and_store(const Tile &tile) {
    const Memory &memory = layer_.memory[tile.kv_head];
    const bool reads = memory && view_.memory_tokens > 0;
    if (reads) {
      for (int64_t row = 0; row < tile.rows; ++row)
        memory.kind().feature(query(tile, row), shape_.key_size, tile.sigma_q + row * shape_.key_size);
      memory.read(tile.sigma_q, tile.rows, rules_.epsilon, tile.a_mem, tile.denominator);
    }
    for (int64_t row = 0; row < tile.rows; ++row) {
      const float gate = gate_of(rules_, gate_weight_[head_of(tile, row)], view_.memory_tokens);
      const float *a_mem = reads ? tile.a_mem + row * value_stride_ : nullptr;
      const int64_t at = token_of(tile, row) * out_stride_ + head_of(tile, row) * shape_.value_size;
      const auto into = [&](auto *out) {
        mix_head(gate, a_mem, tile.denominator[row], tile.a_dot + row * value_stride_, tile.sums[row].sum,
                 shape_.value_size, out);
      };
      as_numbers(shape_.type, out_, at, into);
    }
  }

  // Few queries and many keys: threads share the keys of a head, and the parts are combined in the same order
  // as one thread would.
  void divide_keys(int64_t begin, int64_t key_tiles, int64_t operations) {
    const int64_t rows = tokens_ * shape_.group(), part = rows * (value_stride_ + 2);
    const auto part_of = [&](int64_t kv_head, int64_t tile) {
      return scratch_.partial_.data() + (kv_head * key_tiles + tile) * part;
    };
    scratch_.partial_.reserve(shape_.kv_heads * (key_tiles * part + rows * most_sentences(shape_)));
    const auto tile_of = [&](int64_t kv_head, const Threads &here) {
      Tile tile = make_tile(here, static_cast<int>(kv_head), 0);
      if (tile.behind) tile.behind = part_of(shape_.kv_heads, 0) + kv_head * rows * sentences();  // behind all parts
      rotate_queries(tile);
      return tile;
    };
    if (focuses())
      parallel_items(threads_, shape_.kv_heads, operations,
                     [&](int64_t kv_head, const Threads &here) { rank_raised(here, tile_of(kv_head, here)); });
    parallel_items(threads_, shape_.kv_heads * key_tiles, operations, [&](int64_t item, const Threads &here) {
      const int64_t kv_head = item / key_tiles, key_tile = item % key_tiles;
      const Tile tile = tile_of(kv_head, here);
      float *a_dot = part_of(kv_head, key_tile);
      attend_keys(here, tile, begin + key_tile * kTileKeys,
                  reinterpret_cast<SoftmaxPart *>(a_dot + rows * value_stride_), a_dot);
    });
    const int64_t grain = rows > 8 ? 1 : shape_.kv_heads;
    parallel_for(threads_, shape_.kv_heads, grain, [&](int64_t first_head, int64_t end, const Threads &here) {
      for (int64_t kv_head = first_head; kv_head < end; ++kv_head) {
        const Tile tile = make_tile(here, static_cast<int>(kv_head), 0);
        for (int64_t key_tile = 0; key_tile < key_tiles; ++key_tile) {
          const float *a_dot = part_of(kv_head, key_tile);
          const auto *sums = reinterpret_cast<const SoftmaxPart *>(a_dot + rows * value_stride_);
          if (key_tile == 0) {
            std::copy_n(a_dot, rows * value_stride_, tile.a_dot);
            std::copy_n(sums, rows, tile.sums);
          } else {
            combine(tile, sums, a_dot);
          }
        }
        mix_and_store(tile);
      }
    });
  }

  const Threads &threads_;
  const AttentionRules &rules_;
  const AttentionShape &shape_;
  const Gemm &gemm_;
  const LayerState &layer_;
  const View view_;
  const QkvRows qkv_;
  const int64_t tokens_;
  const float *const cosine_, *const sine_, *const gate_weight_, *const keep_bias_;
  const std::span<const RaisedSpan> raised_;  // empty where no head raises any
  const bool own_kernel_;  // multiplies: each row of it depends on itself alone, and it allocates nothing
  AttentionScratch &scratch_;
  void *const out_;
  const int64_t out_stride_, value_stride_;
};

void AttentionScratch::reserve(const AttentionShape &shape, int threads, int64_t tokens) {
  per_thread_ = round_up(AttentionSpan::scratch_size(shape), 16);
  numbers_.reserve(threads * per_thread_);
  // The largest case of divided keys: one tile of queries and the whole window.
  const int64_t rows = std::min(tokens, tile_tokens(shape)) * shape.group();
  const int64_t key_tiles = (shape.most_keys() + kTileKeys - 1) / kTileKeys;
  partial_.reserve(shape.kv_heads * rows *
                   (key_tiles * (round_up(shape.value_size, kPanel) + 2) + AttentionSpan::most_sentences(shape)));
}

void attend(const Threads &threads, const AttentionRules &rules, const Gemm &gemm, LayerState &layer,
            const TokenSpan &span, bool exact, AttentionScratch &scratch) {
  const AttentionShape &shape = rules.shape;
  const View own = span.view.through(shape);
  const int64_t half = rules.rope.dimensions / 2, tokens = span.tokens;
  parallel_for(threads, shape.kv_heads * tokens, worth_grain(20 * (shape.key_size + shape.value_size)),
               [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t token = item % tokens;
      const int kv_head = static_cast<int>(item / tokens);
      layer.window.append(own, own.position + token, kv_head, span.qkv.k(shape, token, kv_head),
                          span.qkv.v(shape, token, kv_head), rules.rope, span.cosine + token * half,
                          span.sine + token * half);
    }
  });
  AttentionSpan(threads, rules, gemm, layer, span, exact, scratch).run();
}

}  // namespace infini
