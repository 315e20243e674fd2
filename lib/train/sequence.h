// What training reads: sequences, made of documents (document.h), and their sources.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace infini {

// Supervision of the memory: the retrieval of the query that predicts one token should fall on an earlier one.
struct Link {
  int32_t from;      // the token that is predicted, by the query of the token before it
  int32_t to;        // the target: the token whose key the query should match
  float weight = 1;  // loss weight of the query, which is the greatest of its links'
};

// What data says of a token in a labelled span, such as a value. Training only passes it to supervisors, and to hooks
// that initialise parameters.
struct Tag {
  int32_t label = -1;   // of the span, from 0; -1: none
  int32_t offset = -1;  // of the token in the span, from 0; -1: the token is in none
};

// Sequence::answer, where it is not 0. ACROSS: the value last stood in another segment, so that only the memory holds
// it. INSIDE: in the same one, or in view of local attention.
constexpr uint8_t kAnswerAcross = 1, kAnswerInside = 2;

// One training sequence: tokens with their loss weights.
struct Sequence {
  std::vector<int32_t> tokens;  // T
  std::vector<float> weight;    // T: loss weight of predicting tokens[t] from those before it; weight[0] is not used
  std::vector<uint8_t> answer;  // T: what kind of answer tokens[t] is part of; 0: of none
  std::vector<Link> links;      // ascending by `from`
  std::vector<int32_t> local_target;  // T or empty: the earlier token on which attention at t should fall; -1: none
  // One a segment, or empty (all 1): factor on what the segment adds to M and z, so that it stands for a longer stream.
  std::vector<float> repeat_weight;
  std::vector<int32_t> document;  // starts of documents, ascending, the first 0: the memory is empty there
  std::vector<Tag> tags;          // T or empty
  int64_t unknown_bytes = 0;      // of its text: those without a token, which were left out or replaced

  std::span<const Link> links_of(int32_t from) const {
    const auto begin = std::ranges::lower_bound(links, from, {}, &Link::from);
    return {begin, std::ranges::upper_bound(begin, links.end(), from, {}, &Link::from)};
  }
};

// Makes sequences, without an end; the same seed and the same calls give the same ones. Its position can be saved and
// put back.
class SequenceSource {
 public:
  virtual ~SequenceSource() = default;
  virtual Sequence next(int segment, int segments) = 0;  // segment * segments tokens
  virtual std::string save() const = 0;
  virtual void restore(const std::string &) = 0;
};

}  // namespace infini
