#include "attention/window.h"

#include <algorithm>
#include <cstring>

#include "base/limits.h"

namespace infini {

Window::Window(const AttentionShape &shape, const std::vector<bool> &keeps_keys)
    : shape_(shape), capacity_(round_up(shape.most_keys(), kPanel)), heads_(static_cast<size_t>(shape.kv_heads)) {
  // Lays the buffers of all heads out from `at` on, and returns their size; from nullptr it only learns that.
  const auto lay_out = [&](char *at) {
    int64_t used = 0;
    const auto take = [&](int64_t size) {
      char *place = at ? at + used : nullptr;
      used += round_up(size, 64);
      return place;
    };
    for (size_t h = 0; h < heads_.size(); ++h) {
      Head &head = heads_[h];
      head.keys = KeyPanels(shape.list_type(), shape.key_size);
      head.values = ValuePanels(shape.list_type(), shape.value_size, capacity_);
      const auto scales = [&] { return reinterpret_cast<float *>(take(shape.int8 ? capacity_ * 4 : 0)); };
      head.keys.use(take(head.keys.bytes(capacity_)), scales());
      head.values.use(take(head.values.bytes()), scales());
      head.raw = keeps_keys[h] ? take(shape.segment * key_bytes()) : nullptr;
      head.sink_keys = reinterpret_cast<float *>(take(int64_t{shape.sinks} * shape.key_size * 4));
      head.sink_values = reinterpret_cast<float *>(take(int64_t{shape.sinks} * shape.value_size * 4));
      head.kept = take(shape.keep * key_bytes());
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
  // All that was ever written: 0 times a number that is not finite would not be 0, where a softmax gives it no weight.
  View all = view;
  const int64_t ever = view.position - view.origin;
  all.sinks = all.kept = 0;
  all.window_begin = view.position - std::min(ever, capacity_);
  all.segment_begin = view.position - std::min<int64_t>(ever, shape_.segment);
  each_stretch(all, [](char *data, int64_t bytes, NumberType) {
    if (bytes > 0) std::memset(data, 0, static_cast<size_t>(bytes));
  });
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
    if (type == NumberType::F32) finite &= !exponent_full(data, bytes, uint32_t{0x7f800000});
    if (type == NumberType::BF16) finite &= !exponent_full(data, bytes, uint16_t{0x7f80});
  });
  return finite;
}

int64_t Window::bytes_in_use(const View &view) const {
  int64_t total = 0;
  visit(view, [&](const char *, int64_t bytes, NumberType) { total += bytes; });
  return total;
}

// Moves tokens [from, from + count) of the list to `to`, towards the front.
void Window::move(Head &head, int64_t from, int64_t to, int64_t count) {
  head.keys.move(from, to, count);
  head.values.move(from, to, count);
}

void Window::append(const View &view, int64_t position, int kv_head, const float *key, const float *value,
                    const Rope &rope, const float *cosine, const float *sine) {
  Head &head = heads_[kv_head];
  float rotated[kMostHeadSize];
  rope.apply(key, shape_.key_size, cosine, sine, 1, rotated);
  head.keys.put(view.index_of(position), rotated);
  head.values.put(view.index_of(position), value);
  if (head.raw) store(key, shape_.key_size, shape_.type, head.raw + (position - view.segment_begin) * key_bytes());
  if (const int64_t sink = position - view.origin; sink < shape_.sinks) {
    std::copy_n(key, shape_.key_size, head.sink_keys + sink * shape_.key_size);
    std::copy_n(value, shape_.value_size, head.sink_values + sink * shape_.value_size);
  }
}

// Gathers kept keys as they were before rotation, and values where they will stand. Every token only ever moves towards
// the front, so that in order of the list none is overwritten before it was read.
void Window::gather_kept(Head &head, const View &before, const Closing &closing, const Rope &rope) {
  float rotated[kMostHeadSize], key[kMostHeadSize], cosine[kMostHeadSize / 2], sine[kMostHeadSize / 2];
  const auto &sources = closing.sources;
  for (int64_t i = 0; i < closing.after.kept;) {
    const int64_t from = sources[i];
    int64_t run = 1;
    while (i + run < closing.after.kept && sources[i + run] == from + run &&
           (from < before.front()) == (from + run < before.front()))
      ++run;
    char *const to = head.kept + i * key_bytes();
    if (from < before.front()) {
      if (const char *kept = head.kept + (from - before.sinks) * key_bytes(); kept != to)
        std::memmove(to, kept, static_cast<size_t>(run * key_bytes()));
    } else {
      const auto magnitude = static_cast<float>(rope.magnitude);
      for (int64_t t = 0; t < run; ++t) {
        head.keys.get(from + t, rotated);
        rope.angles(before.window_begin + from + t - before.front(), cosine, sine);
        for (int j = 0; j < rope.dimensions / 2; ++j)  // the inverse rotation
          cosine[j] /= magnitude * magnitude, sine[j] /= -magnitude * magnitude;
        rope.apply(rotated, shape_.key_size, cosine, sine, 1, key);
        store(key, shape_.key_size, shape_.type, to + t * key_bytes());
      }
    }
    if (from != closing.after.sinks + i) move(head, from, closing.after.sinks + i, run);
    i += run;
  }
}

void Window::close(const View &before, const Closing &closing, int kv_head, const Rope &rope,
                   const FrontAngles &angles) {
  const View &after = closing.after;
  Head &head = heads_[kv_head];
  gather_kept(head, before, closing, rope);
  // What comes before the window grows by no more than the window moves, so tokens only ever move towards the front.
  const int64_t from = before.index_of(after.window_begin), to = after.index_of(after.window_begin);
  if (from != to) move(head, from, to, after.position - after.window_begin);
  if (after.sinks != before.sinks || after.window_begin != before.window_begin) rotate_front(head, after, rope, angles);
}

void Window::rotate_front(Head &head, const View &view, const Rope &rope, const FrontAngles &angles) {
  const int64_t half = rope.dimensions / 2;
  float key[kMostHeadSize], rotated[kMostHeadSize];
  for (int64_t i = 0; i < view.front(); ++i) {
    const float *raw = head.sink_keys + i * shape_.key_size;
    if (const int64_t kept = i - view.sinks; kept >= 0)
      load(shape_.type, head.kept + kept * key_bytes(), shape_.key_size, key), raw = key;
    rope.apply(raw, shape_.key_size, angles.cosine.data() + i * half, angles.sine.data() + i * half, 1, rotated);
    head.keys.put(i, rotated);
    if (i < view.sinks) head.values.put(i, head.sink_values + i * shape_.value_size);
  }
}

std::vector<float> Window::kept(const View &view) const {
  const int64_t head_size = shape_.key_size + shape_.value_size, stride = shape_.kv_heads * head_size;
  std::vector<float> all(static_cast<size_t>(view.kept * stride));
  for (int64_t t = 0; t < view.kept; ++t) {
    float *to = all.data() + t * stride;
    for (const Head &head : heads_) {
      load(shape_.type, head.kept + t * key_bytes(), shape_.key_size, to);
      head.values.get(view.sinks + t, to + shape_.key_size);
      to += head_size;
    }
  }
  return all;
}

void Window::copy_sinks(const Head &from, Head &to) const {
  std::copy_n(from.sink_keys, int64_t{shape_.sinks} * shape_.key_size, to.sink_keys);
  std::copy_n(from.sink_values, int64_t{shape_.sinks} * shape_.value_size, to.sink_values);
}

Window Window::with_kept(const View &before, const View &after, const std::vector<float> &kept, const Rope &rope,
                         const FrontAngles &angles) const {
  const int64_t head_size = shape_.key_size + shape_.value_size, stride = shape_.kv_heads * head_size;
  Window other = empty_copy();
  other.settle(after);
  float key[kMostHeadSize], value[kMostHeadSize];
  for (size_t h = 0; h < heads_.size(); ++h) {
    const Head &from = heads_[h];
    Head &to = other.heads_[h];
    copy_sinks(from, to);
    if (from.raw) std::memcpy(to.raw, from.raw, static_cast<size_t>(before.open() * key_bytes()));
    for (int64_t t = 0; t < after.kept; ++t) {
      const float *const raw = kept.data() + t * stride + static_cast<int64_t>(h) * head_size;
      store(raw, shape_.key_size, shape_.type, to.kept + t * key_bytes());
      to.values.put(after.sinks + t, raw + shape_.key_size);
    }
    for (int64_t token = before.window_begin; token < before.position; ++token) {
      from.keys.get(before.index_of(token), key);
      from.values.get(before.index_of(token), value);
      to.keys.put(after.index_of(token), key);
      to.values.put(after.index_of(token), value);
    }
    other.rotate_front(to, after, rope, angles);
  }
  return other;
}

Panels Window::keys(int kv_head, int64_t begin, int64_t count) const {
  return heads_[kv_head].keys.panels(begin, count);
}

Panels Window::values(int kv_head, int64_t begin, int64_t count) const {
  return heads_[kv_head].values.panels(begin, count);
}

void Window::raw_keys(int kv_head, int64_t begin, int64_t count, float *keys) const {
  load(shape_.type, heads_[kv_head].raw + begin * key_bytes(), count * shape_.key_size, keys);
}

void Window::raw_values(int kv_head, int64_t index, int64_t count, float *values) const {
  heads_[kv_head].values.to_floats(index, count, values);
}

}  // namespace infini
