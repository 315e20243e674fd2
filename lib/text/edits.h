// Where the bytes of a changed text come from.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace infini {

// Changes in order: bytes of the new text, [begin, end), took the place of those up to `from` of the old one.
class Edits {
 public:
  void add(size_t begin, size_t end, size_t from) { edits_.push_back({begin, end, from}); }
  void clear() { edits_.clear(); }
  // How much of the old text the first `size` bytes of the new one stand for; of a change, all or nothing.
  size_t origin(size_t size) const {
    const auto after =
        std::partition_point(edits_.begin(), edits_.end(), [=](const Edit &edit) { return edit.begin < size; });
    if (after == edits_.begin()) return size;
    const Edit &edit = after[-1];
    return edit.from + (std::max(size, edit.end) - edit.end);
  }

 private:
  struct Edit {
    size_t begin, end, from;
  };
  std::vector<Edit> edits_;
};

}  // namespace infini
