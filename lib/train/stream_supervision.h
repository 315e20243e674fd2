// Supervision of the attention of one (stream, KV head), and the gradients through the memory, which all losses share.
#pragma once

#include <span>

#include "train/stream_forward.h"

namespace infini {

constexpr double kLeastShare = 1e-30;  // of a retrieval, before its logarithm is taken

// d... is the gradient of the loss with respect to what follows the d.
class StreamSupervision : public StreamForward {
 public:
  StreamSupervision(const Threads &here, const LayerAttention &layer, int64_t item, float *dqkv,
                    bool without_values = false)
      : StreamForward(here, layer, item, without_values), dqkv_{dqkv, layer.qkv.stride} {}

  Supervision supervision() const { return {supervised_, locally_supervised_}; }

  // Forward and backward where supervision of retrievals is the only loss, for a head made without values: shares need
  // z, not M. Reads only queries of the rows `supervised`; writes the gradients of these queries and of all keys.
  Supervised supervise_alone(std::span<const int64_t> supervised) {
    for (int64_t row = stream_.first; row < stream_.first + stream_.tokens; ++row) std::fill_n(dkey(row), keys_, 0.0f);
    for (const int64_t row : within(supervised, stream_.first, stream_.tokens))
      for (int64_t g = 0; g < group_; ++g) std::fill_n(dquery(row, g), keys_, 0.0f);
    std::fill_n(dmemory().data, dmemory().size(), 0.0f);
    if (!remembers_) return {};
    const int64_t end = stream_.first_segment + stream_.segments;
    for (int64_t s = stream_.first_segment; s + 1 < end; ++s) {
      start(s);
      fold();
    }
    for (int64_t s = end - 1; s >= stream_.first_segment; --s) {
      start(s);
      if (!is_last(s)) fold_backward();
      if (reads())
        each_tile([&](int64_t token, int64_t tokens) {
          supervise_tile(token, tokens, within(supervised, segment_.first + token, tokens));
        });
    }
    return supervised_;
  }

 protected:
  float *dkey(int64_t row) const { return dqkv_.k(shape_, row, kv_head_); }
  float *dvalue(int64_t row) const { return dqkv_.v(shape_, row, kv_head_); }
  float *dquery(int64_t row, int64_t g) const { return dqkv_.q(shape_, row, head(g)); }

  // Gradients of the keys and values that went into the memory, and of the memory before the segment.
  void fold_backward() {
    const FoldScratch scratch{{piece_memory_, keys_, values_},
                              {sums_, keys_, values_},
                              transposed_memory_,
                              transposed_gradient_,
                              dsigma_,
                              fold_gradient_};
    fold_gradient(
        kind_, closing(), segment_.repeat_weight, memory(index_), dmemory(), scratch,
        [&](int64_t first, int64_t count) { return load_fold(first, count); },
        [&](int64_t first, const FoldRows &rows) {
      for (int64_t t = 0; t < rows.count; ++t) {
        add_row(fold_gradient_, t, 1, values_, dvalue(segment_.first + first + t));
        add_sigma_gradient(t, dkey(segment_.first + first + t));
      }
        });
  }

  // Through sigma: adds row t of dsigma_ to the gradient of a query or key.
  void add_sigma_gradient(int64_t t, float *to) {
    each_panel(keys_, [&](int64_t p, int64_t n) {
      kind_.feature_gradient(sigma_.row(p, t), dsigma_.row(p, t), n, to + p * kPanel);
    });
  }

  void supervise_tile(int64_t token, int64_t tokens, std::span<const int64_t> supervised) {
    if (supervised.empty()) return;
    const float *z = memory(index_).normaliser();
    const auto each_supervised = [&](const auto &f) {
      for (const int64_t row : supervised)
        for (int64_t g = 0; g < group_; ++g) f((row - segment_.first - token) * group_ + g, row, g);
    };
    each_supervised([&](int64_t r, int64_t row, int64_t g) {
      into_row(sigma_, r, [&](float *to) { kind_.feature(query(row, g), keys_, to); });
      denominator_[r] = dot_row(sigma_, r, z, keys_) + layer_.rules.epsilon;
      each_panel(keys_, [&](int64_t p, int64_t n) { std::fill_n(dsigma_.panel(p) + r * kPanel, n, 0.0f); });
    });
    supervise(token, tokens, z, dmemory().normaliser());
    each_supervised([&](int64_t r, int64_t row, int64_t g) { add_sigma_gradient(r, dquery(row, g)); });
  }

  std::vector<Retrieval>::const_iterator first_retrieval(int64_t row) const {
    const std::vector<Retrieval> &all = layer_.layout.retrievals;
    return std::lower_bound(all.begin(), all.end(), row, [](const Retrieval &r, int64_t at) { return r.row < at; });
  }

  // Of `rows`, which ascend, those from `first` to first + count.
  static std::span<const int64_t> within(std::span<const int64_t> rows, int64_t first, int64_t count) {
    const auto begin = std::lower_bound(rows.begin(), rows.end(), first);
    return {begin, std::lower_bound(begin, rows.end(), first + count)};
  }
  std::span<const int64_t> silent_rows(int64_t first, int64_t tokens) const {
    if (!layer_.supervision.silence) return {};
    return within(layer_.layout.silent, first, tokens);
  }
  int32_t offset_of(int h) const { return layer_.supervision.offsets ? layer_.supervision.offsets[h] : -1; }

