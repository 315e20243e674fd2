// OpenBLAS, where the library is built with it: the one file that knows its interface is openblas.cc.
#pragma once

#include <cstdint>

namespace infini {

inline constexpr bool kOpenBlas = INFINI_OPENBLAS;

// c [rows, columns] (+)= a b or, `transposed`, a^T b, by rows; any threads at once. UNSUPPORTED without OpenBLAS.
void openblas_product(bool transposed, int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t a_row,
                      const float *b, int64_t b_row, bool accumulate, float *c, int64_t c_row);
// Whether it divides a product over threads of its own.
bool openblas_has_threads();

}  // namespace infini
