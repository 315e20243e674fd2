// Low-rank adapters: small matrices A [rank][inputs] and B [outputs][rank] beside a weight that stays as it was.
#pragma once

#include <vector>

#include "train/parameters.h"
#include "train/train_config.h"

namespace infini {

class Lora {
 public:
  // For each of `targets` (indices in parameters.list()); A is random, B zero, so that training begins at the model.
  Lora(const Parameters &parameters, std::vector<size_t> targets, const LoraConfig &config, uint64_t seed);

  // Weights of the targets become those at the beginning + alpha / rank * B A.
  void apply(const Threads &threads, Parameters &parameters) const;
  // Gradients of A and B from those of the weights.
  void gradients(const Threads &threads, const Parameters &parameters, const float *of_weights);

  std::vector<Variable> variables() const;  // offsets are into values() and gradients()
  float *values() { return values_.data(); }
  const float *values() const { return values_.data(); }
  float *gradients() { return gradients_.data(); }
  int64_t size() const { return values_.size(); }
  // The adapters alone, as a GGUF of the kind "adapter".
  Gguf gguf(const Model &model, const Parameters &parameters, const MemoryConfig &memory) const;

 private:
  struct Target {
    size_t parameter;
    int64_t a, b;        // offsets of A and B
    Buffer<float> base;  // [outputs][inputs]
  };
  const LoraConfig config_;
  std::vector<Target> targets_;
  Buffer<float> values_, gradients_;
};

}  // namespace infini
