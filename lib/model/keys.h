// Keys `ARCHITECTURE.name` of one file, checked as they are read.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "base/status.h"
#include "format/gguf.h"

namespace infini {

inline constexpr int64_t kLargestKey = std::numeric_limits<int32_t>::max();

inline int in_range(const std::string &what, int64_t value, int64_t least, int64_t greatest) {
  if (value < least || value > greatest)
    fail(Status::FORMAT, what, " is ", value, ", but must lie between ", least, " and ", greatest);
  return static_cast<int>(value);
}

inline double positive(const std::string &what, double value) {
  if (!(value > 0) || !std::isfinite(value))
    fail(Status::FORMAT, what, " is ", value, ", but must be positive and finite");
  return value;
}

struct Keys {
  const Gguf &gguf;
  std::string prefix;
  bool has(const std::string &name) const { return gguf.find(prefix + name) != nullptr; }
  int get(const std::string &name, int64_t least = 1) const {
    return in_range("key '" + prefix + name + "'", number(prefix + name), least, kLargestKey);
  }
  // A number, or a list that says the same one for every layer.
  int64_t number(const std::string &key) const {
    const GgufValue *value = gguf.find(key);
    if (!value || !std::holds_alternative<GgufArray>(*value)) return gguf.get_int(key);
    const std::vector<int64_t> numbers = gguf.get_ints(key);
    if (numbers.empty()) fail(Status::FORMAT, "key '", key, "' is an empty list");
    for (const int64_t other : numbers)
      if (other != numbers[0])
        fail(Status::UNSUPPORTED, "key '", key, "' differs from layer to layer (", numbers[0], ", ", other,
             "); this version knows models whose layers are alike in it");
    return numbers[0];
  }
  int get_or(const std::string &name, int64_t absent, int64_t least = 1) const {
    return has(name) ? get(name, least) : in_range("'" + prefix + name + "' (absent)", absent, least, kLargestKey);
  }
  double real(const std::string &name, double absent) const {
    return positive("key '" + prefix + name + "'", gguf.get_double(prefix + name, absent));
  }
  // A number that says "none" by zero.
  float real_or_none(const std::string &name, double absent) const {
    if (gguf.get_double(prefix + name, absent) == 0) return 0;
    return static_cast<float>(real(name, absent));
  }
};

}  // namespace infini
