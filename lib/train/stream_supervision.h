// Losses of supervised attention of one (stream, KV head), and their gradients.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "train/stream_gradient.h"

namespace infini {

constexpr double kLeastShare = 1e-30;  // of a retrieval, before its logarithm is taken

class StreamSupervision : public StreamGradient {
 public:
  StreamSupervision(const Threads &here, const LayerAttention &layer, int64_t item, float *dqkv,
                    bool without_values = false)
      : StreamGradient(here, layer, item, dqkv, without_values) {
    for (std::vector<float> *numbers : {&sources_, &dsources_, &source_, &feature_, &dfeature_})
      numbers->resize(static_cast<size_t>(supervises_ ? round_up(keys_, kPanel) : 0));
  }

  Supervision supervision() const { return {retrieved_, attended_}; }

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
    return retrieved_;
  }

 protected:
  // Losses of the retrievals of a tile, whose sigma_ and denominator_ are there.
  void supervise(int64_t token, int64_t tokens) {
    const BatchLayout &layout = layer_.layout;
    const int64_t first = segment_.first + token;
    const auto each_head = [&](int64_t row, const auto &f) {
      for (int64_t g = 0; g < group_; ++g) f((row - first) * group_ + g, head(g));
    };
    for (auto query = first_retrieval(first); query != layout.retrievals.end() && query->row < first + tokens;
         ++query) {
      bool summed = false;
      each_head(query->row, [&](int64_t r, int h) {
        const float weight = layer_.supervision->retrieval(layout, *query, layer_.layer, h);
        if (weight == 0) return silence(r, query->row, h);
        if (!summed) sum_sources(*query);
        summed = true;
        supervise_share(r, *query, weight);
      });
    }
    for (const int64_t row : within(layout.silent, first, tokens))
      each_head(row, [&](int64_t r, int h) { silence(r, row, h); });
  }

  // Of local attention: the loss gains -weight * log(p of the target row), where that is in the window.
  void supervise_locally(int64_t row, int h, const float *p, int64_t from, int64_t seen, float *dscores) {
    const int64_t target = layer_.layout.local_target[row], at = own_ + target - segment_.first;
    if (target < 0 || at < std::max(view_.sinks, from)) return;
    const float weight = layer_.supervision->local(layer_.layout, row, layer_.layer, h);
    if (weight == 0) return;
    add_scaled(p, weight, seen, dscores);
    dscores[at] -= weight;
    // A score far below others rounds to a share of 0.
    const double share = std::max(static_cast<double>(p[at]), kLeastShare);
    attended_.add({-static_cast<double>(weight) * std::log(share), share, 1});
  }

