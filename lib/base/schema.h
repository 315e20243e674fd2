// Settings that say once what they are. A struct shows its fields to whoever visits them,
//
//   template <class Visitor> void fields(Visitor &v) {
//     // numbers, lists of them, pairs (std::tie): a closed range
//     v("rate", rate, 0, 10, "learning rate of Muon");
//     // texts, enums in this order, lists of texts; "": any text
//     v("part", part, "attention|gates|lora|all", "what is trained");
//     // a number for which a text may stand: minus infinity
//     v("gate", gate, "-inf", -100, 100, "beta of every head");
//     // flags, structs with fields, lists of such, or maps by name; any JSON
//     v("tied", tied, "the output layer is the embedding");
//     // any JSON that is an object of one of several types: a function that gives their tables by name
//     v("data", data, describe_sources, "what is read");
//     // rows: see RowOf; the columns that must be there
//     v("gates", gates, 3, "[layer, head, beta]", "set before training");
//     // what must be there, of whatever sort; a list with one at least
//     v.required("files", files, "", "which are read");
//   }
//   // optional: how messages name the struct, wherever it stands
//   static constexpr const char *kName = "train";
//   // optional: refuses fields that do not fit each other, and sets what follows from them
//   void complete(const Fields &given);
//
// A file of our own may also hold what was measured (measured.h), and any field that may be missing, a std::optional:
//
//     v("gates", gates);
//     v("found", found, "");
//
// and reading from JSON with checks, writing, refusing what is unknown, describing and comparing follow.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "base/fields.h"
#include "base/measured.h"
#include "base/options.h"
#include "base/status.h"
#include "base/write_fields.h"

namespace infini {

// --- reading

// Reads fields that an object has; others keep their values. INVALID_ARGUMENT names the field and what is allowed.
class ReadFields {
 public:
  ReadFields(const nlohmann::json &object, std::string where) : fields_(object, std::move(where)) {}

  // What the value is where the object does not say it.
  template <class T>
  void otherwise(T &value, const T &standard) {
    value = standard;
  }
  template <class T, class... About>
  void required(const char *name, T &value, const About &...about) {
    (*this)(name, value, about...);
    constexpr bool is_list = (requires { typename T::value_type; }) && !Choice<T>;
    bool there = fields_.has(name);
    if constexpr (is_list) there &= !value.empty();
    if (there || !lacking_.empty()) return;
    lacking_ = fields_.path(name) + (is_list ? " must be a list with one at least" : " is missing");
  }

  template <Number T>
  void operator()(const char *name, T &value, double least, double greatest, const char *) {
    if constexpr (std::is_integral_v<T>)
      value = static_cast<T>(fields_.whole(name, static_cast<int64_t>(value), whole(least), whole(greatest)));
    else value = fields_.number(name, value, least, greatest);
  }
  void operator()(const char *name, double &value, const char *infinite, double least, double greatest, const char *) {
    const nlohmann::json *const given = fields_.find(name);
    if (given && is_text(*given, infinite)) value = -std::numeric_limits<double>::infinity();
    else if (given && !given->is_number()) fields_.refuse(name, cat("a number or \"", infinite, "\""));
    else value = fields_.number(name, value, least, greatest);
  }
  template <Number T>
  void operator()(const char *name, std::vector<T> &values, double least, double greatest, const char *) {
    if (const nlohmann::json *const list = fields_.find(name)) values = numbers<T>(name, *list, least, greatest, "");
  }
  template <Number T>
  void operator()(const char *name, const std::tuple<T &, T &> &pair, double least, double greatest, const char *) {
    const nlohmann::json *const list = fields_.find(name);
    if (!list) return;
    const std::vector<T> two = numbers<T>(name, *list, least, greatest, "2 ");
    std::get<0>(pair) = two[0];
    std::get<1>(pair) = two[1];
  }
  template <Choice T>
  void operator()(const char *name, T &value, const char *choices, const char *) {
    if (const nlohmann::json *const given = fields_.find(name)) value = chosen<T>(name, *given, choices);
  }
  void operator()(const char *name, std::vector<std::string> &values, const char *choices, const char *) {
    if (!fields_.find(name)) return;
    values = fields_.texts(name);
    for (const std::string &value : values)
      if (*choices && !is_choice(value, choices)) fields_.refuse(name, cat("some of ", listed(choices)));
  }
  void operator()(const char *name, bool &value, const char *) { value = fields_.flag(name, value); }
  void operator()(const char *name, JsonText &value, const char *) {
    if (const nlohmann::json *const given = fields_.find(name)) value = {text_of(*given)};
  }
  void operator()(const char *name, JsonText &value, DescribeTypes, const char *help) { (*this)(name, value, help); }
  template <Settings T>
  void operator()(const char *name, T &value, const char *) {
    if (const nlohmann::json *const given = fields_.find(name)) value = read<T>(*given, fields_.path(name), value);
  }
  template <Settings T>
  void operator()(const char *name, std::map<std::string, T> &values, const char *) {
    const nlohmann::json *const given = fields_.find(name);
    if (!given) return;
    if (!given->is_object()) fields_.refuse(name, "an object of objects");
    values.clear();
    for (const auto &[key, item] : given->items())
      values.emplace(key, read<T>(item, cat(fields_.path(name), ".", key), {}));
  }
  template <Settings T>
  void operator()(const char *name, std::vector<T> &values, const char *) {
    const nlohmann::json *const list = fields_.find(name);
    if (!list) return;
    if (!list->is_array()) fields_.refuse(name, "a list of objects");
    values.clear();
    for (const nlohmann::json &item : *list)
      values.push_back(read<T>(item, cat(fields_.path(name), "[", values.size(), "]"), {}));
  }
  template <RowOf T>
  void operator()(const char *name, std::vector<T> &rows, size_t least, const char *shape, const char *) {
    const nlohmann::json *const list = fields_.find(name);
    if (!list) return;
    const auto refuse = [&] {
      fields_.refuse(name, cat("a list of ", shape,
                               ": whole numbers from 0, or -1 for all; others from -10000 to 10000, or null"));
    };
    if (!list->is_array()) refuse();
    rows.clear();
    for (const nlohmann::json &given : *list) {
      T row{};
      constexpr size_t columns = std::tuple_size_v<decltype(row.columns())>;
      if (!given.is_array() || given.size() < least || given.size() > columns || !read_row(given, row.columns()))
        refuse();
      rows.push_back(row);
    }
  }

