// The C interface's handles, statuses and buffers as C++ values.
#pragma once

#include <infini/infini_train.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace cli {

// The call was cancelled, as every call is after an interrupt.
struct Cancelled : std::runtime_error {
  Cancelled() : std::runtime_error("cancelled") {}
};

// The library does not take what it was given.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void check(infini_status status) {
  if (status == INFINI_CANCELLED) throw Cancelled();
  if (status == INFINI_INVALID_ARGUMENT) throw Refused(infini_last_error());
  if (status != INFINI_OK) throw std::runtime_error(infini_last_error());
}

template <class T, void (*release)(T *)>
struct Release {
  void operator()(T *handle) const { release(handle); }
};
template <class T, void (*release)(T *)>
using Handle = std::unique_ptr<T, Release<T, release>>;

using Model = Handle<infini_model, infini_model_free>;
using Session = Handle<infini_session, infini_session_free>;
using Batch = Handle<infini_batch, infini_batch_free>;
using Options = Handle<infini_options, infini_options_free>;
using Trainer = Handle<infini_trainer, infini_trainer_free>;
using Adaptation = Handle<infini_adaptation, infini_adaptation_free>;
using Task = Handle<infini_task, infini_task_free>;
using TextStream = Handle<infini_text_stream, infini_text_stream_free>;

// make<Session>(infini_session_create, model, options): the handle that the function's last parameter receives.
template <class Made, class Function, class... Arguments>
Made make(Function function, Arguments... arguments) {
  typename Made::pointer handle = nullptr;
  check(function(arguments..., &handle));
  return Made(handle);
}

// The single value that a function's last parameter receives.
template <class Value, class Function, class... Arguments>
Value value_of(Function function, Arguments... arguments) {
  Value value{};
  check(function(arguments..., &value));
  return value;
}

// Everything that a function with last parameters (buffer, capacity, size) writes.
template <class Buffer = std::string, class Function, class... Arguments>
Buffer all_of(Function function, Arguments... arguments) {
  size_t size = 0;
  check(function(arguments..., nullptr, 0, &size));
  Buffer buffer(size, {});
  check(function(arguments..., buffer.data(), buffer.size(), &size));
  buffer.resize(size);
  return buffer;
}

}  // namespace cli
