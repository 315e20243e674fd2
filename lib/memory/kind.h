// What a compressive memory does, one KV head at a time: the features of keys and queries, how a query reads it (7),
// and how a closing segment is folded into it (8, 9), each with its gradient beside it. Inference and training call the
// same kind; fold.h takes a segment through it. A kind is one file beside this one, and knows no state but constants.
//
// M [keys][values] stands in panels, z [keys] behind it. Gradients are of a loss; d before a name is what the loss's
// gradient with respect to it is called.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "kernels/tile.h"

namespace infini {

// A memory, or a sum or a gradient of the same shape. `values` may be 0: z alone.
template <class Number>
struct MemoryTileOf {
  Number *data;
  int64_t keys, values;

  static int64_t size(int64_t keys, int64_t values) { return tile_size(keys, values) + keys; }
  int64_t size() const { return size(keys, values); }
  TileOf<Number> matrix() const { return {data, keys}; }
  Number *normaliser() const { return data + tile_size(keys, values); }
  MemoryTileOf z() const { return {normaliser(), keys, 0}; }
  operator MemoryTileOf<const Number>() const { return {data, keys, values}; }
};
using MemoryTile = MemoryTileOf<float>;
using ConstMemoryTile = MemoryTileOf<const float>;

// M and z of one KV head, in numbers, the padding of panels aside.
constexpr int64_t memory_numbers(int64_t keys, int64_t values) { return keys * (values + 1); }

// The memory before a piece of a segment is added to it.
struct MemoryBefore {
  ConstMemoryTile memory;
  int64_t held;  // tokens that were folded into it; 0: it is empty
  float epsilon;
};

// Some tokens of a piece.
struct FoldRows {
  int64_t count;
  Tile sigma;          // [count][keys]: features of the keys
  Tile values;         // [count][values]; a kind may replace them by what it stores of them
  Tile known;          // [count][values], numbers for the kind
  float *denominator;  // [count], numbers for the kind
};

class MemoryKind {
 public:
  virtual ~MemoryKind() = default;
  // In the key infini.memory.update, the option `update` and snapshots.
  virtual const char *name() const = 0;

  // sigma(x) = ELU(x) + 1, unless a kind has its own.
  virtual void feature(const float *x, int64_t n, float *sigma) const { elu_plus_one(x, n, sigma); }
  // dx += dsigma * sigma'(x)
  virtual void feature_gradient(const float *sigma, const float *dsigma, int64_t n, float *dx) const {
    add_elu_gradient(sigma, dsigma, n, dx);
  }

  // (7) without the division: numerator [rows][values], denominator [rows]. The denominator is linear in z, but for
  // epsilon, which is added: so supervision knows a token's share of a retrieval, by reading a z of that token alone.
  virtual void read(const ConstMemoryTile &memory, const ConstTile &sigma, int64_t rows, float epsilon,
                    const Tile &numerator, float *denominator) const = 0;
  // Adds to dsigma and dmemory what dnumerator and ddenominator give them. transposed: the transpose of M.
  virtual void read_gradient(const ConstMemoryTile &memory, const ConstTile &transposed, const ConstTile &sigma,
                             int64_t rows, const ConstTile &dnumerator, const float *ddenominator, const Tile &dsigma,
                             const MemoryTile &dmemory) const = 0;

  // What a memory loses when a segment closes, before the segment is added: a linear map of M and z; here nothing.
  virtual void decay(const MemoryTile &) const {}
  // Its transpose.
  virtual void decay_gradient(const MemoryTile &) const {}
  // A segment goes into a memory that holds `held` tokens in pieces of at most so many tokens, at least 1.
  virtual int64_t longest_piece(int64_t) const { return std::numeric_limits<int64_t>::max(); }
  // Whether what a piece adds depends on the memory before it: else gather() and its gradient do not read that.
  virtual bool compares(int64_t held) const = 0;
  // Adds to `sums` what some tokens of a piece are to add to the memory. What z gains depends on these tokens alone.
  virtual void gather(const MemoryBefore &before, const FoldRows &rows, const MemoryTile &sums) const = 0;
  // The memory gains weight * sums, and its gradient is dsums. Writes the gradients of features and values, dsigma and
  // dvalues, and adds to dbefore that of the memory before the piece, where compares(). transposed_sums: the transpose
  // of the matrix of dsums; transposed_before: that of the memory before.
  virtual void gather_gradient(const MemoryBefore &before, const ConstTile &transposed_before, const FoldRows &rows,
                               float weight, const ConstMemoryTile &dsums, const ConstTile &transposed_sums,
                               const Tile &dsigma, const Tile &dvalues, const MemoryTile &dbefore) const = 0;
};

// The kinds that the library knows: those of the files beside this one, which stand here and in the list of kinds.cc,
// and those that were added.
const MemoryKind &linear_memory();
const MemoryKind &delta_memory();
const MemoryKind &default_memory();                           // where nothing else is said,
inline constexpr double kMemoryEpsilon = 1e-6;                // as here, of what is added to the denominator of (7)
const MemoryKind *find_memory_kind(const std::string &name);  // nullptr: none has it
std::vector<std::string> memory_kind_names();
std::string memory_kind_choices();  // "linear|delta"
// For the rest of the process; `kind` must live as long.
void add_memory_kind(const MemoryKind &kind);

}  // namespace infini
