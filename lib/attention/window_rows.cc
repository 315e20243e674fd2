// A window as snapshots hold it: a row for each token, whatever panels kernels want.
#include <algorithm>
#include <cstring>

#include "attention/window.h"

namespace infini {
namespace {

// n numbers of one type as those of another. `from` need not be aligned.
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

// The parts of a KV head's rows, in their order, in bytes.
struct HeadRows {
  HeadRows(const AttentionShape &shape, const View &view, bool has_raw, int64_t sinks, RowNumbers numbers)
      : list(numbers.int8 ? NumberType::I8 : numbers.type), key(int64_t{shape.key_size} * bytes_of(list)),
        value(int64_t{shape.value_size} * bytes_of(list)), scales(numbers.int8 ? view.keys() * 4 : 0),
        keys(view.keys() * key), values(view.keys() * value),
        raw(has_raw ? view.open() * shape.key_size * bytes_of(numbers.type) : 0),
        kept(view.kept * shape.key_size * bytes_of(numbers.type)),
        gap(round_up(keys + values + raw + kept, 4) - (keys + values + raw + kept)),
        sink_keys(sinks * shape.key_size * 4), sink_values(sinks * shape.value_size * 4) {}
  NumberType list;                                                       // of keys and values in view
  int64_t key, value;                                                    // of one token
  int64_t scales, keys, values, raw, kept, gap, sink_keys, sink_values;  // as many scales of keys as of values
  int64_t all() const { return 2 * scales + keys + values + raw + kept + gap + sink_keys + sink_values; }
};

}  // namespace

int64_t Window::row_bytes(const View &asked, RowNumbers numbers) const {
  const View view = asked.through(shape_);
  int64_t total = 0;
  for (const Head &head : heads_) total += HeadRows(shape_, view, head.raw != nullptr, sinks_of(view), numbers).all();
  return total;
}

void Window::to_rows(const View &asked, char *to) const {
  const View view = asked.through(shape_);
  const auto copy = [&](const void *from, int64_t size) {
    if (size > 0) std::memcpy(to, from, static_cast<size_t>(size));
    to += size;
  };
  for (const Head &head : heads_) {
    const HeadRows rows(shape_, view, head.raw != nullptr, sinks_of(view), row_numbers());
    copy(head.keys.scales(), rows.scales);
    copy(head.values.scales(), rows.scales);
    head.keys.to_rows(view.keys(), to);
    head.values.to_rows(view.keys(), to + rows.keys);
    to += rows.keys + rows.values;
    copy(head.raw, rows.raw);
    copy(head.kept, rows.kept);
    to = std::fill_n(to, rows.gap, '\0');
    copy(head.sink_keys, rows.sink_keys);
    copy(head.sink_values, rows.sink_values);
  }
}

void Window::from_rows(const View &asked, RowNumbers numbers, const char *from) {
  const View view = asked.through(shape_);
  const NumberType type = numbers.type;
  std::vector<float> row(static_cast<size_t>(std::max(shape_.key_size, shape_.value_size)));
  const auto floats = [&](const char *data, int64_t n, const char *scales, int64_t token) {
    if (!numbers.int8) {
      convert(type, data, NumberType::F32, reinterpret_cast<char *>(row.data()), n);
      return row.data();
    }
    float scale;
    std::memcpy(&scale, scales + token * 4, sizeof scale);
    for (int64_t i = 0; i < n; ++i) row[static_cast<size_t>(i)] = scale * static_cast<int8_t>(data[i]);
    return row.data();
  };
  const auto take = [&](NumberType to_type, void *to, int64_t size, NumberType from_type) {
    convert(from_type, from, to_type, static_cast<char *>(to), size / bytes_of(from_type));
    from += size;
  };
  for (Head &head : heads_) {
    const HeadRows rows(shape_, view, head.raw != nullptr, sinks_of(view), numbers);
    const char *const key_scales = from, *const value_scales = from + rows.scales;
    from += 2 * rows.scales;
    if (numbers == row_numbers() || (numbers.int8 && shape_.int8)) {
      if (rows.scales > 0) {
        std::memcpy(head.keys.scales(), key_scales, static_cast<size_t>(rows.scales));
        std::memcpy(head.values.scales(), value_scales, static_cast<size_t>(rows.scales));
      }
      head.keys.from_rows(from, view.keys());
      head.values.from_rows(from + rows.keys, view.keys());
    } else {
      for (int64_t t = 0; t < view.keys(); ++t) {
        head.keys.put(t, floats(from + t * rows.key, shape_.key_size, key_scales, t));
        head.values.put(t, floats(from + rows.keys + t * rows.value, shape_.value_size, value_scales, t));
      }
    }
    from += rows.keys + rows.values;
    take(shape_.type, head.raw, rows.raw, type);
    take(shape_.type, head.kept, rows.kept, type);
    from += rows.gap;
    take(NumberType::F32, head.sink_keys, rows.sink_keys, NumberType::F32);
    take(NumberType::F32, head.sink_values, rows.sink_values, NumberType::F32);
  }
}

}  // namespace infini
