// The Linear memory: M and z are sums over all tokens that were folded, which a query reads as linear attention does.
#pragma once

#include "memory/kind.h"

namespace infini {

class LinearMemory : public MemoryKind {
 public:
  const char *name() const override { return "linear"; }
  void read(const ConstMemoryTile &memory, const ConstTile &sigma, int64_t rows, float epsilon, const Tile &numerator,
            float *denominator) const override;
  void read_gradient(const ConstMemoryTile &memory, const ConstTile &transposed, const ConstTile &sigma, int64_t rows,
                     const ConstTile &dnumerator, const float *ddenominator, const Tile &dsigma,
                     const MemoryTile &dmemory) const override;
  bool compares(int64_t) const override { return false; }
  void gather(const MemoryBefore &before, const FoldRows &rows, const MemoryTile &sums) const override;
  void gather_gradient(const MemoryBefore &before, const ConstTile &transposed_before, const FoldRows &rows,
                       float weight, const ConstMemoryTile &dsums, const ConstTile &transposed_sums, const Tile &dsigma,
                       const Tile &dvalues, const MemoryTile &dbefore) const override;
};

}  // namespace infini
