// Sentences of the stream that stood out, kept in view for ever within a budget of tokens.
//
// Local attention sees a kept token exactly, as it sees a sink: K and V are those of the token where it stood, its position
// is its place in the list of keys. What stands out is what the model did not expect: sentences are ranked by the mean of
// -ln p of their tokens, each given all before it. A sentence is kept or let go when it leaves the window, that is when a
// segment closes; everything goes into the compressive memory too.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/window.h"

namespace infini {

constexpr int64_t kLongestSpan = 64;  // tokens: a longer sentence counts as several

class Keep {
 public:
  // Tokens from `position` on were read: how much each surprised, in nats, and whether a sentence ends with it. What is
  // known already stays.
  void note(int64_t position, std::span<const float> surprise, std::span<const uint8_t> ends);
  // Whether the surprise of the token at `position` is known.
  bool knows(int64_t position) const { return position >= first_ && position < end(); }
  void drop_after(int64_t position);  // those at `position` and later were taken back

  // What is kept, and where the window begins, once the segment that is open in `view` was closed. All tokens that leave the
  // window by that must have been noted: with a carry of a segment at least they are, whatever is noted of this segment.
  Closing close(const View &view, const AttentionShape &shape) const;
  void apply(const Closing &closing);

  // In order of the stream.
  const std::vector<KeptSpan> &spans() const { return spans_; }
  int64_t bytes() const {
    return static_cast<int64_t>(spans_.size() * sizeof(KeptSpan) + surprise_.size() * sizeof(float) + ends_.size());
  }

  // For snapshots: all that there is to know, of a stream that stands at `view`.
  const std::vector<float> &surprise() const { return surprise_; }
  const std::vector<uint8_t> &ends() const { return ends_; }
  void restore(const View &view, std::vector<KeptSpan> spans, std::vector<float> surprise, std::vector<uint8_t> ends);

 private:
  int64_t end() const { return first_ + static_cast<int64_t>(surprise_.size()); }
  bool ends_at(int64_t position) const { return knows(position) && ends_[static_cast<size_t>(position - first_)] != 0; }
  void add_spans(int64_t begin, int64_t end, std::vector<KeptSpan> &spans) const;

  std::vector<KeptSpan> spans_;
  int64_t first_ = 0;            // the token of surprise_[0]: the window's first, or the first that is known
  std::vector<float> surprise_;  // nats
  std::vector<uint8_t> ends_;
};

}  // namespace infini
