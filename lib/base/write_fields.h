// Settings as JSON: what a setting may be, and what a struct of them writes. schema.h says how such a struct looks.
#pragma once

#include <cmath>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>

#include "base/json.h"

namespace infini {

class ReadFields;

template <class T>
concept Number = std::is_arithmetic_v<T> && !std::is_same_v<T, bool>;
template <class T>
concept Settings = requires(T settings, ReadFields &reader) {
  settings.fields(reader);
};
template <class T>
concept Choice = std::is_same_v<T, std::string> || std::is_enum_v<T>;
// The tables of the types that an object may be of, by name.
using DescribeTypes = JsonObject (*)();
// A struct with columns(), a std::tie of its numbers. In JSON it is a list of them: whole numbers of -1 (all) to a
// million, other numbers of -10,000 to 10,000, null for minus infinity. Those at its end may be left out.
template <class T>
concept RowOf = requires(T row) {
  row.columns();
};

// --- the choices of a text or an enum, "a|b|c"

// a, b or c
std::string listed(const char *choices);
size_t count_choices(const char *choices);
std::string choice_at(const char *choices, size_t index);
// SIZE_MAX where it is none of them.
size_t choice_index(const char *choices, const std::string &text);

// --- values as JSON

template <class T>
JsonObject settings_json(T settings);

class WriteFields {
 public:
  template <class T, class... About>
  void operator()(const char *name, const T &value, const About &...about) {
    object.add(name, written(value, about...));
  }
  template <class T, class... About>
  void required(const char *name, const T &value, const About &...about) {
    (*this)(name, value, about...);
  }
  template <class T>
  void otherwise(T &, const T &) {}
  JsonObject object;

  template <class T, class... About>
  static JsonText written(const T &value, const About &...about) {
    if constexpr (std::is_enum_v<T>) {
      return json_of(choice_at(first_text(about...), static_cast<size_t>(value)));
    } else if constexpr (RowOf<T>) {
      T copy = value;
      return json_of(copy.columns());  // an infinite number is written as null
    } else if constexpr (Settings<T>) {
      return settings_json(value).json();
    } else if constexpr (requires { typename T::mapped_type; }) {
      JsonObject object;
      for (const auto &[name, item] : value) object.add(name, written(item));
      return object.json();
    } else if constexpr (requires {
                           typename T::allocator_type;
                           typename T::value_type;
                         } &&
                         !Choice<T>) {
      JsonList list;
      for (const auto &item : value) list.add(written(item, about...));
      return list.json();
    } else {
      if constexpr (std::is_floating_point_v<T>)
        if (first_text(about...) && std::isinf(value)) return json_of(first_text(about...));
      return json_of(value);
    }
  }

 private:
  static const char *first_text(...) { return nullptr; }
  template <class... About>
  static const char *first_text(const char *text, const About &...) {
    return text;
  }
};

template <class T>
JsonObject settings_json(T settings) {
  WriteFields writer;
  settings.fields(writer);
  return std::move(writer.object);
}

}  // namespace infini
