// Choosing the next token from logits. The logits themselves are never changed.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/options.h"
#include "base/random.h"

namespace infini {

// The last tokens of a stream, however they came.
class RecentTokens {
 public:
  void set_window(size_t window);  // keeps what still fits
  void push(int32_t token);
  void clear() { tokens_.clear(), next_ = 0; }
  std::vector<int32_t> in_order() const;  // oldest first
  const std::vector<int32_t> &any_order() const { return tokens_; }

 private:
  size_t window_ = 0;
  size_t next_ = 0;  // where the next one goes once the window is full
  std::vector<int32_t> tokens_;
};

class Sampler {
 public:
  // Checks `logit_bias` against the vocabulary.
  Sampler(const GenerationOptions &how, int vocabulary);

  // Order: penalties, bias, temperature, top_k, top_p, min_p, draw. Equal logits: the lower id first.
  // temperature 0: the likeliest token, no random number drawn.
  int32_t sample(std::span<const float> logits, const RecentTokens &recent, Random &random);

  int64_t bytes() const {
    return static_cast<int64_t>(logits_.size() * (sizeof logits_[0] + sizeof occurrences_[0]) +
                                candidates_.capacity() * sizeof(Candidate));
  }

 private:
  struct Candidate {
    float logit;  // minus the greatest, and divided by the temperature
    int32_t token;
    double weight() const { return std::exp(static_cast<double>(logit)); }
    // Whether it is less likely; of equals the one with the higher id.
    bool operator<(const Candidate &other) const {
      return logit != other.logit ? logit < other.logit : token > other.token;
    }
    bool operator>(const Candidate &other) const { return other < *this; }
  };
  void penalize(const RecentTokens &recent);
  void truncate(size_t count);  // keeps the `count` likeliest candidates

  GenerationOptions how_;
  std::vector<std::pair<int32_t, float>> bias_;
  std::vector<float> logits_;          // [vocabulary]
  std::vector<Candidate> candidates_;  // [vocabulary]
  std::vector<uint32_t> occurrences_;  // [vocabulary], zero between calls
};

// "12:-1.5,7:-inf" as pairs of id and bias.
std::vector<std::pair<int32_t, float>> parse_logit_bias(const std::string &text, int vocabulary);

}  // namespace infini
