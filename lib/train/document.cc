#include "train/document.h"

#include <algorithm>

namespace infini {

void Document::add_value(int32_t begin, int32_t count, int32_t label) {
  tags.resize(std::max(tags.size(), static_cast<size_t>(begin + count)));
  for (int32_t i = 0; i < count; ++i) tags[begin + i] = {label, i};
}

void append(const Document &document, size_t first, size_t count, int64_t segment, int64_t carry, Sequence &out) {
  if (first == 0) out.unknown_bytes += document.unknown_bytes;
  if (count == 0) return;
  const size_t begin = out.tokens.size(), end = begin + count;
  const auto copy = [&](const auto &from, auto &to) {
    const auto at = from.begin() + static_cast<std::ptrdiff_t>(first);
    to.insert(to.end(), at, at + static_cast<std::ptrdiff_t>(count));
  };
  copy(document.tokens, out.tokens);
  copy(document.weight, out.weight);
  out.answer.resize(end);
  if (begin == 0 || (document.begins && first == 0)) {
    out.document.push_back(static_cast<int32_t>(begin));
    out.weight[begin] = 0;
  }
  if (document.supervised || !out.tags.empty()) {
    out.local_target.resize(end, -1);
    out.tags.resize(end);
    const size_t known = std::min(document.tags.size(), first + count);
    if (known > first) std::copy_n(&document.tags[first], known - first, &out.tags[begin]);
  }

  const int64_t stream = out.document.back();
  const auto shift = static_cast<int32_t>(begin) - static_cast<int32_t>(first);
  for (const DocumentLink &link : document.links_of(first, count)) {
    const int32_t from = link.from + shift, to = link.to + shift;
    if (to < static_cast<int32_t>(begin)) continue;
    const auto at = static_cast<size_t>(from);
    switch (link.kind) {
      case DocumentLink::Kind::RETRIEVAL: out.links.push_back({from, to, link.weight}); break;
      case DocumentLink::Kind::LOCAL: out.local_target[at] = to; break;
      case DocumentLink::Kind::ANSWER:
        // The query of the token before predicts this one: its segment decides what is in view.
        const int64_t view = stream + (from - 1 - stream) / segment * segment - carry;
        out.answer[at] = to >= view || out.answer[at] == kAnswerInside ? kAnswerInside : kAnswerAcross;
    }
  }
}

}  // namespace infini
