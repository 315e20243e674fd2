// From the tensors of a file to matrices that are packed for this processor.
#pragma once

#include <vector>

#include "base/parallel.h"
#include "gemm/weight_matrix.h"
#include "model/plan.h"

namespace infini {

// A matrix, and the parts of tensors whose rows, one below the other, are its columns.
struct Packing {
  WeightMatrix *matrix;
  bool output;  // makes the logits
  std::vector<TensorPart> parts;
  std::vector<const TensorSpec *> specs;  // of the parts
  struct Piece {
    std::vector<TensorPart> parts;
    WeightFormat format;
    int64_t columns;
  };
  std::vector<Piece> pieces = {};  // as those of the matrix
};

// Divides the matrix into pieces of a format, that of the file or the one that was asked for, as the processor can have
// it, and makes room for them.
void lay_out(Packing &packing, const Asked &asked, const ProductChoice &choice);

// Reads the file's numbers into the room that lay_out made, FORMAT where one is not finite.
// What has been read is released at once, so that memory holds the numbers once.
void fill(const Threads &threads, const Packing &packing, const Gguf &gguf);

// The numbers of one column, [k]; false where the matrix holds them as floats, but less exactly than the tensor.
bool unpack_column(const WeightMatrix &matrix, const GgufTensor &tensor, int64_t column, float *values);

}  // namespace infini
