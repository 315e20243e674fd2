// A window as snapshots hold it: rows of tokens, which no kernel's panels have a part in.
#include <algorithm>
#include <cstring>

#include "attention/window.h"
#include "kernels/gradients.h"

namespace infini {
namespace {

int64_t sinks_of(const AttentionShape &shape, const View &view) {
  return std::min<int64_t>(shape.sinks, view.position - view.origin);
}

// n numbers of one type as those of another. `from` lies anywhere in a file.
void convert(NumberType from_type, const char *from, NumberType to_type, char *to, int64_t n) {
  if (from_type == to_type) {
    if (n > 0) std::memcpy(to, from, static_cast<size_t>(n * bytes_of(to_type)));
    return;
  }
  constexpr int64_t kPiece = 512;
  float floats[kPiece];
  uint16_t halves[kPiece];
  for (int64_t i = 0; i < n; i += kPiece) {
    const int64_t count = std::min(kPiece, n - i);
    if (from_type == NumberType::BF16) {
      std::memcpy(halves, from + i * 2, static_cast<size_t>(count * 2));
      widen(halves, count, reinterpret_cast<float *>(to) + i);
    } else {
      std::memcpy(floats, from + i * 4, static_cast<size_t>(count * 4));
      narrow(floats, count, reinterpret_cast<uint16_t *>(to) + i);
    }
  }
}

void copy_floats(const char *from, int64_t n, float *to) {
  if (n > 0) std::memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
}

constexpr int64_t kCell = 4;  // bytes of a panel of keys: a number of f32, or two of bf16, one below the other

// Keys of tokens from panels [cells][64] that are `panel` bytes apart to rows of so many bytes, and back; 64 tokens and
// 64 cells at a time, which stay in the nearest cache. Of an odd number of bf16 the last stands in half a cell.
void keys_to_rows(const char *panels, int64_t panel, int64_t cells, int64_t tokens, int64_t row, char *to) {
  float turned[kPanel * kPanel];
  for (int64_t t = 0; t < tokens; t += kPanel, panels += panel) {
    const int64_t count = std::min<int64_t>(kPanel, tokens - t);
    for (int64_t first = 0; first < cells; first += kPanel) {
      const int64_t some = std::min<int64_t>(kPanel, cells - first), bytes = std::min(row, (first + some) * kCell);
      const auto *from = reinterpret_cast<const float *>(panels) + first * kPanel;
      pack_columns(from, kPanel, count, some, turned, kPanel * kPanel);
      for (int64_t i = 0; i < count; ++i)
        std::memcpy(to + (t + i) * row + first * kCell, turned + i * kPanel,
                    static_cast<size_t>(bytes - first * kCell));
    }
  }
}

void rows_to_keys(const char *from, int64_t row, int64_t tokens, int64_t cells, int64_t panel, char *panels) {
  float rows[kPanel * kPanel] = {};
  for (int64_t t = 0; t < tokens; t += kPanel, panels += panel) {
    const int64_t count = std::min<int64_t>(kPanel, tokens - t);
    for (int64_t first = 0; first < cells; first += kPanel) {
      const int64_t some = std::min<int64_t>(kPanel, cells - first), bytes = std::min(row, (first + some) * kCell);
      for (int64_t i = 0; i < count; ++i) {
        rows[i * kPanel + some - 1] = 0;
        std::memcpy(rows + i * kPanel, from + (t + i) * row + first * kCell,
                    static_cast<size_t>(bytes - first * kCell));
      }
      auto *to = reinterpret_cast<float *>(panels) + first * kPanel;
      pack_columns(rows, kPanel, some, count, to, kPanel * kPanel);
    }
  }
}

// `columns` of the values of tokens to a panel [tokens][64].
void rows_to_values(NumberType type, const char *from, int64_t row, int64_t tokens, int64_t columns, char *panel) {
  const int64_t bytes = columns * bytes_of(type);
  if (type == NumberType::F32) {
    for (int64_t t = 0; t < tokens; ++t)
      std::memcpy(panel + t * kPanel * 4, from + t * row, static_cast<size_t>(bytes));
    return;
  }
  uint16_t rows[kPanel * kPanel];
  for (int64_t t = 0; t < tokens; t += kPanel) {
    const int64_t count = std::min<int64_t>(kPanel, tokens - t);
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(rows + i * kPanel, from + (t + i) * row, static_cast<size_t>(bytes));
    pack_rows(rows, kPanel, count, columns, reinterpret_cast<uint16_t *>(panel) + t * kPanel, kPanel * kPanel);
  }
}

}  // namespace

int64_t Window::row_bytes(const View &asked, NumberType type) const {
  const View view = asked.through(shape_);
  const int64_t floats = sinks_of(shape_, view) * (shape_.key_size + shape_.value_size);
  int64_t total = 0;
  for (const Head &head : heads_) {
    const int64_t numbers = view.keys() * (shape_.key_size + shape_.value_size) +
                            (view.kept + (head.raw ? view.open() : 0)) * shape_.key_size;
    total += round_up(numbers * bytes_of(type), 4) + floats * 4;
  }
  return total;
}

void Window::to_rows(const View &asked, char *to) const {
  const View view = asked.through(shape_);
  const int64_t keys = view.keys(), bytes = bytes_of(shape_.type), key_row = shape_.key_size * bytes,
                value_row = shape_.value_size * bytes;
  for (const Head &head : heads_) {
    keys_to_rows(head.keys, kPanel * key_padded_ * bytes, key_cells(), keys, key_row, to);
    to += keys * key_row;
    for (int64_t first = 0; first < shape_.value_size; first += kPanel) {
      const auto columns = std::min<int64_t>(kPanel, shape_.value_size - first);
      const char *panel = head.values + first * capacity_ * bytes;
      if (shape_.type == NumberType::F32) {
        for (int64_t t = 0; t < keys; ++t)
          std::memcpy(to + t * value_row + first * 4, panel + t * kPanel * 4, static_cast<size_t>(columns * 4));
        continue;
      }
      unpack_rows(reinterpret_cast<const uint16_t *>(panel), keys, columns, reinterpret_cast<uint16_t *>(to) + first,
                  shape_.value_size);
    }
    to += keys * value_row;
    const auto copy = [&](const void *from, int64_t size) {
      if (size > 0) std::memcpy(to, from, static_cast<size_t>(size));
      to += size;
    };
    const int64_t raw = head.raw ? view.open() * key_row : 0, kept = view.kept * key_row;
    copy(head.raw, raw);
    copy(head.kept, kept);
    const int64_t all = keys * (key_row + value_row) + raw + kept, gap = round_up(all, 4) - all;
    to = std::fill_n(to, gap, '\0');
    copy(head.sink_keys, sinks_of(shape_, view) * shape_.key_size * 4);
    copy(head.sink_values, sinks_of(shape_, view) * shape_.value_size * 4);
  }
}

void Window::from_rows(const View &asked, NumberType type, const char *from) {
  const View view = asked.through(shape_);
  const int64_t keys = view.keys(), sinks = sinks_of(shape_, view), bytes = bytes_of(type);
  const int64_t key_row = shape_.key_size * bytes, value_row = shape_.value_size * bytes;
  std::vector<float> row(static_cast<size_t>(std::max(shape_.key_size, shape_.value_size)));
  const bool same = type == shape_.type;
  const auto floats = [&](const char *numbers, int64_t n) {
    convert(type, numbers, NumberType::F32, reinterpret_cast<char *>(row.data()), n);
    return row.data();
  };
  for (Head &head : heads_) {
    if (same) {
      rows_to_keys(from, key_row, keys, key_cells(), kPanel * key_padded_ * bytes, head.keys);
      for (int64_t first = 0; first < shape_.value_size; first += kPanel)
        rows_to_values(type, from + keys * key_row + first * bytes, value_row, keys,
                       std::min<int64_t>(kPanel, shape_.value_size - first), head.values + first * capacity_ * bytes);
    } else {
      for (int64_t t = 0; t < keys; ++t) {
        put_key(head, t, floats(from + t * key_row, shape_.key_size));
        put_value(head, t, floats(from + keys * key_row + t * value_row, shape_.value_size));
      }
    }
    from += keys * (key_row + value_row);
    const int64_t raw = head.raw ? view.open() * shape_.key_size : 0, kept = view.kept * shape_.key_size;
    convert(type, from, shape_.type, head.raw, raw);
    convert(type, from + raw * bytes, shape_.type, head.kept, kept);
    const int64_t all = keys * (key_row + value_row) + (raw + kept) * bytes;
    from += (raw + kept) * bytes + round_up(all, 4) - all;
    copy_floats(from, sinks * shape_.key_size, head.sink_keys);
    copy_floats(from + sinks * shape_.key_size * 4, sinks * shape_.value_size, head.sink_values);
    from += sinks * (shape_.key_size + shape_.value_size) * 4;
  }
}

}  // namespace infini
