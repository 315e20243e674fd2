// The innermost loop of the linear algebra that is done in f64.
#pragma once

#include <cstdint>

namespace infini {

// c [rows, columns] -= a b in f64, where a is [rows, depth] and b [depth, columns]: element (i, k) of a is
// a[i * a_row + k * a_column]; rows of b and c are b_row and c_row apart. c overlaps neither what is read of a nor b.
void subtract_product(const double *a, int64_t a_row, int64_t a_column, int64_t rows, const double *b, int64_t b_row,
                      int64_t depth, int64_t columns, double *c, int64_t c_row);

}  // namespace infini
