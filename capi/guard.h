// What every C function stands on: the handles, one guard around its body, and buffers that the caller owns.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/options.h"
#include "base/status.h"
#include "base/task.h"
#include "model/model.h"
#include "stream/batch.h"
#include "stream/session.h"
#include "text/utf8.h"

#include <infini/infini_train.h>

// Text that a pull call gives once: it waits here until the caller's buffer takes it.
struct WaitingText {
  std::string text;
  bool waiting = false;
  void put(std::string given) { text = std::move(given), waiting = true; }
  void drop() { text.clear(), waiting = false; }
};

struct infini_options {
  infini::Options value;
};

struct infini_task {
  infini::Task value;
};

struct infini_model {
  std::shared_ptr<const infini::Model> value;
};

struct infini_session {
  std::shared_ptr<infini::Session> value;  // a batch may keep it longer than the handle
};

struct infini_batch {
  infini::Batch value;
};

struct infini_text_stream {
  infini::TextStream value;
  WaitingText next;
};

namespace infini::capi {

// Turns the exception in flight into a status and this thread's message.
infini_status translate_exception() noexcept;

// Runs the body of a C function, which returns nothing (OK) or a status; nothing leaves it but a status.
template <class Body>
infini_status guard(const Body &body) noexcept {
  try {
    if constexpr (std::is_void_v<std::invoke_result_t<Body>>) {
      body();
      return INFINI_OK;
    } else {
      return body();
    }
  } catch (...) { return translate_exception(); }
}

// The object behind a pointer that must not be NULL.
template <class T>
T &need(T *pointer, const char *name) {
  if (!pointer) fail(Status::INVALID_ARGUMENT, name, " is NULL");
  return *pointer;
}

// An array or text of the caller: NULL only with length 0.
template <class T>
std::span<T> need_array(T *data, size_t size, const char *name) {
  if (!data && size > 0) fail(Status::INVALID_ARGUMENT, name, " is NULL, but its length is ", size);
  return {data, size};
}
inline std::string_view need_text(const char *text, size_t size) {
  const std::span<const char> bytes = need_array(text, size, "text");
  return {bytes.data(), bytes.size()};
}

// Flags of the caller: none but the `known` ones may be set.
inline int need_flags(int flags, int known) {
  if (flags & ~known)
    fail(Status::INVALID_ARGUMENT, "flags is ", flags, ", but this call knows only the bits of ", known);
  return flags;
}

// What a handle stands for; a task may be NULL.
inline Task *of(infini_task *task) { return task ? &task->value : nullptr; }
inline const Model &of(const infini_model *model) { return *need(model, "model").value; }
inline Session &of(infini_session *session) { return *need(session, "session").value; }
inline const Session &of(const infini_session *session) { return *need(session, "session").value; }
inline Batch &of(infini_batch *batch) { return need(batch, "batch").value; }
inline const Batch &of(const infini_batch *batch) { return need(batch, "batch").value; }
inline Options options_for(OptionTaker taker, const infini_options *options) {
  if (options) options->value.check_for(taker);
  return options ? options->value : Options();
}

// An out-parameter that receives a handle: NULL until everything has succeeded.
template <class Handle, class Make>
infini_status give_handle(Handle **out, const char *name, const Make &make) noexcept {
  if (out) *out = nullptr;
  return guard([&] {
    need(out, name);
    *out = new Handle(make());
  });
}

// Whether up to `most` elements are to be written, by the header's rule for buffers: false where only their number is
// asked for.
template <class T>
bool need_room(size_t most, T *buffer, size_t capacity, size_t *size) {
  need_array(buffer, capacity, "buffer");
  if (size) *size = most;
  if (buffer && capacity < most)
    fail(Status::BUFFER_TOO_SMALL, "the buffer holds ", capacity, " elements, but ", most, " are needed");
  return buffer;
}

// Whether a call is to do its work, by the header's rule for work.
template <class T>
bool need_work(size_t most, T *buffer, size_t capacity, size_t *size) {
  return need_room(most, buffer, capacity, size) || most == 0;
}

// Copies values out by the header's rule for buffers. True: they were delivered, not only counted.
template <class T>
bool give(std::span<const T> values, T *buffer, size_t capacity, size_t *size) {
  if (!need_room(values.size(), buffer, capacity, size)) return false;
  std::copy(values.begin(), values.end(), buffer);
  if constexpr (std::is_same_v<T, char>)
    if (capacity > values.size()) buffer[values.size()] = 0;
  return true;
}
inline bool give_text(std::string_view text, char *buffer, size_t capacity, size_t *size) {
  return give(std::span<const char>(text.data(), text.size()), buffer, capacity, size);
}

// The same for a text that is given once; `refill` puts the next one or returns false at the end.
template <class Refill>
infini_status give_once(WaitingText &next, char *buffer, size_t capacity, size_t *size, const Refill &refill) {
  need_array(buffer, capacity, "buffer");
  if (!next.waiting && !refill()) {
    give_text("", buffer, capacity, size);
    return INFINI_END;
  }
  if (give_text(next.text, buffer, capacity, size)) next.drop();
  return INFINI_OK;
}

}  // namespace infini::capi
