// Low-rank adapters: small matrices A [rank][inputs] and B [outputs][rank] beside a weight that stays as it was. Their
// products are added to its own: x W^T + alpha / rank * (x A^T) B^T.
#pragma once

#include <span>
#include <vector>

#include "train/matrix_products.h"
#include "train/parameters.h"
#include "train/train_config.h"

namespace infini {

class Lora {
 public:
  // For each of `targets` (indices in parameters.list(), ascending); A is random, B zero, so that training begins at
  // the model.
  Lora(const Parameters &parameters, const std::vector<size_t> &targets, const LoraConfig &config, NumberType compute,
       uint64_t seed);

  bool adapts(size_t parameter) const;
  // Makes A and B ready for products: to be called whenever they have changed.
  void pack(const Threads &threads);
  // y [rows, outputs] += what the adapters of a matrix make of x. `first`: the first of the parameters in it.
  void add(const Threads &threads, const Gemm &gemm, size_t first, const ConstRows &x, int64_t rows, float *y,
           int64_t y_row);
  // Adds what dy, the gradient of y, gives A and B to gradients(), and what it gives x to dx, which may be null.
  void add_gradients(const Threads &threads, const Gemm &gemm, size_t first, const ConstRows &x, const ConstRows &dy,
                     int64_t rows, float *dx, int64_t dx_row);
  // Adds alpha / rank * B A to rows [row, row + rows) of a parameter.
  void merge(size_t parameter, int64_t row, int64_t rows, float *values) const;

  std::vector<Variable> variables() const;  // offsets are into values() and gradients()
  float *values() { return values_.data(); }
  const float *values() const { return values_.data(); }
  float *gradients() { return gradients_.data(); }
  int64_t size() const { return values_.size(); }
  int64_t bytes() const;
  // The adapters alone, as a GGUF of the kind "adapter".
  Gguf gguf(const Model &model, const Parameters &parameters, const MemoryConfig &memory) const;

 private:
  struct Target {
    size_t parameter, first;  // and the first one of its matrix
    int64_t a, b;             // offsets of A and B
    int64_t row;              // of its matrix, where the parameter begins
    int64_t rows, columns;
  };
  // The targets in one matrix. As products take them, their A stand below each other, and their B side by side, each in
  // its own rows.
  struct Group {
    std::span<const Target> targets;
    int64_t ranks;
    MatrixProducts down, up;  // by A, by B
    size_t first() const { return targets[0].first; }
  };
  Group *find(size_t first);
  ConstRows scaled(const Threads &threads, const Group &group, int64_t rows, Buffer<float> &inner,
                   Buffer<char> &narrow) const;

  const LoraConfig config_;
  const NumberType compute_;
  std::vector<Target> targets_;
  std::vector<Group> groups_;
  Buffer<float> values_, gradients_;
  // Of products: [rows][ranks, to a multiple of 64] x A^T and dy B, and both in the compute type.
  Buffer<float> inner_, dinner_;
  Buffer<char> narrow_, dnarrow_;
};

}  // namespace infini
