// From the tensors of a file to matrices that are packed for this processor.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "base/options.h"
#include "base/parallel.h"
#include "gemm/weight_matrix.h"
#include "model/plan.h"

namespace infini {

// A matrix, and the parts of tensors whose rows, one below the other, are its columns.
struct Packing {
  WeightMatrix *matrix;
  bool output;  // makes the logits
  std::vector<TensorPart> parts;
  struct Piece {
    std::vector<TensorPart> parts;
    std::optional<TensorType> blocks;  // what they are kept as; else floats
  };
  std::vector<Piece> pieces = {};  // as those of the matrix
};

// Divides the matrix into pieces of a kind and makes room for them: at a file's bits, or those that option "weights"
// asks for, or as numbers of type `floats`.
void lay_out(Packing &packing, const Options &options, NumberType floats);

// Reads the file's numbers into the room that lay_out made, FORMAT where one is not finite.
// What has been read is released at once, so that memory holds the numbers once.
void fill(const Threads &threads, const Packing &packing, const Gguf &gguf);

// The numbers of one column, [k]; false where the matrix holds them as floats, but less exactly than the tensor.
bool unpack_column(const WeightMatrix &matrix, const GgufTensor &tensor, int64_t column, float *values);

}  // namespace infini
