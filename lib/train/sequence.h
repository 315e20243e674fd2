// What training reads: sequences, made of documents (document.h), and their sources.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace infini {

// Supervision of the memory: the query that predicts one token should retrieve an earlier one.
struct Link {
  int32_t from;      // the token that is predicted; the query is that of the token before it
  int32_t to;        // supervision target of the retrieval: the token whose key the query should match
  float weight = 1;  // loss weight of the query; the greatest of its links counts
};

// What data says of a token that is part of a labelled span. Training hands it on to supervisors, and to hooks that
// initialise parameters.
struct Tag {
  int32_t label = -1;   // of the span, from 0; -1: none
  int32_t offset = -1;  // of the token in the span, from 0; -1: it is in none
};

// One training sequence: tokens with their loss weights.
struct Sequence {
  std::vector<int32_t> tokens;  // T
  std::vector<float> weight;    // T: loss weight of predicting tokens[t] from those before it; weight[0] is not used
  // T: 1 where tokens[t] is part of an answer whose value last stood in another segment, so that only the memory holds
  // it; 2 where it stood in the same one, or in view of local attention; 0 where tokens[t] is part of no answer.
  std::vector<uint8_t> answer;
  std::vector<Link> links;            // ascending by `from`
  std::vector<int32_t> local_target;  // T or empty: supervision target of local attention at t, before it; -1: none
  // Segments or empty (all 1): what each adds to M and z, times this: it imitates a longer stream.
  std::vector<float> repeat_weight;
  std::vector<int32_t> document;  // starts of documents, ascending, the first 0: each begins with an empty memory
  std::vector<Tag> tags;          // T or empty
  int64_t unknown_bytes = 0;      // of the text it was made of, which had no token, and were left out or replaced

  std::span<const Link> links_of(int32_t from) const {
    const auto begin = std::ranges::lower_bound(links, from, {}, &Link::from);
    return {begin, std::ranges::upper_bound(begin, links.end(), from, {}, &Link::from)};
  }
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
