// A model's weights [k, n] as they are kept: in one format, or some columns in one and some in another.
#pragma once

#include <vector>

#include "gemm/gemm.h"
#include "kernels/blocks.h"

namespace infini {

class BlockMatrix {
 public:
  BlockMatrix() = default;
  BlockMatrix(BlockType type, int64_t k, int64_t n)
      : type_(type), k_(k), n_(n), data_(strip_begin(type, k, round_up(n, kStrip))) {}
  BlockType type() const { return type_; }
  int64_t k() const { return k_; }
  int64_t n() const { return n_; }
  int64_t bytes() const { return static_cast<int64_t>(data_.bytes()); }
  // The strip that holds the column, which is its column % kStrip.
  uint8_t *strip_of(int64_t column) { return data_.data() + strip_begin(type_, k_, column); }
  const uint8_t *strip_of(int64_t column) const { return data_.data() + strip_begin(type_, k_, column); }

 private:
  BlockType type_ = BlockType::Q8_0;
  int64_t k_ = 0, n_ = 0;
  Buffer<uint8_t> data_;
};

// What an adapter adds to a matrix's products: (a down) up, of a rank that is small beside both sides.
struct LowRank {
  PackedMatrix down, up;  // [k, rank]; [rank, n], f32
  explicit operator bool() const { return down.n() > 0; }
  int64_t bytes() const { return down.bytes() + up.bytes(); }
};

struct WeightMatrix {
  struct Piece {
    int64_t first = 0;  // column, a multiple of 64
    PackedMatrix floats;
    BlockMatrix blocks;  // where k is not zero
    Piece() = default;
    Piece(int64_t begin, const WeightFormat &format, int64_t k, int64_t n) : first(begin) {
      if (const auto *type = std::get_if<BlockType>(&format)) blocks = BlockMatrix(*type, k, n);
      else floats = PackedMatrix(std::get<NumberType>(format), k, n);
    }
    bool in_blocks() const { return blocks.k() > 0; }
    int64_t columns() const { return in_blocks() ? blocks.n() : floats.n(); }
    int64_t bytes() const { return in_blocks() ? blocks.bytes() : floats.bytes(); }
  };
  std::vector<Piece> pieces;
  LowRank low_rank;
  int64_t n() const { return pieces.empty() ? 0 : pieces.back().first + pieces.back().columns(); }
  int64_t bytes() const {
    int64_t total = low_rank.bytes();
    for (const Piece &piece : pieces) total += piece.bytes();
    return total;
  }
};

// As Gemm::multiply, with pieces in blocks by `compute`; a's rows may be of either type.
void multiply(const Threads &threads, const Gemm &gemm, Compute compute, const ConstRows &a, int64_t rows,
              const WeightMatrix &b, float *c, int64_t c_row, bool accumulate, bool exact);

}  // namespace infini
