// Finding special tokens in text.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace infini {

// A trie of the special tokens' texts. Of equal texts the first one added counts.
class SpecialTokens {
 public:
  struct Match {
    size_t size = 0;  // bytes; 0: no token is there
    int32_t id = -1;
  };
  // `mark`: never parsed from messages' contents: a control token, or one that ends generation.
  void add(std::string_view text, int32_t id, bool control, bool mark);
  // The longest token at the front of the text; control tokens only with `control`, marks only among the first `open`
  // bytes.
  Match find(std::string_view text, bool control, size_t open) const;

 private:
  struct Node {
    char byte = 0;
    bool control = false, mark = false;
    int32_t id = -1;
    uint32_t child = 0, sibling = 0;  // of nodes_; 0: none
  };
  uint32_t step(uint32_t node, char byte) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::array<uint32_t, 256> first_{};  // the root's children
};

}  // namespace infini
