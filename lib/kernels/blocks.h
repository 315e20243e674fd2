// Weights in blocks of few bits: how they lie in memory, and their products. A file's blocks are kept at their bits, in
// strips of 16 columns, so that one load serves as many columns as a vector has lanes:
//
//   strip   the units of 16 columns, one below the other along k
//   unit    64 rows (types whose blocks are of 32) or 256 (those of 256): its scales, then its blocks
//   block   32 rows of 16 columns: 64 bytes a bit of a weight. Four rows of a column are neighbours ("a quad").
//           8 bits: quads 0 to 7. 4 bits: in the low nibbles quads 0 to 3, in the high ones 4 to 7. 2 bits: even quads,
//           then odd ones, four to a byte; 1 bit: eight. Five bits are a plane of four and one of one, and so on.
//
// A weight is scale * (q - offset) + minimum, exactly as the file's format defines it, where q is the number in the
// block, or what the table of its type has for it. Columns past the last and rows past k are zero.
#pragma once

#include <cstdint>

namespace infini {

enum class BlockType : uint8_t { Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS };
constexpr int kBlockTypes = 12;

constexpr int kStrip = 16;         // columns
constexpr int kBlock = 32;         // rows
constexpr int kLargestUnit = 256;  // rows

struct BlockSpec {
  int bits;      // of a weight
  int rows;      // that share a scale: 16 or 32
  bool nested;   // a half for 256 rows and a small whole number for `rows` of them, whose product is the scale
  bool minimum;  // else zero
  int offset;    // once q has gone through the table, where there is one
  bool table;

