#include "model/packing.h"

#include <algorithm>
#include <numeric>

#include "base/parallel.h"
#include "format/quantize.h"
#include "gemm/choose.h"
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
void fill_blocks(const Threads &threads, const std::vector<TensorPart> &parts, TensorType type, const Gguf &gguf,
                 BlockMatrix &matrix) {
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

// What a tensor's rows are kept as, where not as floats.
std::optional<TensorType> kept_type(const Options &options, const GgufTensor &tensor, bool output) {
  const std::string &asked = options.get_string("weights");
  TensorType type = tensor.type;
  if (const auto named = tensor_type_of(asked))
    type = output ? type_for_output(*named, tensor.shape[0]) : type_for_rows(*named, tensor.shape[0]);
  else if (asked != "file") return std::nullopt;
  return keeps_blocks(Cpu::here()) && block_type(type) ? std::optional(type) : std::nullopt;
}

}  // namespace

void lay_out(Packing &packing, const Options &options, NumberType floats) {
  // Pieces begin at whole panels; where kinds change elsewhere, everything becomes floats.
  std::vector<Packing::Piece> &pieces = packing.pieces;
  std::vector<int64_t> columns;
  bool whole = true;
  for (const TensorPart &part : packing.parts) {
    const auto type = kept_type(options, *part.tensor, packing.output);
    if (pieces.empty() || type != pieces.back().blocks) {
      whole = whole && (columns.empty() || columns.back() % kPanel == 0);
      pieces.push_back({{}, type}), columns.push_back(0);
    }
    pieces.back().parts.push_back(part);
    columns.back() += part.rows;
  }
  if (!whole) {
    pieces = {{packing.parts, std::nullopt}};
    columns = {std::accumulate(columns.begin(), columns.end(), int64_t{0})};
  }
  const int64_t k = packing.parts[0].tensor->shape[0];
  int64_t first = 0;
  for (size_t i = 0; i < pieces.size(); first += columns[i++]) {
    WeightMatrix::Piece piece;
    piece.first = first;
    if (pieces[i].blocks) piece.blocks = BlockMatrix(*block_type(*pieces[i].blocks), k, columns[i]);
    else piece.floats = PackedMatrix(floats, k, columns[i]);
    packing.matrix->pieces.push_back(std::move(piece));
  }
}

void fill(const Threads &threads, const Packing &packing, const Gguf &gguf) {
  for (size_t i = 0; i < packing.pieces.size(); ++i) {
    const auto &[parts, blocks] = packing.pieces[i];
    WeightMatrix::Piece &piece = packing.matrix->pieces[i];
    if (blocks) fill_blocks(threads, parts, *blocks, gguf, piece.blocks);
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
  const NumberType type = piece.floats.panels().type;
  const bool exact =
      type == NumberType::F32 ? tensor_layout(tensor.type)->block_elements == 1 : tensor.type == TensorType::BF16;
  for (int64_t i = 0; exact && i < piece.floats.k(); ++i) values[i] = piece.floats.at(i, column);
  return exact;
}

}  // namespace infini
