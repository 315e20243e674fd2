#include "attention/window_panels.h"

#include <algorithm>
#include <cstring>

#include "base/limits.h"
#include "base/number.h"
#include "kernels/gradients.h"

namespace infini {
namespace {

float load(const float *number) { return *number; }
float load(const uint16_t *number) { return bf16_to_float(*number); }

// Where the row of a token begins in a panel of values.
template <class Number, class Bytes>
Number *row_of(Bytes *panel, int64_t token) {
  return panel_element(reinterpret_cast<Number *>(panel), 0, token, 0);
}

// f(token, how many, cell, how many) for squares of cells that stay in the nearest cache.
template <class Function>
void each_square(int64_t tokens, int64_t cells, const Function &f) {
  for (int64_t t = 0; t < tokens; t += kPanel)
    for (int64_t first = 0; first < cells; first += kPanel)
      f(t, std::min<int64_t>(kPanel, tokens - t), first, std::min<int64_t>(kPanel, cells - first));
}

}  // namespace

void KeyPanels::put(int64_t token, const float *key) {
  uint16_t numbers[kMostHeadSize];
  const char *row = reinterpret_cast<const char *>(key);
  if (type_ == NumberType::BF16) narrow(key, size_, numbers), row = reinterpret_cast<const char *>(numbers);
  const int64_t whole = row_bytes() / kCell;
  char *const to = cell(token);
  for (int64_t i = 0; i < whole; ++i) std::memcpy(to + i * kCellRow, row + i * kCell, kCell);
  if (whole < cells()) std::memcpy(to + whole * kCellRow, row + whole * kCell, 2);
}

void KeyPanels::get(int64_t token, float *key) const {
  uint16_t numbers[kMostHeadSize];
  char *const row = type_ == NumberType::F32 ? reinterpret_cast<char *>(key) : reinterpret_cast<char *>(numbers);
  const int64_t whole = row_bytes() / kCell;
  const char *const from = cell(token);
  for (int64_t i = 0; i < whole; ++i) std::memcpy(row + i * kCell, from + i * kCellRow, kCell);
  if (whole < cells()) std::memcpy(row + whole * kCell, from + whole * kCellRow, 2);
  if (type_ == NumberType::BF16) widen(numbers, size_, key);
}

void KeyPanels::move(int64_t from, int64_t to, int64_t count) {
  for (int64_t done = 0; done < count;) {
    const int64_t run = std::min({count - done, kPanel - (from + done) % kPanel, kPanel - (to + done) % kPanel});
    const char *const source = cell(from + done);
    char *const target = cell(to + done);
    for (int64_t i = 0; i < cells(); ++i)
      std::memmove(target + i * kCellRow, source + i * kCellRow, static_cast<size_t>(run * kCell));
    done += run;
  }
}

void KeyPanels::to_rows(int64_t tokens, char *rows) const {
  float transposed[kPanel * kPanel];
  each_square(tokens, cells(), [&](int64_t t, int64_t count, int64_t first, int64_t some) {
    const auto *from = reinterpret_cast<const float *>(cell(t) + first * kCellRow);
    const int64_t bytes = std::min(row_bytes(), (first + some) * kCell) - first * kCell;
    pack_columns(from, kPanel, count, some, transposed, panel_size(kPanel));
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(rows + (t + i) * row_bytes() + first * kCell, transposed + i * kPanel, static_cast<size_t>(bytes));
  });
}

void KeyPanels::from_rows(const char *rows, int64_t tokens) {
  float transposed[kPanel * kPanel] = {};
  each_square(tokens, cells(), [&](int64_t t, int64_t count, int64_t first, int64_t some) {
    const int64_t bytes = std::min(row_bytes(), (first + some) * kCell) - first * kCell;
    for (int64_t i = 0; i < count; ++i) {
      transposed[i * kPanel + some - 1] = 0;
      std::memcpy(transposed + i * kPanel, rows + (t + i) * row_bytes() + first * kCell, static_cast<size_t>(bytes));
    }
    pack_columns(transposed, kPanel, some, count, reinterpret_cast<float *>(cell(t) + first * kCellRow),
                 panel_size(kPanel));
  });
}

void ValuePanels::put(int64_t token, const float *value) {
  each_panel([&](int64_t first, int64_t count, char *panel) {
    if (type_ == NumberType::F32) {
      std::copy_n(value + first, count, row_of<float>(panel, token));
      return;
    }
    uint16_t numbers[kPanel];
    narrow(value + first, count, numbers);
    uint16_t *const to = row_of<uint16_t>(panel, token);
    for (int64_t j = 0; j < count; ++j) to[panel_offset<uint16_t>(0, j)] = numbers[j];
  });
}

void ValuePanels::get(int64_t token, float *value) const {
  as_numbers(type_, data_, 0, [&](auto *numbers) {
    for (int64_t j = 0; j < size_; ++j) value[j] = load(panel_element(numbers, panel_size(capacity_), token, j));
  });
}

void ValuePanels::move(int64_t from, int64_t to, int64_t count) {
  // Tokens of bf16 that are pairs here and there go together.
  const int64_t together = kCell / bytes_of(type_);
  each_panel([&](int64_t, int64_t, char *panel) {
    for (int64_t done = 0; done < count;) {
      const bool whole = (from + done) % together == 0 && (to + done) % together == 0;
      if (const int64_t run = whole ? (count - done) / together * together : 0; run > 0) {
        std::memmove(panel + panel_bytes(type_, to + done), panel + panel_bytes(type_, from + done),
                     static_cast<size_t>(panel_bytes(type_, run)));
        done += run;
      } else {
        uint16_t *const target = row_of<uint16_t>(panel, to + done), *const source =
                                                                         row_of<uint16_t>(panel, from + done);
        for (int64_t j = 0; j < kPanel; ++j)
          target[panel_offset<uint16_t>(0, j)] = source[panel_offset<uint16_t>(0, j)];
        ++done;
      }
    }
  });
}

void ValuePanels::to_rows(int64_t tokens, char *rows) const {
  each_panel([&](int64_t first, int64_t count, const char *panel) {
    char *const to = rows + first * bytes_of(type_);
    if (type_ == NumberType::BF16) {
      unpack_rows(reinterpret_cast<const uint16_t *>(panel), tokens, count, reinterpret_cast<uint16_t *>(to), size_);
      return;
    }
    for (int64_t t = 0; t < tokens; ++t)
      std::memcpy(to + t * row_bytes(), row_of<const float>(panel, t), static_cast<size_t>(count * 4));
  });
}

void ValuePanels::from_rows(const char *rows, int64_t tokens) {
  each_panel([&](int64_t first, int64_t count, char *panel) {
    const char *const from = rows + first * bytes_of(type_);
    const auto bytes = static_cast<size_t>(count * bytes_of(type_));
    if (type_ == NumberType::F32) {
      for (int64_t t = 0; t < tokens; ++t) std::memcpy(row_of<float>(panel, t), from + t * row_bytes(), bytes);
      return;
    }
    uint16_t aligned[kPanel * kPanel];  // rows of a file may lie anywhere
    for (int64_t t = 0; t < tokens; t += kPanel) {
      const int64_t some = std::min<int64_t>(kPanel, tokens - t);
      for (int64_t i = 0; i < some; ++i) std::memcpy(aligned + i * kPanel, from + (t + i) * row_bytes(), bytes);
      pack_rows(aligned, kPanel, some, count, row_of<uint16_t>(panel, t), panel_size(kPanel));
    }
  });
}

void ValuePanels::to_floats(int64_t begin, int64_t count, float *panels) const {
  each_panel([&](int64_t first, int64_t, char *panel) {
    as_numbers(type_, panel, 0, [&](auto *numbers) {
      for (int64_t t = 0; t < count; ++t) {
        float *const to = panel_element(panels, panel_size(count), t, first);
        for (int64_t j = 0; j < kPanel; ++j) to[j] = load(panel_element(numbers, 0, begin + t, j));
      }
    });
  });
}

}  // namespace infini