  // The loss of row r of the tile gains weight * log(1 + sigma(q) z / epsilon), which is 0 where the head finds
  // nothing.
  void silence(int64_t r, int h, const float *z, float *dz) {
    const float weight = layer_.supervision.silence ? layer_.supervision.silence[h] : 0, total = denominator_[r];
    if (weight == 0 || layer_.rules.epsilon == 0) return;
    supervised_.loss += static_cast<double>(weight) * std::log(static_cast<double>(total) / layer_.rules.epsilon);
    each_panel(keys_, [&](int64_t p, int64_t n) {
      add_scaled(z + p * kPanel, weight / total, n, dsigma_.panel(p) + r * kPanel);
      add_scaled(sigma_.panel(p) + r * kPanel, weight / total, n, dz + p * kPanel);
    });
  }

  // Attention supervision: the loss gains -weight * log(share of the sources in sigma(q) z + epsilon). There is no
  // epsilon in the numerator: with one, sigma(q) = 0 would give a share of 1, and retrieving nothing would win.
  void supervise(int64_t token, int64_t tokens, const float *z, float *dz) {
    const std::vector<Retrieval> &all = layer_.layout.retrievals;
    const int64_t first = segment_.first + token;
    auto next = first_retrieval(first);
    std::vector<float> there(static_cast<size_t>(keys_)), sigma(there.size()), left(there.size());
    for (; next != all.end() && next->row < first + tokens; ++next) {
      // What the sources added to z, as far as decay has left it.
      const auto each_source = [&](const auto &f) {
        for (int64_t i = 0; i < next->sources; ++i) {
          const int64_t row = layer_.layout.source_rows[next->first_source + i];
          kind_.feature(key(row), keys_, sigma.data());
          f(row, segment_of(row));
        }
      };
      std::fill(there.begin(), there.end(), 0.0f);
      each_source([&](int64_t, const Source &source) {
        mix(sigma.data(), source.factor, sigma.data(), 0, keys_, left.data());
        for (int64_t i = 0; i < source.closings; ++i) kind_.decay({left.data(), keys_, 0});
        add_scaled(left.data(), 1, keys_, there.data());
      });
      for (int64_t g = 0; g < group_; ++g) {
        const float weight = layer_.supervision.retrieval[head(g)] * next->weight;
        if (weight == 0) continue;
        const int64_t r = (next->row - first) * group_ + g;
        if (const int32_t offset = offset_of(head(g)); offset >= 0 && offset != next->offset) {
          silence(r, head(g), z, dz);
          continue;
        }
        const float total = denominator_[r],
                    share = std::max(dot_row(sigma_, r, there.data(), keys_), static_cast<float>(kLeastShare));
        supervised_.add({-static_cast<double>(weight) * std::log(static_cast<double>(share) / total),
                         static_cast<double>(share) / total, 1});
        each_panel(keys_, [&](int64_t p, int64_t n) {
          float *dsigma = dsigma_.panel(p) + r * kPanel;
          add_scaled(z + p * kPanel, weight / total, n, dsigma);
          add_scaled(there.data() + p * kPanel, -weight / share, n, dsigma);
          add_scaled(sigma_.panel(p) + r * kPanel, weight / total, n, dz + p * kPanel);
        });
        std::fill_n(row_, keys_, 0.0f);
        add_row(sigma_, r, -weight / share, keys_, row_);
        each_source([&](int64_t row, const Source &source) {
          mix(row_, source.factor, row_, 0, keys_, left.data());
          for (int64_t i = 0; i < source.closings; ++i) kind_.decay_gradient({left.data(), keys_, 0});
          kind_.feature_gradient(sigma.data(), left.data(), keys_, dkey(row));
        });
      }
    }
    for (const int64_t row : silent_rows(first, tokens))
      for (int64_t g = 0; g < group_; ++g)
        if (offset_of(head(g)) >= 0 && layer_.supervision.retrieval[head(g)] != 0)
          silence((row - first) * group_ + g, head(g), z, dz);
  }
  // Of a row whose segment is in the memory: the repeat weight of that segment, and how many segments closed after it.
  struct Source {
    float factor;
    int64_t closings;
  };
  Source segment_of(int64_t row) const {
    const auto all = layer_.layout.segments.begin(), begin = all + stream_.first_segment;
    const auto after = std::upper_bound(begin, begin + stream_.segments, row,
                                        [](int64_t at, const SegmentSpan &s) { return at < s.first; });
    return {(after - 1)->repeat_weight, index_ - (after - 1 - all) - 1};
  }

  // Supervision of local attention: the loss gains -weight * log(p of the target row), where that is in the window.
  void supervise_locally(int64_t row, int h, const float *p, int64_t from, int64_t seen, float *dscores) {
    const float weight = layer_.supervision.local[h];
    const int64_t target = layer_.layout.local_target[row];
    const int64_t at = own_ + target - segment_.first;
    if (weight == 0 || target < 0 || at < std::max(view_.sinks, from)) return;
    add_scaled(p, weight, seen, dscores);
    dscores[at] -= weight;
    // A score far below others rounds to a share of 0.
    const double share = std::max(static_cast<double>(p[at]), kLeastShare);
    locally_supervised_.add({-static_cast<double>(weight) * std::log(share), share, 1});
  }

  const QkvRowsOf<float> dqkv_;
  Supervised supervised_, locally_supervised_;
};

}  // namespace infini
