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
      : StreamGradient(here, layer, item, dqkv, without_values), sources_(supervises_ ? keys_ : 0),
        feature_(sources_.size()), left_(sources_.size()) {}

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
  // Losses of the retrievals of a tile, whose sigma_ and denominator_ are there. z is the memory's.
  void supervise(int64_t token, int64_t tokens, const float *z, float *dz) {
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
        if (weight == 0) return silence(r, query->row, h, z, dz);
        if (!summed) sum_sources(*query);
        summed = true;
        supervise_share(r, *query, weight, z, dz);
      });
    }
    for (const int64_t row : within(layout.silent, first, tokens))
      each_head(row, [&](int64_t r, int h) { silence(r, row, h, z, dz); });
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

  // f(row, its segment) for each source of a query, whose feature is in feature_.
  template <class Function>
  void each_source(const Retrieval &query, const Function &f) {
    for (int64_t i = 0; i < query.sources; ++i) {
      const int64_t row = layer_.layout.source_rows[query.first_source + i];
      kind_.feature(key(row), keys_, feature_.data());
      f(row, segment_of(row));
    }
  }
  // sources_ = what they added to z, as far as decay has left it.
  void sum_sources(const Retrieval &query) {
    std::fill(sources_.begin(), sources_.end(), 0.0f);
    each_source(query, [&](int64_t, const Source &source) {
      mix(feature_.data(), source.factor, feature_.data(), 0, keys_, left_.data());
      for (int64_t i = 0; i < source.closings; ++i) kind_.decay({left_.data(), keys_, 0});
      add_scaled(left_.data(), 1, keys_, sources_.data());
    });
  }

  // Row r of the tile: the loss gains -weight * log(share of sources_ in sigma(q) z + epsilon). There is no epsilon in
  // the numerator: with one, sigma(q) = 0 would give a share of 1, and retrieving nothing would win.
  void supervise_share(int64_t r, const Retrieval &query, float weight, const float *z, float *dz) {
    const float total = denominator_[r],
                share = std::max(dot_row(sigma_, r, sources_.data(), keys_), static_cast<float>(kLeastShare));
    retrieved_.add({-static_cast<double>(weight) * std::log(static_cast<double>(share) / total),
                    static_cast<double>(share) / total, 1});
    each_panel(keys_, [&](int64_t p, int64_t n) {
      float *dsigma = dsigma_.panel(p) + r * kPanel;
      add_scaled(z + p * kPanel, weight / total, n, dsigma);
      add_scaled(sources_.data() + p * kPanel, -weight / share, n, dsigma);
      add_scaled(sigma_.panel(p) + r * kPanel, weight / total, n, dz + p * kPanel);
    });
    std::fill_n(row_, keys_, 0.0f);
    add_row(sigma_, r, -weight / share, keys_, row_);
    each_source(query, [&](int64_t row, const Source &source) {
      mix(row_, source.factor, row_, 0, keys_, left_.data());
      for (int64_t i = 0; i < source.closings; ++i) kind_.decay_gradient({left_.data(), keys_, 0});
      kind_.feature_gradient(feature_.data(), left_.data(), keys_, dkey(row));
    });
  }

  // Row r of the tile: the loss gains weight * log(1 + sigma(q) z / epsilon), which is 0 where the head finds nothing.
  void silence(int64_t r, int64_t row, int h, const float *z, float *dz) {
    const float weight = layer_.supervision->silence(layer_.layout, row, layer_.layer, h), total = denominator_[r];
    if (weight == 0 || layer_.rules.epsilon == 0) return;
    retrieved_.loss += static_cast<double>(weight) * std::log(static_cast<double>(total) / layer_.rules.epsilon);
    each_panel(keys_, [&](int64_t p, int64_t n) {
      add_scaled(z + p * kPanel, weight / total, n, dsigma_.panel(p) + r * kPanel);
      add_scaled(sigma_.panel(p) + r * kPanel, weight / total, n, dz + p * kPanel);
    });
  }

  // Of the query at hand, [keys_]: the sum of its sources' features, the feature of one, and what decay has left of it.
  std::vector<float> sources_, feature_, left_;
  Supervised retrieved_, attended_;
};

}  // namespace infini
