#include "attention/window.h"

#include <algorithm>
#include <cstring>

#include "kernels/scalar.h"

namespace infini {

namespace {

constexpr int kLargest = 1024;  // head sizes are checked when the model is opened

// Element (row i, column j) of one panel.
float *element(float *panel, int64_t i, int64_t j) { return panel + i * kPanel + j; }
uint16_t *element(uint16_t *panel, int64_t i, int64_t j) { return panel + i / 2 * (2 * kPanel) + 2 * j + i % 2; }

float load(const float *number) { return *number; }
float load(const uint16_t *number) { return bf16_to_float(*number); }

}  // namespace

Window::Window(const AttentionShape &shape, const std::vector<bool> &keeps_keys)
    : shape_(shape), capacity_(round_up(shape.most_keys(), kPanel)), key_padded_(padded_k(shape.type, shape.key_size)),
      heads_(static_cast<size_t>(shape.kv_heads)) {
  const int bytes = bytes_of(shape.type);
  // Places of all that a head has, from `at` on; the first time only to learn how much it is.
  const auto lay_out = [&](char *at) {
    int64_t used = 0;
    const auto take = [&](int64_t size) {
      char *place = at ? at + used : nullptr;
      used += round_up(size, 64);
      return place;
    };
    for (size_t h = 0; h < heads_.size(); ++h) {
      Head &head = heads_[h];
      head.keys = take(capacity_ * key_padded_ * bytes);
      head.values = take(round_up(shape.value_size, kPanel) * capacity_ * bytes);
      head.raw = keeps_keys[h] ? take(int64_t{shape.segment} * shape.key_size * bytes) : nullptr;
      head.sink_keys = reinterpret_cast<float *>(take(int64_t{shape.sinks} * shape.key_size * 4));
      head.sink_values = reinterpret_cast<float *>(take(int64_t{shape.sinks} * shape.value_size * 4));
      head.kept = take(int64_t{shape.keep} * shape.key_size * bytes);
    }
    return used;
  };
  storage_ = Buffer<char>(lay_out(nullptr), Pages::SMALL);
  lay_out(storage_.data());
}

Window Window::empty_copy() const {
  std::vector<bool> keeps_keys;
  for (const Head &head : heads_) keeps_keys.push_back(head.raw != nullptr);
  return Window(shape_, keeps_keys);
}

Window Window::copy(const View &view) const {
  Window copied = empty_copy();
  copied.prepare(view);
  std::vector<char *> to;
  copied.visit(view, [&](char *data, int64_t, NumberType) { to.push_back(data); });
  size_t next = 0;
  visit(view, [&](const char *data, int64_t bytes, NumberType) {
    if (bytes > 0) std::memcpy(to[next], data, static_cast<size_t>(bytes));
    ++next;
  });
  return copied;
}

void Window::settle(const View &view) {
  if (!large_pages_ && view.through(shape_).keys() > capacity_ / 2) storage_.use_large_pages(), large_pages_ = true;
}

void Window::prepare(const View &view) {
  settle(view);
  visit(view, [](char *data, int64_t bytes, NumberType) { platform::provide_pages(data, static_cast<size_t>(bytes)); });
}

void Window::clear(const View &view) {
  // Also what stood there before: beside a weight of 0, a number that is not finite would still count.
  View all = view;
  const int64_t ever = view.position - view.origin;
  all.sinks = all.kept = 0;
  all.window_begin = view.position - std::min(ever, capacity_);
  all.segment_begin = view.position - std::min<int64_t>(ever, shape_.segment);
  visit_own(all, [](char *data, int64_t bytes, NumberType) {
    if (bytes > 0) std::memset(data, 0, static_cast<size_t>(bytes));
  });
}

void Window::convert_from(const Window &other, const View &asked) {
  const View view = asked.through(shape_);
  const int64_t keys = view.keys();
  const auto read = [&](const char *numbers, int64_t at) {
    return other.shape_.type == NumberType::F32 ? load(reinterpret_cast<const float *>(numbers) + at)
                                                : load(reinterpret_cast<const uint16_t *>(numbers) + at);
  };
  // Where element (row, column) of a panel stands, in numbers.
  const auto place = [](NumberType type, int64_t row, int64_t column) {
    return type == NumberType::F32 ? row * kPanel + column : row / 2 * (2 * kPanel) + 2 * column + row % 2;
  };
  for (size_t h = 0; h < heads_.size(); ++h) {
    const Head &from = other.heads_[h];
    std::vector<float> key(static_cast<size_t>(shape_.key_size)), value(static_cast<size_t>(shape_.value_size));
    for (int64_t t = 0; t < keys; ++t) {
      for (int64_t i = 0; i < shape_.key_size; ++i)
        key[static_cast<size_t>(i)] =
            read(from.keys, t / kPanel * kPanel * other.key_padded_ + place(other.shape_.type, i, t % kPanel));
      for (int64_t j = 0; j < shape_.value_size; ++j)
        value[static_cast<size_t>(j)] =
            read(from.values, j / kPanel * kPanel * other.capacity_ + place(other.shape_.type, t, j % kPanel));
      put_key(heads_[h], t, key.data());
      put_value(heads_[h], t, value.data());
    }
    if (from.raw) {
      as_numbers(shape_.type, heads_[h].raw, 0, [&](auto *raw) {
        for (int64_t i = 0; i < view.open() * shape_.key_size; ++i) scalar::store(read(from.raw, i), raw + i);
      });
    }
    as_numbers(shape_.type, heads_[h].kept, 0, [&](auto *kept) {
      for (int64_t i = 0; i < view.kept * shape_.key_size; ++i) scalar::store(read(from.kept, i), kept + i);
    });
    std::copy_n(from.sink_keys, int64_t{shape_.sinks} * shape_.key_size, heads_[h].sink_keys);
    std::copy_n(from.sink_values, int64_t{shape_.sinks} * shape_.value_size, heads_[h].sink_values);
  }
}

bool Window::is_finite(const View &view) const {
  // A number is not finite where all bits of its exponent are set: the same bits of the upper half in both types.
  const auto exponent_full = [](const char *data, int64_t bytes, auto mask) {
    const auto *numbers = reinterpret_cast<const decltype(mask) *>(data);
    decltype(mask) any = 0;
    for (int64_t i = 0; i < bytes / static_cast<int64_t>(sizeof mask); ++i)
      any |= static_cast<decltype(mask)>((numbers[i] & mask) == mask);
    return any != 0;
  };
  bool finite = true;
  visit(view, [&](const char *data, int64_t bytes, NumberType type) {
    finite &= type == NumberType::F32 ? !exponent_full(data, bytes, uint32_t{0x7f800000})
                                      : !exponent_full(data, bytes, uint16_t{0x7f80});
  });
  return finite;
}

int64_t Window::bytes_in_use(const View &view) const {
  int64_t total = 0;
  visit(view, [&](const char *, int64_t bytes, NumberType) { total += bytes; });
  return total;
}

// A cell of a panel holds one number of f32, or two of bf16, which stand one below the other. Each 64 make a row.
constexpr int64_t kCell = 4, kCellRow = kPanel * kCell;  // bytes

void Window::put_key(Head &head, int64_t index, const float *key) {
  uint16_t numbers[kLargest];
  const bool f32 = shape_.type == NumberType::F32;
  if (!f32) narrow(key, shape_.key_size, numbers);
  put_key_row(head, index, f32 ? reinterpret_cast<const char *>(key) : reinterpret_cast<const char *>(numbers));
}

// Of an odd number of bf16 the last one stands in half a cell, beside a zero.
void Window::put_key_row(Head &head, int64_t index, const char *key) {
  const int64_t whole = shape_.key_size * bytes_of(shape_.type) / kCell;
  char *const to = key_cell(head, index);
  for (int64_t i = 0; i < whole; ++i) std::memcpy(to + i * kCellRow, key + i * kCell, kCell);
  if (whole < key_cells()) std::memcpy(to + whole * kCellRow, key + whole * kCell, 2);
}

void Window::get_key_row(const Head &head, int64_t index, char *key) const {
  const int64_t whole = shape_.key_size * bytes_of(shape_.type) / kCell;
  const char *const from = key_cell(head, index);
  for (int64_t i = 0; i < whole; ++i) std::memcpy(key + i * kCell, from + i * kCellRow, kCell);
  if (whole < key_cells()) std::memcpy(key + whole * kCell, from + whole * kCellRow, 2);
}

void Window::put_value(Head &head, int64_t index, const float *value) {
  for (int64_t first = 0; first < shape_.value_size; first += kPanel) {
    const auto count = std::min<int64_t>(kPanel, shape_.value_size - first);
    if (shape_.type == NumberType::F32) {
      std::copy_n(value + first, count, element(reinterpret_cast<float *>(head.values) + first * capacity_, index, 0));
      continue;
    }
    uint16_t numbers[kPanel];
    narrow(value + first, count, numbers);
    uint16_t *const to = element(reinterpret_cast<uint16_t *>(head.values) + first * capacity_, index, 0);
    for (int64_t j = 0; j < count; ++j) to[2 * j] = numbers[j];
  }
}

char *Window::key_cell(const Head &head, int64_t index) const {
  return head.keys + index / kPanel * kPanel * key_padded_ * bytes_of(shape_.type) + index % kPanel * kCell;
}
int64_t Window::key_cells() const { return (shape_.key_size * bytes_of(shape_.type) + kCell - 1) / kCell; }

// Tokens [from, from + count) of the list, towards the front.
void Window::move(Head &head, int64_t from, int64_t to, int64_t count) {
  for (int64_t done = 0; done < count;) {
    const int64_t run = std::min({count - done, kPanel - (from + done) % kPanel, kPanel - (to + done) % kPanel});
    const char *const source = key_cell(head, from + done);
    char *const target = key_cell(head, to + done);
    for (int64_t i = 0; i < key_cells(); ++i)
      std::memmove(target + i * kCellRow, source + i * kCellRow, static_cast<size_t>(run * kCell));
    done += run;
  }
  const bool f32 = shape_.type == NumberType::F32;
  for (int64_t panel = 0; panel < round_up(shape_.value_size, kPanel) / kPanel; ++panel) {
    char *const values = head.values + panel * kPanel * capacity_ * bytes_of(shape_.type);
    auto *const numbers = reinterpret_cast<uint16_t *>(values);
    // Tokens of bf16 that are pairs here and there go together.
    const int64_t together = f32 ? 1 : 2;
    for (int64_t done = 0; done < count;) {
      const bool whole = (from + done) % together == 0 && (to + done) % together == 0;
      if (const int64_t run = whole ? (count - done) / together * together : 0; run > 0) {
        const int64_t row = kPanel * bytes_of(shape_.type);
        std::memmove(values + (to + done) * row, values + (from + done) * row, static_cast<size_t>(run * row));
        done += run;
      } else {
        for (int64_t j = 0; j < kPanel; ++j) *element(numbers, to + done, j) = *element(numbers, from + done, j);
        ++done;
      }
    }
  }
}

void Window::append(const View &view, int64_t position, int kv_head, const float *key, const float *value,
                    const Rope &rope, const float *cosine, const float *sine) {
  Head &head = heads_[static_cast<size_t>(kv_head)];
  float turned[kLargest];
  rope.apply(key, shape_.key_size, cosine, sine, 1, turned);
  put_key(head, view.index_of(position), turned);
  put_value(head, view.index_of(position), value);
  if (head.raw) {
    const int64_t at = (position - view.segment_begin) * shape_.key_size;
    store(key, shape_.key_size, shape_.type, head.raw + at * bytes_of(shape_.type));
  }
  if (const int64_t sink = position - view.origin; sink < shape_.sinks) {
    std::copy_n(key, shape_.key_size, head.sink_keys + sink * shape_.key_size);
    std::copy_n(value, shape_.value_size, head.sink_values + sink * shape_.value_size);
  }
}

void Window::get_key(const Head &head, int64_t index, float *key) const {
  uint16_t numbers[kLargest];
  const bool f32 = shape_.type == NumberType::F32;
  get_key_row(head, index, f32 ? reinterpret_cast<char *>(key) : reinterpret_cast<char *>(numbers));
  if (!f32) widen(numbers, shape_.key_size, key);
}

// Kept keys as they were before rotation, and values where they will stand. Every token only ever moves towards the
// front, so that in order of the list none is overwritten before it was read.
void Window::gather_kept(Head &head, const View &before, const Closing &closing, const Rope &rope) {
  const int64_t key_bytes = shape_.key_size * bytes_of(shape_.type);
  float turned[kLargest], key[kLargest], cosine[kLargest / 2], sine[kLargest / 2];
  const auto &sources = closing.sources;
  for (int64_t i = 0; i < closing.after.kept;) {
    const int64_t from = sources[static_cast<size_t>(i)];
    int64_t run = 1;
    while (i + run < closing.after.kept && sources[static_cast<size_t>(i + run)] == from + run &&
           (from < before.front()) == (from + run < before.front()))
      ++run;
    char *const to = head.kept + i * key_bytes;
    if (from < before.front()) {
      if (const char *kept = head.kept + (from - before.sinks) * key_bytes; kept != to)
        std::memmove(to, kept, static_cast<size_t>(run * key_bytes));
    } else {
      const auto magnitude = static_cast<float>(rope.magnitude);
      for (int64_t t = 0; t < run; ++t) {
        get_key(head, from + t, turned);
        rope.angles(before.window_begin + from + t - before.front(), cosine, sine);
        for (int j = 0; j < rope.dimensions / 2; ++j)  // backwards
          cosine[j] /= magnitude * magnitude, sine[j] /= -magnitude * magnitude;
        rope.apply(turned, shape_.key_size, cosine, sine, 1, key);
        store(key, shape_.key_size, shape_.type, to + t * key_bytes);
      }
    }
    if (from != closing.after.sinks + i) move(head, from, closing.after.sinks + i, run);
    i += run;
  }
}

void Window::close(const View &before, const Closing &closing, int kv_head, const Rope &rope,
                   const FrontAngles &angles) {
  const View &after = closing.after;
  Head &head = heads_[static_cast<size_t>(kv_head)];
  gather_kept(head, before, closing, rope);
  // What comes before the window grows by no more than the window moves, so tokens only ever move towards the front.
  const int64_t from = before.index_of(after.window_begin), to = after.index_of(after.window_begin);
  if (from != to) move(head, from, to, after.position - after.window_begin);
  if (after.sinks != before.sinks || after.window_begin != before.window_begin) turn_front(head, after, rope, angles);
}

void Window::turn_front(Head &head, const View &view, const Rope &rope, const FrontAngles &angles) {
  const int64_t half = rope.dimensions / 2;
  float key[kLargest], turned[kLargest];
  for (int64_t i = 0; i < view.front(); ++i) {
    const float *raw = head.sink_keys + i * shape_.key_size;
    if (const int64_t kept = i - view.sinks; kept >= 0) {
      raw = key;
      as_numbers(shape_.type, head.kept, 0, [&](const auto *numbers) {
        for (int64_t j = 0; j < shape_.key_size; ++j) key[j] = load(numbers + kept * shape_.key_size + j);
      });
    }
    rope.apply(raw, shape_.key_size, angles.cosine.data() + i * half, angles.sine.data() + i * half, 1, turned);
    put_key(head, i, turned);
    if (i < view.sinks) put_value(head, i, head.sink_values + i * shape_.value_size);
  }
}

void Window::get_value(const Head &head, int64_t index, float *value) const {
  as_numbers(shape_.type, head.values, 0, [&](auto *numbers) {
    for (int64_t j = 0; j < shape_.value_size; ++j)
      value[j] = load(element(numbers + j / kPanel * kPanel * capacity_, index, j % kPanel));
  });
}

std::vector<float> Window::kept(const View &view) const {
  const int64_t head_size = shape_.key_size + shape_.value_size, stride = shape_.kv_heads * head_size;
  std::vector<float> all(static_cast<size_t>(view.kept * stride));
  for (int64_t t = 0; t < view.kept; ++t)
    for (int h = 0; h < shape_.kv_heads; ++h) {
      float *const to = all.data() + t * stride + h * head_size;
      const Head &head = heads_[static_cast<size_t>(h)];
      as_numbers(shape_.type, head.kept, 0, [&](const auto *numbers) {
        for (int64_t i = 0; i < shape_.key_size; ++i) to[i] = load(numbers + t * shape_.key_size + i);
      });
      get_value(head, view.sinks + t, to + shape_.key_size);
    }
  return all;
}

Window Window::with_kept(const View &before, const View &after, const std::vector<float> &kept, const Rope &rope,
                         const FrontAngles &angles) const {
  const int64_t head_size = shape_.key_size + shape_.value_size, stride = shape_.kv_heads * head_size;
  Window other = empty_copy();
  other.settle(after);
  float key[kLargest], value[kLargest];
  for (int h = 0; h < shape_.kv_heads; ++h) {
    const Head &from = heads_[static_cast<size_t>(h)];
    Head &to = other.heads_[static_cast<size_t>(h)];
    std::copy_n(from.sink_keys, int64_t{shape_.sinks} * shape_.key_size, to.sink_keys);
    std::copy_n(from.sink_values, int64_t{shape_.sinks} * shape_.value_size, to.sink_values);
    if (from.raw)
      std::memcpy(to.raw, from.raw, static_cast<size_t>(before.open() * shape_.key_size * bytes_of(shape_.type)));
    for (int64_t t = 0; t < after.kept; ++t) {
      const float *const raw = kept.data() + t * stride + h * head_size;
      as_numbers(shape_.type, to.kept, 0, [&](auto *numbers) {
        for (int64_t i = 0; i < shape_.key_size; ++i) scalar::store(raw[i], numbers + t * shape_.key_size + i);
      });
      other.put_value(to, after.sinks + t, raw + shape_.key_size);
    }
    for (int64_t token = before.window_begin; token < before.position; ++token) {
      get_key(from, before.index_of(token), key);
      get_value(from, before.index_of(token), value);
      other.put_key(to, after.index_of(token), key);
      other.put_value(to, after.index_of(token), value);
    }
    other.turn_front(to, after, rope, angles);
  }
  return other;
}

Panels Window::keys(int kv_head, int64_t begin, int64_t count) const {
  const int64_t stride = kPanel * key_padded_;
  return {shape_.type, heads_[static_cast<size_t>(kv_head)].keys + begin / kPanel * stride * bytes_of(shape_.type),
          shape_.key_size, count, stride};
}

Panels Window::values(int kv_head, int64_t begin, int64_t count) const {
  return {shape_.type, heads_[static_cast<size_t>(kv_head)].values + begin * kPanel * bytes_of(shape_.type), count,
          shape_.value_size, kPanel * capacity_};
}

void Window::raw_keys(int kv_head, int64_t begin, int64_t count, float *keys) const {
  const char *raw = heads_[static_cast<size_t>(kv_head)].raw + begin * shape_.key_size * bytes_of(shape_.type);
  load(shape_.type, raw, count * shape_.key_size, keys);
}

void Window::raw_values(int kv_head, int64_t index, int64_t count, float *values) const {
  as_numbers(shape_.type, heads_[static_cast<size_t>(kv_head)].values, 0, [&](auto *numbers) {
    for (int64_t panel = 0; panel < round_up(shape_.value_size, kPanel) / kPanel; ++panel) {
      for (int64_t t = 0; t < count; ++t) {
        float *row = values + (panel * count + t) * kPanel;
        for (int64_t j = 0; j < kPanel; ++j) row[j] = load(element(numbers + panel * kPanel * capacity_, index + t, j));
      }
    }
  });
}

}  // namespace infini
