// What tests of sessions share: options in a line, and text that is taken as it comes.
#pragma once

#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>

#include "stream/session.h"

namespace test {

using Values = std::initializer_list<std::pair<const char *, infini::OptionValue>>;

inline infini::Options options_of(Values values) {
  infini::Options options;
  for (const auto &[name, value] : values)
    std::visit([&, option = name](const auto &v) { options.set(option, v); }, value);
  return options;
}

// Options of a model that computes in f32 or bf16; behind a slash, what its window is: "f32/int8".
inline infini::Options computing(const std::string &how) {
  infini::Options options;
  options.set("compute", how.substr(0, how.find('/')));
  if (const size_t slash = how.find('/'); slash != std::string::npos) options.set("window_type", how.substr(slash + 1));
  return options;
}

// OK, or with which status a call fails, and what it says.
inline infini::Status status_of(const std::function<void()> &call, std::string *message = nullptr) {
  try {
    call();
  } catch (const infini::Error &error) {
    if (message) *message = error.what();
    return error.status();
  }
  return infini::Status::OK;
}

inline std::optional<std::string> next_text(infini::Session &session) {
  const std::string *ready = session.ready_text();
  if (!ready) return std::nullopt;
  std::string text = *ready;
  session.drop_text();
  return text;
}

}  // namespace test
