// Floats into the blocks of a file: format/quant.h the other way.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "format/quant.h"

namespace infini {

// The blocks of n finite numbers, n a multiple of the type's block_elements; of every type in the enumeration. A
// block's scale, and its minimum where it has one, are those of a few candidates that give the least sum of squared
// errors. Q8_0 takes the largest number for 127. Scales that a half can't hold become the largest half, or
// zero.
void quantize(TensorType type, const float *values, int64_t n, void *blocks);

// By its name in upper or lower case.
std::optional<TensorType> tensor_type_of(std::string_view name);

// What rows of k numbers become where a type is asked for: that type, or, where its blocks do not divide the rows, the
// nearest one of blocks of 32, or F16.
TensorType type_for_rows(TensorType asked, int64_t k);
// The same of the matrix that makes the logits, on which the result depends most: six bits at least.
TensorType type_for_output(TensorType asked, int64_t k);

}  // namespace infini
