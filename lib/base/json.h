// JSON that somebody else wrote, and JSON as text.
#pragma once

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/status.h"

namespace infini {

// Throws `status`, with the name of the text, where it is no JSON or is nested deeper than 32: what goes through values
// recurses, and must not run out of stack.
template <class Json = nlohmann::json>
Json parse_json(std::string_view text, Status status, const std::string &name) {
  constexpr int kDeepest = 32;
  const auto shallow = [&](int depth, typename Json::parse_event_t, Json &) {
    if (depth > kDeepest) fail(status, name, " is JSON nested deeper than ", kDeepest);
    return true;
  };
  try {
    return Json::parse(text, shallow);
  } catch (const typename Json::exception &error) {
    // The parser quotes what it read, which may be anything.
    std::string reason = error.what();
    std::replace_if(
        reason.begin(), reason.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    fail(status, name, " is not JSON: ", reason);
  }
}

// Whether the value can become a T without a number that T cannot hold.
template <class T>
bool fits(const nlohmann::json &value) {
  if constexpr (std::is_same_v<T, uint64_t>) return value.is_number_unsigned();
  else if constexpr (std::is_same_v<T, int64_t>)
    return value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX);
  else return true;
}

// A member of a file's JSON, in the type that it must have.
template <class T>
T member(const nlohmann::json &object, const char *name, const std::string &file) {
  try {
    const nlohmann::json &value = object.at(name);
    if (fits<T>(value)) return value.get<T>();
  } catch (const nlohmann::json::exception &) {}
  fail(Status::FORMAT, file, ": the header lacks '", name, "', or it has another type than it should");
}

// Bytes that are not UTF-8 become U+FFFD.
template <class Json>
std::string text_of(const Json &value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace infini
