// The compressive memory of one KV head: a matrix and a normaliser, in f32 under every compute type.
#pragma once

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
  void commit();  // (8): M += gathered, z += gathered

  int key_size() const { return key_size_; }
  int value_size() const { return value_size_; }
  int64_t value_stride() const { return round_up(value_size_, kPanel); }  // floats of a row of values
  float matrix(int64_t i, int64_t j) const { return matrix_[index(i, j)]; }
  void set_matrix(int64_t i, int64_t j, float value) { matrix_[index(i, j)] = value; }
  float normaliser(int64_t i) const { return normaliser_[i]; }
  void set_normaliser(int64_t i, float value) { normaliser_[i] = value; }
  int64_t bytes() const { return static_cast<int64_t>(matrix_.bytes() + normaliser_.bytes()); }

 private:
  int64_t index(int64_t i, int64_t j) const { return (j / kPanel * key_size_ + i) * kPanel + j % kPanel; }

  int key_size_ = 0, value_size_ = 0;
  Buffer<float> matrix_;       // M, panels [value_stride() / 64][key_size][64]
  Buffer<float> normaliser_;   // z [key_size]
  Buffer<float> matrix_sum_, normaliser_sum_;  // of the segment that is being added: sums of equals keep their bits
};

}  // namespace infini
