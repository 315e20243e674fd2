// The compressive memory of one KV head: a matrix and a normaliser, in f32 under every compute type.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/buffer.h"
#include "kernels/kernels.h"

namespace infini {

class Memory {
 public:
  Memory() = default;  // a head without memory
  Memory(int key_size, int value_size);

  explicit operator bool() const { return key_size_ > 0; }
  void clear();
  Memory copy() const;

  // (7) without the division: numerator [rows][value_stride()], denominator [rows], epsilon included.
  // sigma_q [rows][key_size] is sigma of the queries before any rotation.
  void retrieve(const float *sigma_q, int rows, float epsilon, float *numerator, float *denominator) const;

  // Gathers a segment for the update: add() its tokens in any pieces, then commit() once.
  // sigma_k [tokens][key_size], before any rotation; values as panels [value_stride() / 64][tokens][64].
  // With `delta`, values are overwritten by V - sigma(K) M / (sigma(K) z) of (9).
  void add(const float *sigma_k, float *values, int tokens, bool delta, float epsilon);
  // (8): M += gathered, z += gathered. What f32 rounds away is kept and joins the next segment's sum (Kahan). So answers
  // stay within 1e-6 of those of f64 sums over 100 million tokens, where f32 sums alone are off by 1e-3, which is 2,500
  // times the trace of one fact among them: tests/bench/long_sums.cc measures and checks it.
  void commit();

  int key_size() const { return key_size_; }
  int value_size() const { return value_size_; }
  int64_t value_stride() const { return round_up(value_size_, kPanel); }  // floats of a row of values
  float matrix(int64_t i, int64_t j) const { return matrix_[index(i, j)]; }
  float normaliser(int64_t i) const { return normaliser_[i]; }
  // M row by row, then z, then what rounding left of each, in stretches: f(floats, count), while no segment is being
  // added. This is also how a snapshot holds a memory.
  template <class Visit>
  void visit(const Visit &f);
  template <class Visit>
  void visit(const Visit &f) const {
    const_cast<Memory *>(this)->visit(
        [&](float *values, int64_t count) { f(static_cast<const float *>(values), count); });
  }
  int64_t bytes() const { return 2 * static_cast<int64_t>(matrix_.bytes() + normaliser_.bytes()); }

 private:
  int64_t index(int64_t i, int64_t j) const { return (j / kPanel * key_size_ + i) * kPanel + j % kPanel; }

  int key_size_ = 0, value_size_ = 0;
  Buffer<float> matrix_;                         // M, panels [value_stride() / 64][key_size][64]
  Buffer<float> normaliser_;                     // z [key_size]
  Buffer<float> matrix_rest_, normaliser_rest_;  // what rounding left of the sums, and the segment that is being added
};

template <class Visit>
void Memory::visit(const Visit &f) {
  if (!*this) return;
  const auto visit_sums = [&](Buffer<float> &matrix, Buffer<float> &normaliser) {
    if (value_size_ == kPanel) {  // its rows stand one behind the other
      f(matrix.data(), key_size_ * kPanel);
    } else {
      for (int64_t i = 0; i < key_size_; ++i)
        for (int64_t j = 0; j < value_size_; j += kPanel)
          f(&matrix[index(i, j)], std::min<int64_t>(kPanel, value_size_ - j));
    }
    f(normaliser.data(), key_size_);
  };
  visit_sums(matrix_, normaliser_);
  visit_sums(matrix_rest_, normaliser_rest_);
}

}  // namespace infini
