// What was measured, in JSON as json_of() writes it: numbers of any size, null where they are not finite or not there,
// and lists of them. read_measured() is false for anything else.
#pragma once

#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

namespace infini {

inline bool read_measured(const nlohmann::json &given, double &value) {
  if (!given.is_number() && !given.is_null()) return false;
  value = given.is_null() ? std::numeric_limits<double>::quiet_NaN() : given.get<double>();
  return true;
}
inline bool read_measured(const nlohmann::json &given, std::optional<double> &value) {
  value.reset();
  return given.is_null() || read_measured(given, value.emplace());
}
template <class T>
bool read_measured(const nlohmann::json &given, std::vector<T> &values) {
  if (!given.is_array()) return false;
  values.clear();
  for (const nlohmann::json &item : given)
    if (!read_measured(item, values.emplace_back())) return false;
  return true;
}

}  // namespace infini
