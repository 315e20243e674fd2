// Reads everything of a GGUF file that may be bad, for the fuzzers.
#pragma once

#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "format/gguf.h"

namespace fuzz {

// Whether the file was accepted; then every key has gone through every accessor, and every tensor was unpacked.
// Lets any exception through that a bad file must not cause.
inline bool touch_gguf(std::span<const std::byte> bytes) {
  using namespace infini;
  const auto is_refusal = [](Status status) {
    return status == Status::FORMAT || status == Status::TRUNCATED || status == Status::VERSION ||
           status == Status::UNSUPPORTED;
  };
  const auto attempt = [&](const auto &action) {
    try {
      action();
    } catch (const Error &error) {
      if (!is_refusal(error.status()) || std::string(error.what()).empty()) throw;
      return false;
    }
    return true;
  };

  Gguf gguf;
  if (!attempt([&] { gguf = Gguf::parse(bytes, "fuzzed"); })) return false;
  volatile double sink = 0;
  for (const auto &entry : gguf.entries()) {
    const std::string &key = entry.first;
    if (gguf.find(key) != &entry.second) throw std::logic_error("a key finds another value");
    attempt([&] { sink = sink + static_cast<double>(gguf.get_int(key)); });
    attempt([&] { sink = sink + gguf.get_double(key); });
    attempt([&] { sink = sink + static_cast<double>(gguf.get_string(key).size()); });
    attempt([&] { sink = sink + static_cast<double>(gguf.get_string(key, "").size()); });
    attempt([&] { sink = sink + gguf.get_bool(key, false); });
    attempt([&] {
      for (const std::string &text : gguf.get_strings(key)) sink = sink + static_cast<double>(text.size());
    });
    attempt([&] {
      for (const double number : gguf.get_doubles(key)) sink = sink + number;
    });
    attempt([&] {
      for (const int64_t number : gguf.get_ints(key)) sink = sink + static_cast<double>(number);
    });
  }
  std::vector<float> values;
  for (const GgufTensor &tensor : gguf.tensors()) {
    if (gguf.find_tensor(tensor.name) != &tensor) throw std::logic_error("a name finds another tensor");
    values.resize(static_cast<size_t>(tensor.elements()));
    unpack(tensor.type, tensor.data.data(), tensor.elements(), values.data());
    sink = sink + values.back();
  }
  return true;
}

}  // namespace fuzz
