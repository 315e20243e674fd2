// Processes that train together, each of them a rank. The only thing that they exchange is a sum over all ranks, which
// the host computes by whatever it has: MPI, threads, sockets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "train/sequence.h"

namespace infini {

// Replaces each of `values` by its sum over all ranks, each of which calls it with equally many. Anything but 0: it
// failed.
using SumCallback = int (*)(void *user_data, float *values, size_t n_values);

class Ranks {
 public:
  static constexpr int kMost = 1 << 16;

  Ranks() = default;  // one process alone, which never sums
  // INVALID_ARGUMENT for a rank that is none of `count`.
  Ranks(int rank, int count, SumCallback callback, void *user_data);

  int rank() const { return rank_; }
  int count() const { return count_; }
  bool alone() const { return count_ == 1; }

  // Which of so many items are this rank's: from first to second - 1. No rank has two more than another.
  std::pair<int64_t, int64_t> share(int64_t items) const;
  // IO where the callback fails.
  void sum(std::span<float> values) const;
  // The words of all ranks, rank by rank, to the bit. IO where the callback fails, or did not give the sums.
  std::vector<uint64_t> gather(std::span<const uint64_t> words) const;

 private:
  int rank_ = 0, count_ = 1;
  SumCallback callback_ = nullptr;
  void *user_data_ = nullptr;
};

// Of all that ranks must read alike. One that is alone has nobody to compare it with, and computes none.
class ReadChecksum {
 public:
  ReadChecksum(const Ranks &ranks, int segment);
  void add(const Sequence &sequence);
  uint64_t value() const { return sum_.value(); }

 private:
  const bool alone_;
  StreamChecksum sum_;
};

}  // namespace infini
