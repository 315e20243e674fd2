// The compressive memory of one KV head of a session: a matrix and a normaliser, in f32 under every compute type.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/buffer.h"
#include "memory/fold.h"

namespace infini {

class Memory {
 public:
  Memory() = default;  // a head without memory
  Memory(const MemoryKind &kind, int key_size, int value_size);

  explicit operator bool() const { return kind_ != nullptr; }
  const MemoryKind &kind() const { return *kind_; }
  void clear();
  Memory copy() const;

  // (7) without the division: numerator [rows][value_stride()], denominator [rows], epsilon included.
  // sigma_q [rows][key_size]: features of the queries before any rotation.
  void read(const float *sigma_q, int64_t rows, float epsilon, float *numerator, float *denominator) const;

  // (8) or (9), as the kind has it: load(first, count) gives tokens of the closing segment as FoldRows. What f32 rounds
  // away is kept and joins the next segment's sum (Kahan). So answers stay within 1e-6 of those of f64 sums over 100
  // million tokens, where f32 sums alone are off by 1e-3, which is 2,500 times the trace of one fact among them:
  // tests/bench/long_sums.cc measures and checks it.
  template <class Load>
  void fold(const ClosingTokens &closing, const Load &load) {
    if (closing.tokens == 0) return;
    fold_segment(*kind_, closing, tile(sums_), tile(rest_), load, [&] { commit(); });
  }

  // M += weight * M', z += weight * z', where M' and z' are of `other`, a memory of the same kind and shape (else
  // INVALID_ARGUMENT). A Linear memory of two streams becomes, with weight 1, what one would be that had read both, in
  // any order. memory/delta.h says what it means for Delta.
  void merge(const Memory &other, float weight);

  int key_size() const { return key_size_; }
  int value_size() const { return value_size_; }
  int64_t value_stride() const { return round_up(value_size_, kPanel); }  // floats of a row of values
  float matrix(int64_t i, int64_t j) const { return sums_[index(i, j)]; }
  float normaliser(int64_t i) const { return sums_[normaliser_index() + i]; }
  // M row by row, then z, then what rounding left of each, in stretches: f(floats, count). This is also how a snapshot
  // holds a memory.
  template <class Visit>
  void visit(const Visit &f) {
    each_stretch(*this, f);
  }
  template <class Visit>
  void visit(const Visit &f) const {
    each_stretch(*this, f);
  }
  int64_t bytes() const { return static_cast<int64_t>(sums_.bytes() + rest_.bytes()); }

 private:
  int64_t index(int64_t i, int64_t j) const {
    return panel_begin(j, panel_size(key_size_)) + panel_offset<float>(i, j % kPanel);
  }
  int64_t normaliser_index() const { return value_stride() * key_size_; }
  template <class Self, class Visit>
  static void each_stretch(Self &self, const Visit &f);
  MemoryTile tile(Buffer<float> &numbers) { return {numbers.data(), key_size_, value_size_}; }
  void commit();

  const MemoryKind *kind_ = nullptr;
  int key_size_ = 0, value_size_ = 0;
  Buffer<float> sums_;  // M and z, as MemoryTile has them
  Buffer<float> rest_;  // what rounding left of them, and the piece that is being folded
};

template <class Self, class Visit>
void Memory::each_stretch(Self &self, const Visit &f) {
  if (!self) return;
  const int64_t keys = self.key_size_, values = self.value_size_;
  for (auto *const numbers : {&self.sums_, &self.rest_}) {
    if (values == kPanel) {  // its rows are contiguous
      f(numbers->data(), panel_size(keys));
    } else {
      for (int64_t i = 0; i < keys; ++i)
        for (int64_t j = 0; j < values; j += kPanel)
          f(numbers->data() + self.index(i, j), std::min<int64_t>(kPanel, values - j));
    }
    f(numbers->data() + self.normaliser_index(), keys);
  }
}

}  // namespace infini