 private:
  // Of a tile whose queries have not been read yet.
  void supervise_tile(int64_t token, int64_t tokens, std::span<const int64_t> supervised) {
    if (supervised.empty()) return;
    const auto each_supervised = [&](const auto &f) {
      for (const int64_t row : supervised)
        for (int64_t g = 0; g < group_; ++g) f((row - segment_.first - token) * group_ + g, row, g);
    };
    each_supervised([&](int64_t r, int64_t row, int64_t g) {
      into_row(sigma_, r, [&](float *to) { kind_.feature(query(row, g), keys_, to); });
      kind_.read(z(), sigma_.from(r), 1, layer_.rules.epsilon, {}, denominator_ + r);
      each_panel(keys_, [&](int64_t p, int64_t n) { std::fill_n(dsigma_.panel(p) + r * kPanel, n, 0.0f); });
    });
    supervise(token, tokens);
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

  MemoryTile z() const { return memory(index_).z(); }
  MemoryTile dz() const { return dmemory().z(); }
  MemoryTile as_z(std::vector<float> &numbers) const { return {numbers.data(), keys_, 0}; }
  Tile as_feature(std::vector<float> &numbers) const { return dense_tile(numbers.data(), keys_); }

  // f(row, its segment, what loads it to be folded) for each source of a query. Each is a segment of one token, which
  // goes into an empty memory.
  template <class Function>
  void each_source(const Retrieval &query, const Function &f) {
    for (int64_t i = 0; i < query.sources; ++i) {
      const int64_t row = layer_.layout.source_rows[query.first_source + i];
      kind_.feature(key(row), keys_, feature_.data());
      f(row, segment_of(row), [this](int64_t, int64_t) { return FoldRows{1, as_feature(feature_), {}, {}, nullptr}; });
    }
  }
  ClosingTokens one_token() const { return {1, 0, 1, layer_.rules.epsilon}; }
  // sources_ = what they added to z, as far as decay has left it.
  void sum_sources(const Retrieval &query) {
    std::fill(sources_.begin(), sources_.end(), 0.0f);
    each_source(query, [&](int64_t, const Source &source, const auto &load) {
      const MemoryTile left = as_z(source_);
      fold_weighted(kind_, one_token(), source.factor, {}, left, {sums_, keys_, 0}, load);
      for (int64_t i = 0; i < source.closings; ++i) kind_.decay(left);
      add_scaled(left.data, 1, keys_, sources_.data());
    });
  }
  // Of dsources_, the gradient of sources_.
  void sum_sources_gradient(const Retrieval &query) {
    each_source(query, [&](int64_t row, const Source &source, const auto &load) {
      const MemoryTile dleft = as_z(source_);
      std::copy_n(dsources_.data(), keys_, dleft.data);
      for (int64_t i = 0; i < source.closings; ++i) kind_.decay_gradient(dleft);
      const FoldScratch scratch{{piece_memory_, keys_, 0}, {sums_, keys_, 0}, {}, {}, as_feature(dfeature_), {}};
      fold_gradient(kind_, one_token(), source.factor, {}, dleft, scratch, load, [&](int64_t, const FoldRows &) {
        kind_.feature_gradient(feature_.data(), dfeature_.data(), keys_, dkey(row));
      });
    });
  }

  // Of row r of the tile, which has read `from`, from that of its denominator.
  void add_read_gradient(int64_t r, const MemoryTile &from, float ddenominator, const MemoryTile &dfrom) {
    kind_.read_gradient(from, {}, sigma_.from(r), 1, {}, &ddenominator, dsigma_.from(r), dfrom);
  }

  // Row r of the tile: the loss gains -weight * log(share), where the share is what the sources give to the denominator
  // of (7). Epsilon is not theirs: else a query that finds nothing would have a share of 1, and win.
  void supervise_share(int64_t r, const Retrieval &query, float weight) {
    float part = 0;
    kind_.read(as_z(sources_), sigma_.from(r), 1, 0, {}, &part);
    part = std::max(part, static_cast<float>(kLeastShare));
    const double share = static_cast<double>(part) / denominator_[r];
    retrieved_.add({-static_cast<double>(weight) * std::log(share), share, 1});
    add_read_gradient(r, z(), weight / denominator_[r], dz());
    std::fill(dsources_.begin(), dsources_.end(), 0.0f);
    add_read_gradient(r, as_z(sources_), -weight / part, as_z(dsources_));
    sum_sources_gradient(query);
  }

  // Row r of the tile: the loss gains weight * log(denominator / epsilon), which is 0 where the head finds nothing.
  void silence(int64_t r, int64_t row, int h) {
    const float weight = layer_.supervision->silence(layer_.layout, row, layer_.layer, h),
                epsilon = layer_.rules.epsilon;
    if (weight == 0 || epsilon == 0) return;
    retrieved_.loss += static_cast<double>(weight) * std::log(static_cast<double>(denominator_[r]) / epsilon);
    add_read_gradient(r, z(), weight / denominator_[r], dz());
  }

  // Of the query at hand, in panels: the sum of its source rows' features as z would hold it, and the part and the
  // feature of one source row.
  std::vector<float> sources_, dsources_, source_, feature_, dfeature_;
  Supervised retrieved_, attended_;
};

}  // namespace infini