  template <class T>
  void operator()(const char *name, T &measured) {
    const nlohmann::json *const given = fields_.find(name);
    if (given && !read_measured(*given, measured)) fields_.refuse(name, "numbers or null, or lists of them");
  }
  template <class T, class... About>
  void operator()(const char *name, std::optional<T> &value, const About &...about) {
    const nlohmann::json *const given = fields_.find(name);
    value.reset();
    if (given && !given->is_null()) (*this)(name, value.emplace(), about...);
  }
  // Refuses what was not asked for, and what is missing though it must be there.
  void finish() const {
    fields_.finish();
    if (!lacking_.empty()) fail(Status::INVALID_ARGUMENT, lacking_);
  }

  template <class T>
  static T read(const nlohmann::json &object, std::string where, T settings) {
    if constexpr (requires { T::kName; }) where = T::kName;
    ReadFields reader(object, where);
    settings.fields(reader);
    reader.finish();
    if constexpr (requires { settings.complete(reader.fields_); }) settings.complete(reader.fields_);
    return settings;
  }

 private:
  static int64_t whole(double bound) {
    return bound >= 0x1p63 ? std::numeric_limits<int64_t>::max() : static_cast<int64_t>(bound);
  }

  template <class T>
  T chosen(const char *name, const nlohmann::json &given, const char *choices) {
    if (!given.is_string()) fields_.refuse(name, "a text");
    const std::string text = given;
    const size_t index = choice_index(choices, text);
    if (*choices && index == SIZE_MAX) fields_.refuse(name, listed(choices));
    if constexpr (std::is_enum_v<T>) return static_cast<T>(index);
    else return text;
  }

  template <class T>
  std::vector<T> numbers(const char *name, const nlohmann::json &list, double least, double greatest,
                         const char *count) {
    const auto refuse = [&] {
      if constexpr (std::is_integral_v<T>)
        fields_.refuse(name, cat("a list of ", count, "whole numbers from ", whole(least), " to ", whole(greatest)));
      else fields_.refuse(name, cat("a list of ", count, "numbers from ", least, " to ", greatest));
    };
    if (!list.is_array() || (*count && list.size() != 2)) refuse();
    std::vector<T> out;
    for (const nlohmann::json &item : list) {
      const bool is_one = std::is_integral_v<T> ? fits<int64_t>(item) : item.is_number();
      if (!is_one || !(item.get<double>() >= least && item.get<double>() <= greatest)) refuse();
      out.push_back(item.get<T>());
    }
    return out;
  }

  template <class... Columns>
  static bool read_row(const nlohmann::json &given, const std::tuple<Columns &...> &columns) {
    size_t at = 0;
    const auto read_one = [&]<class T>(T &to) {
      if (at == given.size()) return true;
      const nlohmann::json &value = given[at++];
      if constexpr (std::is_integral_v<T>) {
        if (!fits<int64_t>(value) || value < -1 || value > 1000000) return false;
      } else {
        if (value.is_null()) return to = -std::numeric_limits<T>::infinity(), true;
        if (!value.is_number() || !(std::abs(value.get<double>()) <= 1e4)) return false;
      }
      to = value.get<T>();
      return true;
    };
    return std::apply([&](Columns &...column) { return (read_one(column) && ...); }, columns);
  }

