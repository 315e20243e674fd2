// What training reads: sequences, and what makes them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace infini {

// Supervision of the memory: what is predicted at one token is to be looked up at an earlier one.
struct Link {
  int32_t from;      // the token that is predicted; the query is that of the token before it
  int32_t to;        // the token whose key and value the query is to find
  float weight = 1;  // of the query in the loss; the greatest of its links counts
};

// What one training sequence is: tokens with what each is worth.
struct Sequence {
  std::vector<int32_t> tokens;  // T
  std::vector<float> weight;    // T: of predicting tokens[t] from those before it; weight[0] is not used
  // T: 1 where tokens[t] is part of an answer that is to be looked up in another segment, 2: in the same one, 0: neither.
  std::vector<uint8_t> answer;
  std::vector<Link> links;            // ascending by `from`
  std::vector<int32_t> local_target;  // T or empty: the earlier token that local attention at t is to look at; -1: none
  std::vector<float>
      repeat_weight;              // segments or empty (all 1): virtual length, the factor on what each adds to M and z
  std::vector<int32_t> document;  // starts of documents, ascending, the first 0: memory is reset at each
  // T or empty, for heads that look for one token of a value alone: which token of its value tokens[t] is, from 0, and the
  // number of what the value belongs to; -1 elsewhere.
  std::vector<int32_t> offset, label;

  std::span<const Link> links_of(int32_t from) const;
  // Links `from`, the last token so far that has links, to an earlier one and to all that this one is linked to.
  void link(int32_t from, int32_t to);
};

// Makes sequences for ever; same seed and same calls, same sequences. Its position can be saved and put back.
class SequenceSource {
 public:
  virtual ~SequenceSource() = default;
  virtual Sequence next(int segment, int segments) = 0;
  virtual std::string save() const = 0;
  virtual void restore(const std::string &) = 0;
};

}  // namespace infini
