#include "train/document.h"

#include <algorithm>

namespace infini {

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
  for (std::vector<int32_t> *const numbers : {&out.local_target, &out.offset, &out.label})
    if (document.supervised || !numbers->empty()) numbers->resize(end, -1);

  const auto of_out = [shift = static_cast<int32_t>(begin) - static_cast<int32_t>(first)](int32_t t) {
    return t + shift;
  };
  const auto lower = static_cast<int32_t>(begin), upper = static_cast<int32_t>(end);
  const int64_t stream = out.document.back();
  for (const DocumentLink &link : document.links) {
    const int32_t from = of_out(link.from), to = of_out(link.to);
    if (to < lower || from >= upper) continue;
    const auto at = static_cast<size_t>(from);
    switch (link.kind) {
      case DocumentLink::Kind::RETRIEVAL: out.links.push_back({from, to, link.weight}); break;
      case DocumentLink::Kind::LOCAL: out.local_target[at] = to; break;
      case DocumentLink::Kind::ANSWER:
        // The token before it predicts it: that one's segment decides what is in view.
        const int64_t view = stream + (from - 1 - stream) / segment * segment - carry;
        out.answer[at] = to >= view || out.answer[at] == 2 ? 2 : 1;
    }
  }
  for (const DocumentValue &value : document.values) {
    const int32_t start = of_out(value.begin);
    for (int32_t t = std::max(start, lower); t < std::min(start + value.tokens, upper); ++t) {
      out.offset[static_cast<size_t>(t)] = t - start;
      out.label[static_cast<size_t>(t)] = value.label;
    }
  }
}

}  // namespace infini
