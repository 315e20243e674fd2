#include "gemm/openblas.h"

#if INFINI_OPENBLAS

#include <cblas.h>

#include <mutex>

namespace infini {

// One product of the process at a time: a build of OpenBLAS without threads (Debian's serial package) hands out its
// work space without a lock, and two calls at once spoil each other's sums. One with threads divides the product
// itself.
void openblas_product(bool transposed, int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t a_row,
                      const float *b, int64_t b_row, bool accumulate, float *c, int64_t c_row) {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  cblas_sgemm(CblasRowMajor, transposed ? CblasTrans : CblasNoTrans, CblasNoTrans, static_cast<int>(rows),
              static_cast<int>(columns), static_cast<int>(depth), 1.0f, a, static_cast<int>(a_row), b,
              static_cast<int>(b_row), accumulate ? 1.0f : 0.0f, c, static_cast<int>(c_row));
}

bool openblas_has_threads() { return openblas_get_parallel() == OPENBLAS_THREAD; }

}  // namespace infini

#else

#include "base/status.h"

namespace infini {

void openblas_product(bool, int64_t, int64_t, int64_t, const float *, int64_t, const float *, int64_t, bool, float *,
                      int64_t) {
  fail(Status::UNSUPPORTED, "this build of the library has no OpenBLAS");
}
bool openblas_has_threads() { return false; }

}  // namespace infini

#endif
