// oneDNN's matmul, 2.x and 3.x, where the library is built with it: the one file that knows its types is onednn.cc.
#pragma once

#include <memory>

#include "gemm/gemm.h"

namespace infini {

class OneDnn {
 public:
  OneDnn();
  ~OneDnn();
  static bool is_there();  // in this build of the library
  // Whether oneDNN has fast kernels for panels of this type on this processor; no, without oneDNN.
  static bool supports(NumberType type);
  // On the calling thread. False where oneDNN has no fast kernel for these panels on this processor.
  bool multiply(ScratchPool &scratch, const ConstRows &a, int64_t rows, const Panels &b, float *c, int64_t c_row,
                bool accumulate) const;
  // c [a_columns, b_columns], dense, (+)= a^T b over plain rows; false as above. It takes a MB of scratch or so.
  bool multiply_transposed(ScratchPool &scratch, const ConstRows &a, const ConstRows &b, int64_t rows,
                           int64_t a_columns, int64_t b_columns, float *c, bool accumulate) const;

 private:
  struct Cache;
  std::unique_ptr<Cache> cache_;
};

}  // namespace infini
