// How a closing segment is folded into a memory, and the way back: in pieces, as the kind says (kind.h), each of which
// goes through the products some tokens at a time. Inference and training do both by these two functions.
#pragma once

#include "memory/kind.h"

namespace infini {

// A segment that closes.
struct ClosingTokens {
  int64_t tokens;
  int64_t held;      // by the memory, before them
  int64_t together;  // tokens that go through the products together
  float epsilon;
};

// load(first, count) gives tokens of the segment as FoldRows. Each piece is gathered in `sums`, which commit() adds to
// the memory and leaves ready for the next piece.
template <class Load, class Commit>
void fold_segment(const MemoryKind &kind, const ClosingTokens &closing, const MemoryTile &memory,
                  const MemoryTile &sums, const Load &load, const Commit &commit) {
  kind.decay(memory);
  kind.decay(sums);
  int64_t held = closing.held;
  for (int64_t done = 0; done < closing.tokens;) {
    const int64_t piece = std::min(closing.tokens - done, kind.longest_piece(held));
    for (const int64_t end = done + piece; done < end;) {
      const FoldRows rows = load(done, std::min(closing.together, end - done));
      kind.gather({memory, held, closing.epsilon}, rows, sums);
      done += rows.count;
    }
    commit();
    held += piece;
  }
}

// What fold_gradient() computes in.
struct FoldScratch {
  MemoryTile before, sums;             // the memory before a piece, and what pieces add to it or to its gradient
  Tile transposed_before, transposed;  // transposes of the matrices of `before` and of the gradient
  Tile dsigma, dvalues;                // [together][...]
};

// memory = what stood before the segment, which is not read where nothing is held, plus `weight` times what the segment
// adds. sums: numbers to compute in.
template <class Load>
void fold_weighted(const MemoryKind &kind, const ClosingTokens &closing, float weight, const ConstMemoryTile &before,
                   const MemoryTile &memory, const MemoryTile &sums, const Load &load) {
  if (closing.held == 0) std::fill_n(memory.data, memory.size(), 0.0f);
  else std::copy_n(before.data, before.size(), memory.data);
  std::fill_n(sums.data, sums.size(), 0.0f);
  fold_segment(kind, closing, memory, sums, load, [&] {
    add_scaled(sums.data, weight, sums.size(), memory.data);
    std::fill_n(sums.data, sums.size(), 0.0f);
  });
}

// The way back of fold_weighted(): `dmemory`, the gradient of the memory after the segment, becomes that of the memory
// before it. store(first, rows) takes the gradients of some tokens from scratch.dsigma and scratch.dvalues.
template <class Load, class Store>
void fold_gradient(const MemoryKind &kind, const ClosingTokens &closing, float weight, const ConstMemoryTile &before,
                   const MemoryTile &dmemory, const FoldScratch &scratch, const Load &load, const Store &store) {
  const int64_t keys = dmemory.keys, values = dmemory.values;
  std::vector<int64_t> ends;  // of pieces: one, unless a segment that was closed early was short
  for (int64_t done = 0, held = closing.held; done < closing.tokens; held = closing.held + done)
    ends.push_back(done += std::min(closing.tokens - done, kind.longest_piece(held)));
  for (size_t i = ends.size(); i-- > 0;) {
    const int64_t begin = i == 0 ? 0 : ends[i - 1], held = closing.held + begin;
    const bool compares = kind.compares(held);
    if (compares) {
      fold_weighted(kind, {begin, closing.held, closing.together, closing.epsilon}, weight, before, scratch.before,
                    scratch.sums, load);
      transpose(scratch.before.matrix(), keys, values, scratch.transposed_before);
      std::fill_n(scratch.sums.data, scratch.sums.size(), 0.0f);  // dbefore: joins dmemory behind the piece
    }
    transpose(dmemory.matrix(), keys, values, scratch.transposed);
    for (int64_t done = begin; done < ends[i];) {
      const FoldRows rows = load(done, std::min(closing.together, ends[i] - done));
      kind.gather_gradient({scratch.before, held, closing.epsilon}, scratch.transposed_before, rows, weight, dmemory,
                           scratch.transposed, scratch.dsigma, scratch.dvalues, scratch.sums);
      store(done, rows);
      done += rows.count;
    }
    if (compares) add_scaled(scratch.sums.data, 1, dmemory.size(), dmemory.data);
  }
  kind.decay_gradient(dmemory);
}

}  // namespace infini
