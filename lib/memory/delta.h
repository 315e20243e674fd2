// The Delta memory: a Linear one that stores of a value only what it would not have answered to its key.
//
// Read as a Linear one. Merging two (Memory::merge) adds what each stored: retrieval from the sum is the mean of their
// answers, each weighed by its own denominator. That is not what one memory would hold that had read both streams, as
// it is for Linear, because neither took off what the other knows: what stands in both streams counts twice.
#pragma once

#include "memory/linear.h"

namespace infini {

class DeltaMemory : public LinearMemory {
 public:
  const char *name() const override { return "delta"; }
  // A segment much longer than all that the memory holds would overshoot; an empty memory takes all as a Linear one.
  int64_t longest_piece(int64_t held) const override;
  bool compares(int64_t held) const override { return held > 0; }
  void gather(const MemoryBefore &before, const FoldRows &rows, const MemoryTile &sums) const override;
  void gather_gradient(const MemoryBefore &before, const ConstTile &transposed_before, const FoldRows &rows,
                       float weight, const ConstMemoryTile &dsums, const ConstTile &transposed_sums, const Tile &dsigma,
                       const Tile &dvalues, const MemoryTile &dbefore) const override;

 private:
  void subtract_known(const MemoryBefore &before, const FoldRows &rows) const;
};

}  // namespace infini
