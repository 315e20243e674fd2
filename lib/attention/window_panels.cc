#include "attention/window_panels.h"

#include <algorithm>
#include <cstring>

#include "base/limits.h"
#include "base/number.h"
#include "kernels/gradients.h"
#include "kernels/int8_panel.h"

namespace infini {
namespace {

float load(const float *number) { return *number; }
float load(const uint16_t *number) { return bf16_to_float(*number); }
float load(const int8_t *number) { return *number; }

// f(the numbers) of whatever type.
template <class Function>
decltype(auto) as_any_numbers(NumberType type, char *data, const Function &f) {
  if (type == NumberType::I8) return f(reinterpret_cast<int8_t *>(data));
  return as_numbers(type, data, 0, f);
}

// n floats as numbers of the type, at `to`; of int8 their scale goes to scales[token].
void round_to(NumberType type, const float *x, int64_t n, void *to, float *scales, int64_t token) {
  if (type == NumberType::I8) scales[token] = to_int8(x, n, static_cast<int8_t *>(to));
  else store(x, n, type, to);
}

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
  float numbers[kMostHeadSize];
  const char *row = reinterpret_cast<const char *>(key);
  if (type_ != NumberType::F32)
    round_to(type_, key, size_, numbers, scales_, token), row = reinterpret_cast<const char *>(numbers);
  const int64_t whole = row_bytes() / kCell;
  char *const to = cell(token);
  for (int64_t i = 0; i < whole; ++i) std::memcpy(to + i * kCellRow, row + i * kCell, kCell);
  std::memcpy(to + whole * kCellRow, row + whole * kCell, static_cast<size_t>(row_bytes() % kCell));
}

void KeyPanels::get(int64_t token, float *key) const {
  float numbers[kMostHeadSize];
  char *const row = reinterpret_cast<char *>(type_ == NumberType::F32 ? key : numbers);
  const int64_t whole = row_bytes() / kCell;
  const char *const from = cell(token);
  for (int64_t i = 0; i < whole; ++i) std::memcpy(row + i * kCell, from + i * kCellRow, kCell);
  std::memcpy(row + whole * kCell, from + whole * kCellRow, static_cast<size_t>(row_bytes() % kCell));
  if (type_ == NumberType::BF16) widen(reinterpret_cast<const uint16_t *>(numbers), size_, key);
  if (type_ == NumberType::I8)
    for (int64_t i = 0; i < size_; ++i) key[i] = scales_[token] * reinterpret_cast<const int8_t *>(numbers)[i];
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
  if (type_ == NumberType::I8) std::copy_n(scales_ + from, count, scales_ + to);  // towards the front
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
  float rounded[kMostHeadSize];
  round_to(type_, value, size_, rounded, scales_, token);
  as_any_numbers(type_, reinterpret_cast<char *>(rounded), [&]<class Number>(Number *numbers) {
    each_panel([&](int64_t first, int64_t count, char *panel) {
      Number *const to = row_of<Number>(panel, token);
      for (int64_t j = 0; j < count; ++j) to[panel_offset<Number>(0, j)] = numbers[first + j];
    });
  });
}

void ValuePanels::get(int64_t token, float *value) const {
  as_any_numbers(type_, data_, [&](auto *numbers) {
    for (int64_t j = 0; j < size_; ++j) value[j] = load(panel_element(numbers, panel_size(capacity_), token, j));
  });
  if (type_ == NumberType::I8)
    for (int64_t j = 0; j < size_; ++j) value[j] *= scales_[token];
}

void ValuePanels::move(int64_t from, int64_t to, int64_t count) {
  // Tokens that share cells here and there go together.
  const int64_t together = kCell / bytes_of(type_);
  each_panel([&](int64_t, int64_t, char *panel) {
    for (int64_t done = 0; done < count;) {
      const bool whole = (from + done) % together == 0 && (to + done) % together == 0;
      if (const int64_t run = whole ? (count - done) / together * together : 0; run > 0) {
        std::memmove(panel + panel_bytes(type_, to + done), panel + panel_bytes(type_, from + done),
                     static_cast<size_t>(panel_bytes(type_, run)));
        done += run;
      } else {
        as_any_numbers(type_, panel, [&]<class Number>(Number *) {
          Number *const target = row_of<Number>(panel, to + done), *const source = row_of<Number>(panel, from + done);
          for (int64_t j = 0; j < kPanel; ++j) target[panel_offset<Number>(0, j)] = source[panel_offset<Number>(0, j)];
        });
        ++done;
      }
    }
  });
  if (type_ == NumberType::I8) std::copy_n(scales_ + from, count, scales_ + to);
}

void ValuePanels::to_rows(int64_t tokens, char *rows) const {
  each_panel([&](int64_t first, int64_t count, const char *panel) {
    char *const to = rows + first * bytes_of(type_);
    if (type_ == NumberType::I8) {
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t j = 0; j < count; ++j)
          to[t * row_bytes() + j] = row_of<const char>(panel, t)[panel_offset<char>(0, j)];
      return;
    }
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
    if (type_ == NumberType::I8) {
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t j = 0; j < count; ++j)
          row_of<char>(panel, t)[panel_offset<char>(0, j)] = from[t * row_bytes() + j];
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
    as_any_numbers(type_, panel, [&](auto *numbers) {
      for (int64_t t = 0; t < count; ++t) {
        float *const to = panel_element(panels, panel_size(count), t, first);
        const float scale = type_ == NumberType::I8 ? scales_[begin + t] : 1;
        for (int64_t j = 0; j < kPanel; ++j) to[j] = scale * load(panel_element(numbers, 0, begin + t, j));
      }
    });
  });
}

}  // namespace infini
