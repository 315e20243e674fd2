#include "memory/delta.h"

namespace infini {

int64_t DeltaMemory::longest_piece(int64_t held) const { return held > 0 ? held : LinearMemory::longest_piece(held); }

// V - sigma(K) M / (sigma(K) z) in place of V. What is known stays, without the division.
void DeltaMemory::subtract_known(const MemoryBefore &before, const FoldRows &rows) const {
  read(before.memory, rows.sigma, rows.count, before.epsilon, rows.known, rows.denominator);
  for (int64_t t = 0; t < rows.count; ++t)
    each_panel(before.memory.values, [&](int64_t p, int64_t n) {
      add_scaled(rows.known.row(p, t), -1 / rows.denominator[t], n, rows.values.row(p, t));
    });
}

// (9): (8) with what is new of V.
void DeltaMemory::gather(const MemoryBefore &before, const FoldRows &rows, const MemoryTile &sums) const {
  if (compares(before.held) && sums.values > 0) subtract_known(before, rows);
  LinearMemory::gather(before, rows, sums);
}

void DeltaMemory::gather_gradient(const MemoryBefore &before, const ConstTile &transposed_before, const FoldRows &rows,
                                  float weight, const ConstMemoryTile &dsums, const ConstTile &transposed_sums,
                                  const Tile &dsigma, const Tile &dvalues, const MemoryTile &dbefore) const {
  const bool known = compares(before.held) && dsums.values > 0;
  if (known) subtract_known(before, rows);
  LinearMemory::gather_gradient(before, transposed_before, rows, weight, dsums, transposed_sums, dsigma, dvalues,
                                dbefore);
  if (!known) return;
  // What is known was subtracted: known = numerator / denominator, which their gradients now overwrite.
  for (int64_t t = 0; t < rows.count; ++t) {
    const float scale = -1 / rows.denominator[t];
    float along = 0;  // dknown . known
    each_panel(dsums.values, [&](int64_t p, int64_t n) {
      float *const numerator = rows.known.row(p, t);
      const float *const dnovel = dvalues.row(p, t);
      along += scale * dot(dnovel, numerator, n);
      mix(dnovel, scale, dnovel, 0, n, numerator);
    });
    rows.denominator[t] = scale * along;
  }
  read_gradient(before.memory, transposed_before, rows.sigma, rows.count, rows.known, rows.denominator, dsigma,
                dbefore);
}

const MemoryKind &delta_memory() {
  static const auto &kind = *new DeltaMemory;  // never destroyed: a thread may be at work when the process ends
  return kind;
}

}  // namespace infini
