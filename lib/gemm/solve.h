// The linear systems of ridge regressions.
#pragma once

#include <cstdint>

namespace infini {

// Solves a x = b for symmetric a [n][n] that is positive definite; b [columns][n] becomes x, a is overwritten. False
// where a is not, or where numbers are not finite. On the calling thread, by Cholesky's factors.
bool solve_positive(int64_t n, int64_t columns, double *a, double *b);
// The same of a + ridge * (mean of a's diagonal) * I.
bool solve_ridge(int64_t n, int64_t columns, double ridge, double *a, double *b);

}  // namespace infini
