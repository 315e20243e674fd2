// Sentences of the stream that stood out, kept in view for ever within a budget of tokens.
//
// Local attention sees a kept token exactly, as it sees a sink: K and V are those of the token where it stood, K
// rotated to the token's index in the list of keys. Sentences are ranked by the mean worth of their tokens. Where the
// model has a probe, that is what the probe reads in the residual stream; elsewhere it is surprise, -ln p given all
// before. What a caller marks comes first. A sentence is kept or let go when it leaves the window, that is when a
// segment closes; everything goes into the compressive memory too.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/view.h"

namespace infini {

constexpr int64_t kLongestSpan = 64;  // tokens: a longer sentence counts as several
constexpr float kMarked = 1e6f;       // the worth of a token that a caller wants kept

// What was learned about keeping: a direction of the residual stream that says how much a token belongs to what will be
// asked for, and which heads look such things up.
struct KeepProbe {
  int layer = 0;              // after which it reads
  std::vector<float> weight;  // [width]: the worth of a token is weight . x / rms(x)
  float least = -kMarked;     // sentences that are worth less are not kept
  std::vector<float> bias;    // [layers][heads]: nats that scores of kept keys get; empty: none
  // Heads with a bias prefer the sentence that fits the query best: the scores of each sentence lose this many times
  // the distance from its best score to the best of all kept sentences.
  float focus = 0;
  // In layers after the probe sentences of the window count as kept too, for these heads, where they are worth it and
  // end at least so many tokens before the query; 0: none do. Otherwise kept sentences would drown a fact that was read
  // a moment ago.
  int standing = 0;
};

// Which of these fit the budget: the worthiest first, of equally worthy ones the later. `ranking`: all, in that order.
void choose_spans(const std::vector<KeptSpan> &spans, const AttentionShape &shape, std::vector<size_t> &ranking,
                  std::vector<bool> &stays);

class Keep {
 public:
  // Tokens from `position` on were read: how much each is worth, and if a sentence ends there. What was noted of a
  // token before stays.
  void note(int64_t position, std::span<const float> worth, std::span<const uint8_t> ends);
  // Whether the worth of the token at `position` is known.
  bool knows(int64_t position) const { return position >= first_ && position < end(); }
  // Tokens [begin, end), none before first(), are worth keeping before all others.
  void mark(int64_t begin, int64_t end);
  int64_t first() const { return first_; }  // the first token whose worth is known
  void drop_after(int64_t position);        // tokens at `position` and later were taken back

  // Puts the sentences that heads with a bias raise: what is kept, and with `standing` what stands in the window.
  void raise(const View &view, const AttentionShape &shape, bool standing, std::vector<RaisedSpan> &raised) const;
  // Puts what is kept, and where the window begins, once the segment that is open in `view` is closed. All tokens that
  // leave the window then must have been noted: with a carry of at least a segment they have been, even if nothing is
  // noted of this segment yet. `empty`: no window is left then.
  void close(const View &view, const AttentionShape &shape, Closing &closing, bool empty = false) const;
  void apply(const Closing &closing);

  // In the order of the list of keys: what was merged from other streams, then as the stream had them.
  const std::vector<KeptSpan> &spans() const { return spans_; }
  void set_spans(std::vector<KeptSpan> spans) { spans_ = std::move(spans); }
  int64_t bytes() const {
    return static_cast<int64_t>(spans_.size() * sizeof(KeptSpan) + worth_.size() * sizeof(float) + ends_.size());
  }

  // For snapshots: all that was noted.
  const std::vector<float> &worth() const { return worth_; }
  const std::vector<uint8_t> &ends() const { return ends_; }
  void restore(const View &view, std::vector<KeptSpan> spans, std::vector<float> worth, std::vector<uint8_t> ends);

 private:
  int64_t end() const { return first_ + static_cast<int64_t>(worth_.size()); }
  bool ends_at(int64_t position) const { return knows(position) && ends_[position - first_] != 0; }
  template <class F>
  void each_span(int64_t begin, int64_t end, const F &f) const;

  std::vector<KeptSpan> spans_;
  int64_t first_ = 0;         // the token of worth_[0]: the window's first, or the first that is known
  std::vector<float> worth_;  // of each token
  std::vector<uint8_t> ends_;
};

}  // namespace infini
