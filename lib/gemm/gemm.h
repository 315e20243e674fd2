// Matrix products with weights that were packed once: oneDNN, OpenBLAS and our own kernel behind one seam.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "base/buffer.h"
#include "base/parallel.h"
#include "gemm/choose.h"
#include "gemm/scratch.h"
#include "kernels/kernels.h"

namespace infini {

// n floats as numbers of the type, and back.
inline void store(const float *x, int64_t n, NumberType type, void *to) {
  if (type == NumberType::F32) std::copy_n(x, n, static_cast<float *>(to));
  else narrow(x, n, static_cast<uint16_t *>(to));
}
inline void load(NumberType type, const void *from, int64_t n, float *x) {
  if (type == NumberType::F32) std::copy_n(static_cast<const float *>(from), n, x);
  else widen(static_cast<const uint16_t *>(from), n, x);
}

// Rows of numbers of one type; rows are `stride` elements apart.
struct ConstRows {
  NumberType type;
  const void *data;
  int64_t stride;
  ConstRows from(int64_t row) const {
    return {type, static_cast<const char *>(data) + row * stride * bytes_of(type), stride};
  }
  const float *f32() const { return static_cast<const float *>(data); }
  const uint16_t *bf16() const { return static_cast<const uint16_t *>(data); }
};

// A matrix [k, n] in panels of 64 columns (kernels/panel.h). The memory may be a window's or its own.
struct Panels {
  NumberType type;
  const void *data;
  int64_t k, n;
  int64_t stride;  // elements from one panel to the next: at least those of k rows, an even number in bf16
  // Columns from `begin`, a multiple of 64, to `end`, or as many as there are.
  Panels columns(int64_t begin, int64_t end) const {
    return {type, static_cast<const char *>(data) + panel_begin(begin, stride) * bytes_of(type), k,
            std::min(n, end) - begin, stride};
  }
  template <class Number>
  const Number *panel_of(int64_t column) const {
    return static_cast<const Number *>(data) + panel_begin(column, stride);
  }
};

// Weights [k, n]: column j is row j of the file's tensor.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  PackedMatrix(NumberType type, int64_t k, int64_t n);

  // The `columns` columns of a panel: column j is `from` + j * stride. Any threads may set different panels.
  void set_panel(int64_t panel, const float *from, int64_t stride, int64_t columns);
  // The whole matrix anew, as the weights of a model in training are after each step: column j, or with `by_rows`
  // row i, is a row of `from`.
  void pack(const Threads &threads, const float *from, int64_t stride, bool by_rows);
  float at(int64_t i, int64_t j) const;
  NumberType type() const { return type_; }
  Panels panels() const { return {type_, data_.data(), k_, n_, stride()}; }
  int64_t k() const { return k_; }
  int64_t n() const { return n_; }
  int64_t bytes() const { return static_cast<int64_t>(data_.bytes()); }

 private:
  int64_t stride() const { return panel_size(padded_k(type_, k_)); }
  NumberType type_ = NumberType::F32;
  int64_t k_ = 0, n_ = 0;
  Buffer<char> data_;
};

class OneDnn;

// Matrix products. Immutable for its users; any number of threads may multiply at once.
class Gemm {
 public:
  explicit Gemm(const ProductChoice &choice);
  explicit Gemm(GemmLibrary library) : Gemm(choose({.library = library}, Cpu::here())) {}
  ~Gemm();

  // c [rows, n] (+)= a [rows, k] * b; a and b have the same type, or b is int8 (without its scales). c's rows are
  // c_row floats apart and hold n rounded up to 64 elements. A row of C may depend, in its last bits, on how many rows
  // there are, unless `exact`: then our own kernel multiplies, whose rows depend on nothing but themselves.
  void multiply(const Threads &threads, const ConstRows &a, int64_t rows, const Panels &b, float *c, int64_t c_row,
                bool accumulate, bool exact = false) const;

  // c [a_columns, b_columns] (+)= a^T b, as weights' gradients are made: a [rows, a_columns] and b [rows, b_columns]
  // have the same type; c's rows are c_row floats apart. Products of pairs are summed in f32.
  void multiply_transposed(const Threads &threads, const ConstRows &a, const ConstRows &b, int64_t rows,
                           int64_t a_columns, int64_t b_columns, float *c, int64_t c_row, bool accumulate) const;

  const ProductChoice &choice() const { return choice_; }
  // Memory for products to work in. It goes with the model, whose threads share it.
  ScratchPool &scratch() const { return scratch_; }

 private:
  ProductChoice choice_;
  std::unique_ptr<OneDnn> onednn_;
  mutable ScratchPool scratch_;
};

}  // namespace infini
