// What training reads: sequences, and what makes them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace infini {

// What one training sequence is: tokens with what each is worth.
struct Sequence {
  std::vector<int32_t> tokens;  // T
  std::vector<float> weight;    // T: of predicting tokens[t] from those before it; weight[0] is not used
  std::vector<uint8_t>
      answer;  // T: 1 where tokens[t] is part of an answer whose value last stood in another segment, 2: in the same one, 0: neither
  std::vector<int32_t>
      source;  // T or empty: for attention supervision, the earlier position that holds the same digit (or what else is to be found), -1 where none
  std::vector<int32_t>
      subject;  // T or empty: for supervision of local attention, the earlier position of the name that tokens[t], or the token after it, is the value of; -1 where none
  std::vector<float>
      fold;  // segments or empty (all 1): virtual length, the factor on a segment's contribution to M and z
  std::vector<int32_t> document;  // starts of documents, ascending, the first 0: memory is reset at each
  std::vector<int32_t> name;   // T or empty: the number of the name whose value tokens[t] is a digit of, -1 elsewhere
  std::vector<int32_t> place;  // T or empty: which digit of that value it is, from 0; -1 elsewhere
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
