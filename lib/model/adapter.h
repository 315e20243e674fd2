// LoRA adapters (Hu et al., arXiv 2106.09685): files that change a model's matrices by products of low rank, computed
// beside the weights, which stay at their bits.
#pragma once

#include <map>
#include <span>
#include <string>
#include <utility>

#include "format/gguf.h"
#include "gemm/weight_matrix.h"
#include "model/plan.h"

namespace infini {

class Adapter {
 public:
  // `gguf` for a model that reads as `config`; its matrices become W + weight * alpha / rank * B A. FORMAT, or
  // UNSUPPORTED, for a file that is no such adapter; MODEL_MISMATCH for one of another model.
  Adapter(Gguf gguf, double weight, const Config &config);
  Adapter(const Adapter &) = delete;

  // What is added to the products of a matrix whose columns these tensors are, one after the other; rows of `type` are
  // multiplied. Of rank 0 where the file has nothing for them. FORMAT for numbers that are not finite.
  LowRank low_rank(std::span<const TensorSpec *const> specs, NumberType type) const;
  // With keys infini.* of the memory that it was trained with, if any.
  const Gguf &gguf() const { return gguf_; }
  double weight() const { return weight_; }
  size_t matrices() const { return pairs_.size(); }

 private:
  struct Pair {
    TensorPart a, b;  // [rank, columns], [rows, rank]
    int64_t rank() const { return a.rows; }
  };
  Gguf gguf_;
  double weight_, alpha_;
  std::map<std::string, Pair> pairs_;  // by the tensor of the model
};

}  // namespace infini
