#include "train/batch_layout.h"

#include <algorithm>
#include <cmath>

#include "base/status.h"

namespace infini {
namespace {

void check(const Sequence &s, int64_t vocabulary) {
  const size_t n = s.tokens.size();
  const auto refuse = [](const auto &...what) { fail(Status::INVALID_ARGUMENT, "training sequence: ", what...); };
  if (n == 0) refuse("it has no tokens");
  if (s.weight.size() != n || s.answer.size() != n)
    refuse("it has ", n, " tokens, but ", s.weight.size(), " weights and ", s.answer.size(), " answer marks");
  for (const auto &[size, what] : {std::pair{s.local_target.size(), "local targets"}, {s.tags.size(), "tags"}})
    if (size != 0 && size != n) refuse("it has ", n, " tokens, but ", size, " ", what);
  for (size_t t = 0; t < n; ++t) {
    if (s.tokens[t] < 0 || s.tokens[t] >= vocabulary)
      refuse("token ", s.tokens[t], " at ", t, " is outside the vocabulary of ", vocabulary);
    if (!(s.weight[t] >= 0) || !std::isfinite(s.weight[t])) refuse("the weight at ", t, " is ", s.weight[t]);
    if (!s.local_target.empty() && s.local_target[t] >= static_cast<int32_t>(t))
      refuse("the local target of ", t, " is ", s.local_target[t], ", which does not lie before it");
  }
  for (size_t i = 0; i < s.links.size(); ++i) {
    const Link &link = s.links[i];
    if (link.to < 0 || link.to >= link.from || link.from >= static_cast<int32_t>(n) ||
        (i > 0 && link.from < s.links[i - 1].from) || !(link.weight >= 0) || !std::isfinite(link.weight))
      refuse("link ", i, " leads from ", link.from, " to ", link.to, " with weight ", link.weight);
  }
  for (const float weight : s.repeat_weight)
    if (!(weight >= 0) || !std::isfinite(weight)) refuse("a segment's repeat weight is ", weight);
  for (size_t d = 0; d < s.document.size(); ++d) {
    const int32_t start = s.document[d];
    if (d == 0 ? start != 0 : start <= s.document[d - 1] || start >= static_cast<int32_t>(n))
      refuse("document ", d, " starts at ", start);
  }
}

}  // namespace

View StreamSpan::view(const AttentionShape &shape, int64_t stream_first, const SegmentSpan &segment) {
  View before;  // of the stream when the segment before closed
  before.position = segment.first - stream_first;
  return before.closed(shape);
}

void BatchLayout::clear() {
  tokens.clear();
  target.clear();
  weight.clear();
  answer.clear();
  streams.clear();
  segments.clear();
  retrievals.clear();
  source_rows.clear();
  silent.clear();
  tags.clear();
  local_target.clear();
  local_targets = 0;
}

BatchLayout BatchLayout::unsegmented() const {
  BatchLayout out = *this;
  out.segments.clear();
  out.retrievals.clear();
  out.source_rows.clear();
  out.silent.clear();
  for (StreamSpan &stream : out.streams) {
    stream.first_segment = static_cast<int64_t>(out.segments.size());
    stream.segments = 1;
    out.segments.push_back({stream.first, stream.tokens, 0, 1});
  }
  return out;
}

std::vector<int64_t> BatchLayout::supervised_rows() const {
  std::vector<int64_t> rows = silent;
  for (const Retrieval &retrieval : retrievals) rows.push_back(retrieval.row);
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

void BatchLayout::add(const Sequence &sequence, int64_t segment, int64_t vocabulary, std::span<const int64_t> closes) {
  check(sequence, vocabulary);
  add_rows(sequence, add_segments(sequence, segment, closes));
}

std::vector<BatchLayout::Start> BatchLayout::add_segments(const Sequence &s, int64_t segment,
                                                          std::span<const int64_t> closes) {
  const int64_t base = rows(), n = static_cast<int64_t>(s.tokens.size());
  const size_t first_segment = segments.size();
  const size_t documents = std::max<size_t>(1, s.document.size());
  std::vector<Start> starts;
  for (size_t d = 0; d < documents; ++d) {
    const int64_t begin = s.document.empty() ? 0 : s.document[d],
                  end = d + 1 < s.document.size() ? s.document[d + 1] : n;
    StreamSpan stream{base + begin, end - begin, static_cast<int64_t>(segments.size()), 0};
    for (int64_t at = begin; at < end;) {
      int64_t stop = std::min(end, at + segment);
      if (const auto close = std::upper_bound(closes.begin(), closes.end(), at); close != closes.end())
        stop = std::min(stop, *close);
      segments.push_back({base + at, stop - at, at - begin, 1});
      starts.resize(static_cast<size_t>(stop), {begin, at});
      at = stop;
      ++stream.segments;
    }
    streams.push_back(stream);
  }
  if (!s.repeat_weight.empty() && s.repeat_weight.size() != segments.size() - first_segment)
    fail(Status::INVALID_ARGUMENT, "training sequence: it has ", segments.size() - first_segment, " segments, but ",
         s.repeat_weight.size(), " repeat weights");
  for (size_t i = 0; i < s.repeat_weight.size(); ++i) segments[first_segment + i].repeat_weight = s.repeat_weight[i];
  return starts;
}

void BatchLayout::add_rows(const Sequence &s, const std::vector<Start> &starts) {
  const int64_t base = rows();
  auto link = s.links.begin();
  for (size_t t = 0; t < s.tokens.size(); ++t) {
    const size_t next = t + 1;
    const bool predicts = next < s.tokens.size() && starts[next].document == starts[t].document;
    tokens.push_back(s.tokens[t]);
    target.push_back(predicts ? s.tokens[next] : -1);
    weight.push_back(predicts ? s.weight[next] : 0);
    answer.push_back(predicts ? s.answer[next] : uint8_t{0});
    const int32_t looks_at = s.local_target.empty() ? -1 : s.local_target[t];
    local_target.push_back(looks_at >= starts[t].document ? base + looks_at : -1);
    local_targets += local_target.back() >= 0;
    tags.push_back(s.tags.empty() ? Tag() : s.tags[t]);
    while (link != s.links.end() && link->from <= static_cast<int32_t>(t)) ++link;
    const bool linked = predicts && link != s.links.end() && link->from == static_cast<int32_t>(next);
    if (!linked) continue;
    // Only what is in the memory can be retrieved.
    Retrieval retrieval{base + static_cast<int64_t>(t), static_cast<int64_t>(source_rows.size()), 0, 0};
    for (; link != s.links.end() && link->from == static_cast<int32_t>(next); ++link) {
      if (link->to < starts[t].document || link->to >= starts[t].segment) continue;
      source_rows.push_back(base + link->to);
      ++retrieval.sources;
      retrieval.weight = std::max(retrieval.weight, link->weight);
    }
    if (retrieval.weight > 0) retrievals.push_back(retrieval);
    else source_rows.resize(static_cast<size_t>(retrieval.first_source));
  }
}

}  // namespace infini
