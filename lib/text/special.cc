#include "text/special.h"

#include "base/status.h"

namespace infini {

uint32_t SpecialTokens::step(uint32_t node, char byte) const {
  if (node == 0) return first_[static_cast<unsigned char>(byte)];
  uint32_t child = nodes_[node].child;
  while (child != 0 && nodes_[child].byte != byte) child = nodes_[child].sibling;
  return child;
}

void SpecialTokens::add(std::string_view text, int32_t id, bool control, bool mark) {
  constexpr size_t kLongest = 4096;  // bytes: at every place of a text as many may be looked at
  if (text.empty()) return;
  if (text.size() > kLongest)
    fail(Status::FORMAT, "special token ", id, " has ", text.size(), " bytes; the longest possible is ", kLongest);
  uint32_t node = 0;
  for (const char byte : text) {
    uint32_t child = step(node, byte);
    if (child == 0) {
      child = static_cast<uint32_t>(nodes_.size());
      nodes_.push_back({byte, false, false, -1, 0, nodes_[node].child});
      nodes_[node].child = child;
      if (node == 0) first_[static_cast<unsigned char>(byte)] = child;
    }
    node = child;
  }
  if (nodes_[node].id >= 0) return;
  nodes_[node].id = id;
  nodes_[node].control = control;
  nodes_[node].mark = mark;
}

SpecialTokens::Match SpecialTokens::find(std::string_view text, bool control, size_t open) const {
  Match longest;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    node = step(node, text[i]);
    if (node == 0) break;
    const Node &here = nodes_[node];
    if (here.id >= 0 && (control || !here.control) && (i < open || !here.mark)) longest = {i + 1, here.id};
  }
  return longest;
}

}  // namespace infini
