#include "attention/keep.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

namespace infini {
namespace {

// Tokens of no worth that each sentence's mean counts beside its own: a rare word or two alone are no fact.
constexpr float kPlainTokens = 1;

}  // namespace

void choose_spans(const std::vector<KeptSpan> &spans, const AttentionShape &shape, std::vector<size_t> &ranking,
                  std::vector<bool> &stays) {
  ranking.resize(spans.size());
  std::iota(ranking.begin(), ranking.end(), size_t{0});
  std::ranges::sort(ranking,
                    [&](size_t a, size_t b) { return std::tie(spans[a].worth, a) > std::tie(spans[b].worth, b); });
  stays.assign(spans.size(), false);
  int64_t tokens = 0;
  for (const size_t i : ranking) {
    if (tokens + spans[i].tokens > shape.keep || spans[i].worth < shape.keep_least) continue;
    tokens += spans[i].tokens;
    stays[i] = true;
  }
}

void Keep::note(int64_t position, std::span<const float> worth, std::span<const uint8_t> ends) {
  if (position > end() || position < first_) {
    first_ = position;
    worth_.clear();
    ends_.clear();
  }
  const auto known = static_cast<size_t>(end() - position);
  if (known >= worth.size()) return;
  for (const float one : worth.subspan(known))  // what is no number is worth nothing, and can be ranked
    worth_.push_back(std::isfinite(one) ? one : 0);
  ends_.insert(ends_.end(), ends.begin() + static_cast<std::ptrdiff_t>(known), ends.end());
}

void Keep::drop_after(int64_t position) {
  const auto left = static_cast<size_t>(std::clamp<int64_t>(position - first_, 0, end() - first_));
  worth_.resize(left);
  ends_.resize(left);
}

void Keep::mark(int64_t begin, int64_t end) {
  const auto at = [&](int64_t position) { return static_cast<std::ptrdiff_t>(position - first_); };
  std::fill(worth_.begin() + at(begin), worth_.begin() + at(end), kMarked);
  if (begin > first_) ends_[at(begin - 1)] = 1;
  ends_[at(end - 1)] = 1;
}

template <class F>
void Keep::each_span(int64_t begin, int64_t end, const F &f) const {
  while (begin < end) {
    KeptSpan span{begin, 0, 0};
    float sum = 0, most = 0;
    do {
      const float worth = worth_[begin - first_];
      sum += worth, most = std::max(most, worth);
      ++span.tokens;
    } while (!ends_at(begin++) && begin < end && span.tokens < kLongestSpan);
    span.worth = most == kMarked ? kMarked : sum / (static_cast<float>(span.tokens) + kPlainTokens);
    f(span);
  }
}

void Keep::raise(const View &view, const AttentionShape &shape, bool standing, std::vector<RaisedSpan> &raised) const {
  raised.clear();
  int64_t index = view.sinks;
  for (const KeptSpan &span : spans_) {
    raised.push_back({index, span.tokens, 0});
    index += span.tokens;
  }
  if (!standing || shape.keep_standing == 0) return;
  each_span(std::max({view.window_begin, first_, view.origin + shape.sinks}), end(), [&](const KeptSpan &span) {
    const int64_t last = span.begin + span.tokens - 1;
    if (span.worth >= shape.keep_least && (ends_at(last) || span.tokens == kLongestSpan))
      raised.push_back({view.index_of(span.begin), span.tokens, view.index_of(last) + shape.keep_standing});
  });
}

void Keep::close(const View &view, const AttentionShape &shape, Closing &closing, bool empty) const {
  // The window begins with a sentence, where one begins soon enough.
  int64_t begin = std::max(view.window_begin, view.position - shape.carry);
  if (empty) begin = view.position;
  const int64_t latest = std::min({begin + kLongestSpan, begin + shape.carry - shape.segment, view.position});
  for (int64_t at = begin; !empty && begin > view.window_begin && at <= latest; ++at)
    if (ends_at(at - 1)) {
      begin = at;
      break;
    }

  View &after = closing.after = view.closed(shape);
  after.window_begin = begin;
  after.sinks = std::min<int64_t>(shape.sinks, begin - view.origin);
  after.kept = 0;

  // As many as there may ever be, so that no later segment allocates: each has a token at least.
  const auto most_kept = static_cast<size_t>(shape.keep),
             most = most_kept + static_cast<size_t>(shape.segment + 2 * kLongestSpan);
  closing.candidates.reserve(most);
  closing.ranking.reserve(most);
  closing.stays.reserve(most);
  closing.spans.reserve(most_kept);
  closing.sources.reserve(most_kept);
  std::vector<KeptSpan> &all = closing.candidates;
  all = spans_;
  each_span(std::max({view.window_begin, first_, view.origin + shape.sinks}), begin,
            [&](const KeptSpan &span) { all.push_back(span); });
  choose_spans(all, shape, closing.ranking, closing.stays);
  closing.spans.clear();
  closing.sources.clear();
  int64_t old = view.sinks;  // index of a kept sentence's first key in the list of `view`
  for (size_t i = 0; i < all.size(); ++i) {
    const int64_t from = i < spans_.size() ? old : view.index_of(all[i].begin);
    if (i < spans_.size()) old += all[i].tokens;
    if (!closing.stays[i]) continue;
    closing.spans.push_back(all[i]);
    after.kept += all[i].tokens;
    for (int64_t t = 0; t < all[i].tokens; ++t) closing.sources.push_back(from + t);
  }
}

void Keep::apply(const Closing &closing) {
  spans_.reserve(closing.spans.capacity());
  spans_ = closing.spans;
  const auto gone =
      static_cast<std::ptrdiff_t>(std::clamp<int64_t>(closing.after.window_begin - first_, 0, end() - first_));
  worth_.erase(worth_.begin(), worth_.begin() + gone);
  ends_.erase(ends_.begin(), ends_.begin() + gone);
  first_ += gone;
}

void Keep::restore(const View &view, std::vector<KeptSpan> spans, std::vector<float> worth, std::vector<uint8_t> ends) {
  first_ = view.position - static_cast<int64_t>(worth.size());
  spans_ = std::move(spans);
  worth_ = std::move(worth);
  ends_ = std::move(ends);
}

}  // namespace infini
