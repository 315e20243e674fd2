// The products of training with a matrix W [outputs][inputs]: x W^T forward, and dy W backward.
#pragma once

#include <cstdint>
#include <vector>

#include "gemm/gemm.h"
#include "model/plan.h"

namespace infini {

// Rows without their first `columns` columns.
inline ConstRows without(int64_t columns, const ConstRows &rows) {
  return {rows.type, static_cast<const char *>(rows.data) + columns * bytes_of(rows.type), rows.stride};
}

class MatrixProducts {
 public:
  MatrixProducts() = default;
  // Of f32 numbers, which pack() makes ready for products in `type`; `backward`: for those backward too.
  MatrixProducts(NumberType type, int64_t inputs, int64_t outputs, bool backward);
  // Of a frozen matrix, which stays where the model has it, at its bits: rows of these tensors, part below part. What
  // products unpack of it, a piece at a time, goes with them.
  MatrixProducts(std::vector<TensorPart> parts, int64_t inputs);

  bool is_frozen() const { return !parts_.empty(); }
  int64_t outputs() const { return outputs_; }
  void pack(const Threads &threads, const float *numbers);  // unless it is frozen
  int64_t bytes() const { return forward_.bytes() + backward_.bytes(); }

  // y [rows, outputs] (+)= x W^T; dx [rows, inputs] (+)= dy W: rows as of Gemm::multiply().
  void forward(const Threads &threads, const Gemm &gemm, const ConstRows &x, int64_t rows, float *y, int64_t y_row,
               bool accumulate) const;
  void backward(const Threads &threads, const Gemm &gemm, const ConstRows &dy, int64_t rows, float *dx, int64_t dx_row,
                bool accumulate) const;

 private:
  Panels unpack(const Threads &threads, const Gemm &gemm, NumberType type, bool by_rows, int64_t begin, int64_t end,
                char *data) const;
  template <class F>
  void each_piece(const Threads &threads, const Gemm &gemm, NumberType type, bool by_rows, const F &f) const;

  PackedMatrix forward_, backward_;  // [inputs, outputs], [outputs, inputs]
  std::vector<TensorPart> parts_;
  int64_t inputs_ = 0, outputs_ = 0;
};

}  // namespace infini