  Fields fields_;
  std::string lacking_;  // what is wrong with the first field that must be there, and is not
};

// `settings`: what they are where the object does not say otherwise. `where` names the object in messages.
template <class T>
T read_settings(const nlohmann::json &object, const std::string &where, T settings = {}) {
  return ReadFields::read<T>(object, where, std::move(settings));
}
// The same of text.
template <class T>
T parse_settings(std::string_view text, const std::string &where) {
  return read_settings<T>(*parse_json(text, Status::INVALID_ARGUMENT, where), where);
}

// --- describing

// A table of the fields: [{"name", "type", "default", "least", "greatest", "choices", "help"}, ...], as of options.
//
//   "int", "double"    from "least" to "greatest", or the text "or"; "ints", "doubles": lists of such, of "length"
//                      where it must be one
//   "string"           one of "choices", a list, where there are any; "strings": lists of such
//   "bool", "json"
//   "rows"             lists of lists of numbers, as "shape" says
//   "object"           of "fields", a table as this one, or of one of "types", by name; "objects": lists of such;
//                      "map": an object of such, by names that are free
//
// "required" is true of what must be there.
class DescribeFields {
 public:
  template <class T>
  void operator()(const char *name, const T &value, double least, double greatest, const char *help) {
    add(number(name, value, least, greatest), help);
  }
  void operator()(const char *name, const double &value, const char *infinite, double least, double greatest,
                  const char *help) {
    add(number(name, value, least, greatest), help, infinite);
  }
  template <class T>
  void operator()(const char *name, const T &value, const char *choices, const char *help) {
    JsonObject row = field(name, "string", !Choice<T>);
    row.add("default", WriteFields::written(value, choices));
    if (*choices) row.add("choices", choices_json(choices));
    add(std::move(row), help);
  }
  template <class T>
  void operator()(const char *name, const T &value, const char *help) {
    if constexpr (Settings<T>) {
      add(field(name, "object", false).add("fields", describe_settings(value)), help);
    } else if constexpr (Settings<typename Element<T>::type>) {
      JsonObject row = Element<T>::is_list ? field(name, "object", true) : field(name, "map", false);
      row.add("default", WriteFields::written(value));
      add(row.add("fields", describe_settings(typename Element<T>::type())), help);
    } else {
      add(field(name, std::is_same_v<T, bool> ? "bool" : "json", false).add("default", value), help);
    }
  }
  template <RowOf T>
  void operator()(const char *name, const std::vector<T> &rows, size_t, const char *shape, const char *help) {
    add(field(name, "row", true).add("default", WriteFields::written(rows)).add("shape", shape), help);
  }
  void operator()(const char *name, const JsonText &, DescribeTypes types, const char *help) {
    add(field(name, "object", false).add("types", types()), help);
  }
  template <class T, class... About>
  void required(const char *name, const T &value, const About &...about) {
    required_ = true;
    (*this)(name, value, about...);
    required_ = false;
  }
  template <class T>
  void otherwise(T &, const T &) {}

  template <class T>
  static JsonText describe_settings(T settings) {
    DescribeFields describer;
    settings.fields(describer);
    return describer.table.json();
  }

  const char *scope = nullptr;  // of options
  JsonList table;

 private:
  static JsonText choices_json(const char *choices);
  // Bounds of 2^62 and more, which stand for none, are left out.
  static void add_range(JsonObject &row, bool is_whole, double least, double greatest);
  template <class T>
  struct Element {
    using type = T;
    static constexpr bool is_list = false;
  };
  template <class T>
  struct Element<std::vector<T>> {
    using type = T;
    static constexpr bool is_list = true;
  };
  template <class T>
  struct Element<std::map<std::string, T>> {
    using type = T;
    static constexpr bool is_list = false;
  };
  template <class T>
  struct Element<std::tuple<T &, T &>> {
    using type = T;
    static constexpr bool is_list = true;
  };

  template <class T>
  JsonObject number(const char *name, const T &value, double least, double greatest) const {
    constexpr bool is_whole = std::is_integral_v<typename Element<T>::type>;
    JsonObject row = field(name, is_whole ? "int" : "double", Element<T>::is_list);
    row.add("default", value);
    if constexpr (requires { std::get<1>(value); }) row.add("length", 2);
    add_range(row, is_whole, least, greatest);
    return row;
  }
  JsonObject field(const char *name, const char *type, bool list) const {
    JsonObject row;
    row.add("name", name);
    if (scope) row.add("scope", scope);
    row.add("type", list ? std::string(type) + "s" : type);
    return row;
  }
  void add(JsonObject row, const char *help, const char *infinite = nullptr) {
    row.add("help", help);
    if (infinite) row.add("or", infinite);
    if (required_) row.add("required", true);
    table.add(row);
  }

  bool required_ = false;
};

template <class T>
JsonText describe_settings(T settings = {}) {
  return DescribeFields::describe_settings(std::move(settings));
}
// The same of all options, each with its "scope".
JsonText describe_options();

// --- comparing

// The fields of `now` that `before` lacks, or has with another value: ' "rate" was 1 and is 2;'.
std::string differences(const nlohmann::json &before, const nlohmann::json &now);

}  // namespace infini
