#include "base/fields.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/status.h"

namespace infini {

using nlohmann::json;

Fields::Fields(const json &object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object.is_object()) fail(Status::INVALID_ARGUMENT, where_, " is not a JSON object");
}

const json *Fields::find(const char *name) {
  known_.push_back(name);
  const auto found = object_.find(name);
  return found == object_.end() ? nullptr : &*found;
}

void Fields::refuse(const char *name, const std::string &expected) const {
  if (!has(name)) fail(Status::INVALID_ARGUMENT, path(name), " is missing, but must be ", expected);
  std::string value = object_.at(name).dump(-1, ' ', true, json::error_handler_t::replace);
  if (value.size() > 64) value = value.substr(0, 64) + "...";
  fail(Status::INVALID_ARGUMENT, path(name), " is ", value, ", but must be ", expected);
}

int64_t Fields::whole(const char *name, int64_t standard, int64_t least, int64_t greatest) {
  const json *value = find(name);
  if (!value) return standard;
  if (!fits<int64_t>(*value) || value->get<int64_t>() < least || value->get<int64_t>() > greatest)
    refuse(name, cat("a whole number from ", least, " to ", greatest));
  return value->get<int64_t>();
}

double Fields::number(const char *name, double standard, double least, double greatest) {
  const json *value = find(name);
  if (!value) return standard;
  if (!value->is_number() || !(value->get<double>() >= least && value->get<double>() <= greatest))
    refuse(name, cat("a number from ", least, " to ", greatest));
  return value->get<double>();
}

bool Fields::flag(const char *name, bool standard) {
  const json *value = find(name);
  if (!value) return standard;
  if (!value->is_boolean()) refuse(name, "true or false");
  return value->get<bool>();
}

std::string Fields::text(const char *name, const std::string &standard) {
  const json *value = find(name);
  if (!value) return standard;
  if (!value->is_string()) refuse(name, "a text");
  return value->get<std::string>();
}

std::vector<std::string> Fields::texts(const char *name) {
  const json *value = find(name);
  if (!value) return {};
  if (!value->is_array() ||
      !std::all_of(value->begin(), value->end(), [](const json &item) { return item.is_string(); }))
    refuse(name, "a list of texts");
  return value->get<std::vector<std::string>>();
}

void Fields::finish() const {
  for (const auto &[name, value] : object_.items()) {
    if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
    std::string names;
    for (const std::string &known : known_) names += (names.empty() ? "" : ", ") + known;
    fail(Status::INVALID_ARGUMENT, where_, " has a field '",
         json(name).dump(-1, ' ', true, json::error_handler_t::replace), "', which is none of: ", names,
         did_you_mean(name, known_));
  }
}

std::string did_you_mean(const std::string &given, const std::vector<std::string> &names) {
  constexpr size_t kLongest = 64;  // longer than all names
  if (given.size() > kLongest) return "";
  size_t least = given.size() / 2 + 1;
  const std::string *nearest = nullptr;
  for (const std::string &name : names) {
    // Changes that make the beginning of `given` the first so many letters of `name` (Levenshtein).
    std::vector<size_t> changes(name.size() + 1);
    std::iota(changes.begin(), changes.end(), size_t{0});
    for (size_t i = 0; i < given.size(); ++i) {
      size_t diagonal = std::exchange(changes[0], i + 1);
      for (size_t k = 0; k < name.size(); ++k) {
        const size_t replaced = diagonal + (given[i] != name[k]);
        diagonal = changes[k + 1];
        changes[k + 1] = std::min({replaced, diagonal + 1, changes[k] + 1});
      }
    }
    if (changes.back() < least) least = changes.back(), nearest = &name;
  }
  return nearest ? "; did you mean '" + *nearest + "'?" : "";
}

}  // namespace infini
