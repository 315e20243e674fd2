// Settings that say once what they are. A struct lists its fields to whoever visits them,
//
//   template <class Visitor> void fields(Visitor &v) {
//     v("rate", rate, 0, 10, "learning rate of Muon");
//     v("part", part, "attention|gates|lora|all", "what is trained");
//     v("texts", texts, "files to train on");
//   }
//
// and reading from JSON with checks, refusing what is unknown, and describing follow.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "base/fields.h"
#include "base/options.h"
#include "base/status.h"

namespace infini {

// Reads fields that an object has; others keep their values. INVALID_ARGUMENT names the field and what is allowed.
class ReadFields {
 public:
  ReadFields(const nlohmann::json &object, std::string where) : fields_(object, std::move(where)) {}

  template <class Number>
  void operator()(const char *name, Number &value, double least, double greatest,
                  const char *) requires std::is_arithmetic_v<Number> {
    if constexpr (std::is_integral_v<Number>)
      value =
          static_cast<Number>(fields_.whole(name, value, static_cast<int64_t>(least), static_cast<int64_t>(greatest)));
    else value = fields_.number(name, value, least, greatest);
  }
  void operator()(const char *name, std::string &value, const char *choices, const char *) {
    value = fields_.text(name, value);
    if (*choices && !is_choice(value, choices)) fields_.refuse(name, cat("one of ", choices));
  }
  void operator()(const char *name, std::vector<std::string> &value, const char *) {
    if (fields_.has(name)) value = fields_.texts(name);
  }
  void operator()(const char *name, std::vector<int64_t> &value, double least, double greatest, const char *) {
    const nlohmann::json *const list = fields_.find(name);
    if (!list) return;
    value.clear();
    const std::string expected =
        cat("a list of whole numbers from ", static_cast<int64_t>(least), " to ", static_cast<int64_t>(greatest));
    if (!list->is_array()) fields_.refuse(name, expected);
    for (const nlohmann::json &item : *list) {
      if (!fits<int64_t>(item) || static_cast<double>(item.get<int64_t>()) < least ||
          static_cast<double>(item.get<int64_t>()) > greatest)
        fields_.refuse(name, expected);
      value.push_back(item.get<int64_t>());
    }
  }
  void finish() const { fields_.finish(); }

 private:
  Fields fields_;
};

// A table of the fields: [{"name", "type", "default", "least", "greatest" or "choices", "help"}, ...].
class DescribeFields {
 public:
  template <class Value>
  void operator()(const char *name, const Value &value, double least, double greatest, const char *help) {
    const char *const type = !std::is_arithmetic_v<Value> ? "ints" : std::is_integral_v<Value> ? "int" : "double";
    table.push_back(
        {{"name", name}, {"type", type}, {"default", value}, {"least", least}, {"greatest", greatest}, {"help", help}});
  }
  void operator()(const char *name, const std::string &value, const char *choices, const char *help) {
    table.push_back({{"name", name}, {"type", "string"}, {"default", value}, {"choices", choices}, {"help", help}});
  }
  void operator()(const char *name, const std::vector<std::string> &value, const char *help) {
    table.push_back({{"name", name}, {"type", "strings"}, {"default", value}, {"help", help}});
  }
  nlohmann::ordered_json table = nlohmann::ordered_json::array();
};

template <class Settings>
Settings read_settings(const nlohmann::json &object, const std::string &where) {
  Settings settings;
  ReadFields reader(object, where);
  settings.fields(reader);
  reader.finish();
  return settings;
}
template <class Settings>
nlohmann::ordered_json describe_settings() {
  Settings settings;
  DescribeFields describer;
  settings.fields(describer);
  return describer.table;
}

}  // namespace infini
