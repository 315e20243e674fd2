// The sentences of a text, amid which facts are told.
#pragma once

#include <string>
#include <vector>

#include "recall_facts.h"

namespace cli {

// Sentences of a text, again and again.
class Filler {
 public:
  // Of a file, or where `path` is empty of a few sentences that repeat; from a place that is drawn.
  Filler(const std::string &path, Draw &draw);
  std::string next() { return sentences_[at_++ % sentences_.size()]; }
  void begin_anywhere(Draw &draw) { at_ = draw.below(sentences_.size()); }

 private:
  std::vector<std::string> sentences_;  // each with the space before it
  size_t at_ = 0;
};

}  // namespace cli
