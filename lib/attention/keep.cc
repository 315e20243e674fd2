#include "attention/keep.h"

#include <algorithm>
#include <numeric>

namespace infini {
namespace {

// Tokens of no surprise that each sentence counts beside its own: a word or two alone, however rare, are no fact.
constexpr float kPlainTokens = 1;

}  // namespace

void Keep::note(int64_t position, std::span<const float> surprise, std::span<const uint8_t> ends) {
  if (position > end() || position < first_) {
    first_ = position;
    surprise_.clear();
    ends_.clear();
  }
  const auto known = static_cast<size_t>(end() - position);
  if (known >= surprise.size()) return;
  surprise_.insert(surprise_.end(), surprise.begin() + static_cast<std::ptrdiff_t>(known), surprise.end());
  ends_.insert(ends_.end(), ends.begin() + static_cast<std::ptrdiff_t>(known), ends.end());
}

void Keep::drop_after(int64_t position) {
  const auto left = static_cast<size_t>(std::clamp<int64_t>(position - first_, 0, end() - first_));
  surprise_.resize(left);
  ends_.resize(left);
}

void Keep::add_spans(int64_t begin, int64_t end, std::vector<KeptSpan> &spans) const {
  while (begin < end) {
    KeptSpan span{begin, 0, 0};
    float sum = 0;
    do {
      sum += surprise_[static_cast<size_t>(begin - first_)];
      ++span.tokens;
    } while (!ends_at(begin++) && begin < end && span.tokens < kLongestSpan);
    span.surprise = sum / (static_cast<float>(span.tokens) + kPlainTokens);
    spans.push_back(span);
  }
}

Closing Keep::close(const View &view, const AttentionShape &shape) const {
  // The window begins with a sentence, where one begins soon enough.
  int64_t begin = std::max(view.window_begin, view.position - shape.carry);
  const int64_t latest = std::min({begin + kLongestSpan, begin + shape.carry - shape.segment, view.position});
  for (int64_t at = begin; begin > view.window_begin && at <= latest; ++at)
    if (ends_at(at - 1)) {
      begin = at;
      break;
    }

  Closing closing;
  View &after = closing.after = view.closed(shape);
  after.window_begin = begin;
  after.sinks = std::min<int64_t>(shape.sinks, begin - view.origin);
  after.kept = 0;

  std::vector<KeptSpan> all = spans_;
  add_spans(std::max({view.window_begin, first_, view.origin + shape.sinks}), begin, all);
  std::vector<size_t> order(all.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return all[a].surprise > all[b].surprise; });
  std::vector<bool> stays(all.size());
  for (const size_t i : order) {
    if (after.kept + all[i].tokens > shape.keep) continue;
    after.kept += all[i].tokens;
    stays[i] = true;
  }
  int64_t old = view.sinks;  // where the span's first token stands in the list
  for (size_t i = 0; i < all.size(); ++i) {
    const int64_t from = i < spans_.size() ? old : view.index_of(all[i].begin);
    if (i < spans_.size()) old += all[i].tokens;
    if (!stays[i]) continue;
    closing.spans.push_back(all[i]);
    for (int64_t t = 0; t < all[i].tokens; ++t) closing.sources.push_back(from + t);
  }
  return closing;
}

void Keep::apply(const Closing &closing) {
  spans_ = closing.spans;
  const auto gone =
      static_cast<std::ptrdiff_t>(std::clamp<int64_t>(closing.after.window_begin - first_, 0, end() - first_));
  surprise_.erase(surprise_.begin(), surprise_.begin() + gone);
  ends_.erase(ends_.begin(), ends_.begin() + gone);
  first_ += gone;
}

void Keep::restore(const View &view, std::vector<KeptSpan> spans, std::vector<float> surprise,
                   std::vector<uint8_t> ends) {
  first_ = view.position - static_cast<int64_t>(surprise.size());
  spans_ = std::move(spans);
  surprise_ = std::move(surprise);
  ends_ = std::move(ends);
}

}  // namespace infini
