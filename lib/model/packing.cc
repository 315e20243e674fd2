#include "model/packing.h"

#include <algorithm>

#include "base/parallel.h"
#include "format/quantize.h"
#include "kernels/gradients.h"

namespace infini {
namespace {

// f(part, its first row, how many) for the rows that are columns [begin, end), in order.
template <class Function>
void each_part(const std::vector<TensorPart> &parts, int64_t begin, int64_t end, const Function &f) {
  int64_t first = 0;
  for (const TensorPart &part : parts) {
    const int64_t from = std::max(begin, first), to = std::min(end, first + part.rows);
    if (from < to) f(part, from - first, to - from);
    first += part.rows;
  }
}

int64_t row_bytes(const GgufTensor &tensor) { return tensor_layout(tensor.type)->bytes(tensor.shape[0]); }

// Where a row of the part begins.
const std::byte *row_of(const TensorPart &part, int64_t row) {
  return part.tensor->data.data() + (part.first + row) * row_bytes(*part.tensor);
}

// body(begin, end) for the columns of a matrix, in stretches of whole groups of `group` that the threads share; what a
// stretch has read is released.
template <class Body>
void each_stretch(const Threads &threads, const std::vector<TensorPart> &parts, const Gguf &gguf, int64_t columns,
                  int64_t group, const Body &body) {
  constexpr int64_t kMost = 1 << 20;  // bytes of the file that a thread reads before it releases them
  const int64_t groups = round_up(columns, group) / group, bytes = row_bytes(*parts[0].tensor) * group;
  const int64_t stretch = std::clamp<int64_t>(groups / (4 * threads.count()), 1, std::max<int64_t>(1, kMost / bytes));
  parallel_items(threads, (groups + stretch - 1) / stretch, worth_threads(), [&](int64_t item) {
    const int64_t begin = item * stretch * group, end = std::min(columns, begin + stretch * group);
    body(begin, end);
    each_part(parts, begin, end, [&](const TensorPart &part, int64_t row, int64_t rows) {
      gguf.release({row_of(part, row), static_cast<size_t>(rows * row_bytes(*part.tensor))});
    });
  });
  // Pages that two stretches share are left.
  for (const TensorPart &part : parts) gguf.release(part.tensor->data);
}

void fill_floats(const Threads &threads, const std::vector<TensorPart> &parts, const Gguf &gguf, PackedMatrix &matrix) {
  each_stretch(threads, parts, gguf, matrix.n(), kPanel, [&](int64_t begin, int64_t end) {
    Buffer<float> values(kPanel * matrix.k());
    for (int64_t first = begin; first < end; first += kPanel) {
      int64_t columns = 0;
      each_part(parts, first, std::min(end, first + kPanel), [&](const TensorPart &part, int64_t row, int64_t rows) {
        for (int64_t i = 0; i < rows; ++i, ++columns)
          unpack_row(part, row + i, matrix.k(), values.data() + columns * matrix.k());
      });
      matrix.set_panel(first / kPanel, values.data(), matrix.k(), columns);
    }
  });
}

// The file's blocks as they are, or, where those are of another type, made from its numbers.
void fill_blocks(const Threads &threads, const std::vector<TensorPart> &parts, const Gguf &gguf, BlockMatrix &matrix) {
  const TensorType type = tensor_type(matrix.type());
  const TensorLayout &layout = *tensor_layout(type);
  const BlockSpec &spec = spec_of(matrix.type());
  const int64_t blocks = matrix.k() / layout.block_elements, a_unit = spec.unit() / layout.block_elements,
                a_row = layout.bytes(matrix.k());
  each_stretch(threads, parts, gguf, matrix.n(), kStrip, [&](int64_t begin, int64_t end) {
    Buffer<float> values;
    Buffer<std::byte> made;
    for (int64_t first = begin; first < end; first += kStrip) {
      const std::byte *columns[kStrip] = {};
      int64_t count = 0;
      each_part(parts, first, std::min(end, first + kStrip), [&](const TensorPart &part, int64_t row, int64_t rows) {
        for (int64_t i = 0; i < rows; ++i, ++count) {
          columns[count] = row_of(part, row + i);
          if (part.tensor->type == type) continue;
          values.reserve(matrix.k());
          made.reserve(kStrip * a_row);
          std::byte *const to = made.data() + count * a_row;
          unpack_row(part, row + i, matrix.k(), values.data());
          quantize(type, values.data(), matrix.k(), to);
          columns[count] = to;
        }
      });
      bool good = true;
      uint8_t *to = matrix.strip_of(first);
      for (int64_t block = 0; block < blocks; block += a_unit, to += spec.unit_bytes()) {
        good = pack_unit(type, columns, blocks - block, to) && good;
        for (int64_t c = 0; c < count; ++c) columns[c] += a_unit * layout.block_bytes;
      }
      if (good) continue;
      values.reserve(matrix.k());
      each_part(parts, first, first + count, [&](const TensorPart &part, int64_t row, int64_t rows) {
        // Fails at the number that is not finite.
        for (int64_t i = 0; i < rows; ++i) unpack_row(part, row + i, matrix.k(), values.data());
      });
    }
  });
}

WeightFormat format_of(const GgufTensor &tensor, const Asked &asked, const ProductChoice &choice, bool output) {
  TensorType type = tensor.type;
  if (asked.weights) {
    const auto *const blocks = std::get_if<BlockType>(&*asked.weights);
    if (!blocks) return choice.floats;
    type = output ? type_for_output(tensor_type(*blocks), tensor.shape[0])
                  : type_for_rows(tensor_type(*blocks), tensor.shape[0]);
  }
  const std::optional<BlockType> blocks = block_type(type);
  return blocks ? choice.kept(*blocks) : choice.floats;
}

}  // namespace

void lay_out(Packing &packing, const Asked &asked, const ProductChoice &choice) {
  // Pieces begin at whole panels; where formats change elsewhere, everything becomes floats.
  std::vector<Packing::Piece> &pieces = packing.pieces;
  int64_t columns = 0;
  bool whole = true;
  for (const TensorPart &part : packing.parts) {
    const WeightFormat format = format_of(*part.tensor, asked, choice, packing.output);
    if (pieces.empty() || format != pieces.back().format) {
      whole = whole && columns % kPanel == 0;
      pieces.push_back({{}, format, 0});
    }
    pieces.back().parts.push_back(part);
    pieces.back().columns += part.rows;
    columns += part.rows;
  }
  if (!whole) pieces = {{packing.parts, choice.floats, columns}};
  const int64_t k = packing.parts[0].tensor->shape[0];
  int64_t first = 0;
  for (const Packing::Piece &piece : pieces) {
    packing.matrix->pieces.emplace_back(first, piece.format, k, piece.columns);
    first += piece.columns;
  }
}

void fill(const Threads &threads, const Packing &packing, const Gguf &gguf) {
  for (size_t i = 0; i < packing.pieces.size(); ++i) {
    const std::vector<TensorPart> &parts = packing.pieces[i].parts;
    WeightMatrix::Piece &piece = packing.matrix->pieces[i];
    if (piece.in_blocks()) fill_blocks(threads, parts, gguf, piece.blocks);
    else fill_floats(threads, parts, gguf, piece.floats);
  }
}

bool unpack_column(const WeightMatrix &matrix, const GgufTensor &tensor, int64_t column, float *values) {
  if (matrix.pieces.size() != 1) return false;
  const WeightMatrix::Piece &piece = matrix.pieces[0];
  if (piece.in_blocks()) {
    unpack_strip_column(piece.blocks.type(), piece.blocks.strip_of(column), piece.blocks.k(),
                        static_cast<int>(column % kStrip), values);
    return true;
  }
  const bool exact = piece.floats.type() == NumberType::F32 ? tensor_layout(tensor.type)->block_elements == 1
                                                            : tensor.type == TensorType::BF16;
  for (int64_t i = 0; exact && i < piece.floats.k(); ++i) values[i] = piece.floats.at(i, column);
  return exact;
}

}  // namespace infini