  constexpr int unit() const { return nested ? kLargestUnit : 2 * kBlock; }
  constexpr int scales() const { return unit() / rows; }
  constexpr int parts() const { return kBlock / rows; }  // of a block
  // Scales of two bits share a byte with their minima.
  constexpr bool shared() const { return nested && minimum && bits == 2; }
  // Halves of the scales, then of the minima; where nested, the whole numbers of both.
  constexpr int head_bytes() const {
    const int parts = 1 + minimum;
    return nested ? scale_at(scales() * (shared() ? 1 : parts), 0) : half_at(2 * parts, 0);
  }
  // Where they stand in a unit, in bytes, of a column: a half (the scales of its two blocks, or where nested the unit's
  // own, and then the minima), and the whole numbers of a part.
  static constexpr int half_at(int index, int column) { return 2 * (index * kStrip + column); }
  constexpr int first_minimum() const { return nested ? 1 : 2; }  // index of its half
  static constexpr int scale_at(int part, int column) { return half_at(2, 0) + part * kStrip + column; }
  constexpr int minimum_at(int part, int column) const { return scale_at(scales() + part, column); }
  constexpr int block_bytes() const { return bits * kBlock * kStrip / 8; }
  constexpr int unit_bytes() const { return head_bytes() + unit() / kBlock * block_bytes(); }
};

constexpr BlockSpec kBlockSpecs[kBlockTypes] = {
    {8, 32, false, false, 128, false},  // Q8_0
    {4, 32, false, false, 8, false},    // Q4_0
    {4, 32, false, true, 0, false},     // Q4_1
    {5, 32, false, false, 16, false},   // Q5_0
    {5, 32, false, true, 0, false},     // Q5_1
    {4, 32, false, false, 128, true},   // IQ4_NL
    {2, 16, true, true, 0, false},      // Q2_K
    {3, 16, true, false, 4, false},     // Q3_K
    {4, 32, true, true, 0, false},      // Q4_K
    {5, 32, true, true, 0, false},      // Q5_K
    {6, 16, true, false, 32, false},    // Q6_K
    {4, 32, true, false, 128, true},    // IQ4_XS
};
constexpr const BlockSpec &spec_of(BlockType type) { return kBlockSpecs[static_cast<int>(type)]; }

// f.operator()<type>(), for code that is compiled once for each type.
template <class Function>
void for_block_type(BlockType type, const Function &f) {
  switch (type) {
#define INFINI_CASE(TYPE) \
  case BlockType::TYPE: return f.template operator()<BlockType::TYPE>();
    INFINI_CASE(Q8_0)
    INFINI_CASE(Q4_0)
    INFINI_CASE(Q4_1)
    INFINI_CASE(Q5_0)
    INFINI_CASE(Q5_1)
    INFINI_CASE(IQ4_NL)
    INFINI_CASE(Q2_K)
    INFINI_CASE(Q3_K)
    INFINI_CASE(Q4_K)
    INFINI_CASE(Q5_K)
    INFINI_CASE(Q6_K)
    INFINI_CASE(IQ4_XS)
#undef INFINI_CASE
  }
}

// What four bits stand for in IQ4_NL and IQ4_XS, plus 128.
constexpr uint8_t kBlockTable[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

constexpr int64_t strip_bytes(BlockType type, int64_t k) {
  const BlockSpec &spec = spec_of(type);
  return (k + spec.unit() - 1) / spec.unit() * spec.unit_bytes();
}

// From the first strip of a matrix of k rows to that of column j, in bytes.
constexpr int64_t strip_begin(BlockType type, int64_t k, int64_t j) { return j / kStrip * strip_bytes(type, k); }

// A unit of one column, taken apart.
struct BlockParts {
  uint8_t quants[kLargestUnit];      // q, before the table
  uint16_t scale[2], minimum[2];     // halves; where nested, of the unit alone, and the minimum is subtracted
  int8_t scales[kLargestUnit / 16];  // whole numbers where nested
  uint8_t minimums[kLargestUnit / 16];
};

// Writes a unit of a strip.
void pack_unit(BlockType type, const BlockParts columns[kStrip], uint8_t *unit);

// Rows of a product in int8, each with a scale a block: x = scale * value. They lie as a product reads them, from one
// end to the other: in groups of kRowGroup, or each by itself, and of a group part below part, where a part shares a
// weight's scale. A part holds the values of each of its rows; each row's scale, a float; and a number of each row: of
// types with a minimum the sum of the values times their scale, a float, else -offset times that sum, an int32.
// Padding, up to whole units, is zero.
constexpr int kRowGroup = 8;
constexpr int kFewRows = 4;  // up to so many are sooner done each by itself
constexpr int row_part_bytes(const BlockSpec &spec, int group) { return group * (spec.rows + 4 + 4); }
struct BlockRows {
  const uint8_t *data;
  int group;  // kRowGroup or 1
};
// Bytes that `rows` rows of k numbers take.
constexpr int64_t block_rows_bytes(BlockType type, int64_t k, int64_t rows, int group) {
  const BlockSpec &spec = spec_of(type);
  return (rows + group - 1) / group * ((k + spec.unit() - 1) / spec.unit() * spec.scales()) *
         row_part_bytes(spec, group);
}
// Quantises `k` floats, as row number `row` of `rows`, for weights of a type. Values are rounded to -127 to 127.
void quantize_row(BlockType type, const float *x, int64_t k, int64_t row, int group, uint8_t *rows);

// c[r, j] (+)= sum_i x[r, i] * b[i, j] for columns [begin, end) of B, where begin is a multiple of 16. Products of a
// block are summed as whole numbers, blocks in order in f32: a row of C depends on its row of X alone.
void block_product(BlockType type, const BlockRows &x, int64_t rows, const uint8_t *strips, int64_t k, int64_t begin,
                   int64_t end, float *c, int64_t c_row, bool accumulate);

// Rows [begin, end) of a strip, as 16 columns of a panel (panel_product): f32, or rounded to bf16. Both are
// multiples of a unit, or end is k rounded up to one. `to` is where row `begin` stands in the panel.
void unpack_strip(BlockType type, const uint8_t *strip, int64_t begin, int64_t end, float *to);
void unpack_strip(BlockType type, const uint8_t *strip, int64_t begin, int64_t end, uint16_t *to);
// The first k numbers of one of the strip's columns.
void unpack_strip_column(BlockType type, const uint8_t *strip, int64_t k, int column, float *to);

}  // namespace infini
