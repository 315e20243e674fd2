#include "memory/linear.h"

namespace infini {

// (7)
void LinearMemory::read(const ConstMemoryTile &memory, const ConstTile &sigma, int64_t rows, float epsilon,
                        const Tile &numerator, float *denominator) const {
  product(sigma, rows, memory.keys, memory.matrix(), memory.values, numerator, false);
  for (int64_t r = 0; r < rows; ++r) denominator[r] = dot_row(sigma, r, memory.normaliser(), memory.keys) + epsilon;
}

void LinearMemory::read_gradient(const ConstMemoryTile &memory, const ConstTile &transposed, const ConstTile &sigma,
                                 int64_t rows, const ConstTile &dnumerator, const float *ddenominator,
                                 const Tile &dsigma, const MemoryTile &dmemory) const {
  for (int64_t r = 0; r < rows; ++r) {
    add_to_row(memory.normaliser(), ddenominator[r], memory.keys, dsigma, r);
    add_row(sigma, r, ddenominator[r], memory.keys, dmemory.normaliser());
  }
  product(dnumerator, rows, memory.values, transposed, memory.keys, dsigma, true);
  product_transposed(sigma, rows, memory.keys, dnumerator, memory.values, dmemory.matrix(), true);
}

// (8)
void LinearMemory::gather(const MemoryBefore &, const FoldRows &rows, const MemoryTile &sums) const {
  product_transposed(rows.sigma, rows.count, sums.keys, rows.values, sums.values, sums.matrix(), true);
  for (int64_t t = 0; t < rows.count; ++t) add_row(rows.sigma, t, 1, sums.keys, sums.normaliser());
}

void LinearMemory::gather_gradient(const MemoryBefore &, const ConstTile &, const FoldRows &rows, float weight,
                                   const ConstMemoryTile &dsums, const ConstTile &transposed_sums, const Tile &dsigma,
                                   const Tile &dvalues, const MemoryTile &) const {
  const auto weigh = [weight](const Tile &tile, int64_t t, int64_t columns) {
    each_stretch(tile, columns,
                 [&](int64_t p, int64_t n) { mix(tile.row(p, t), weight, tile.row(p, t), 0, n, tile.row(p, t)); });
  };
  clear_rows(dsigma, rows.count, dsums.keys);
  product(rows.values, rows.count, dsums.values, transposed_sums, dsums.keys, dsigma, true);
  product(rows.sigma, rows.count, dsums.keys, dsums.matrix(), dsums.values, dvalues, false);
  for (int64_t t = 0; t < rows.count; ++t) {
    add_to_row(dsums.normaliser(), 1, dsums.keys, dsigma, t);
    if (weight == 1) continue;
    weigh(dsigma, t, dsums.keys);
    weigh(dvalues, t, dsums.values);
  }
}

const MemoryKind &linear_memory() {
  static const auto &kind = *new LinearMemory;  // never destroyed: a thread may be at work when the process ends
  return kind;
}

}  // namespace infini
