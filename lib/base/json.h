// JSON that somebody else wrote, and JSON as text.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/status.h"

namespace infini {

// Takes JSON apart without asking for memory. Its own destructor asks for some, as soon as a list or an object holds
// anything, and ends the program where it gets none: so what is within goes first.
struct EmptyFirst {
  template <class Json>
  static void empty(Json &value) noexcept {
    if (value.is_array()) {
      auto &list = value.template get_ref<typename Json::array_t &>();
      for (; !list.empty(); list.pop_back()) empty(list.back());
    } else if (value.is_object()) {
      auto &object = value.template get_ref<typename Json::object_t &>();
      for (auto &[name, member] : object) empty(member);
      object.clear();
    }
  }
  template <class Json>
  void operator()(Json *value) const noexcept {
    empty(*value);
    delete value;
  }
};
template <class Json = nlohmann::json>
using OwnedJson = std::unique_ptr<Json, EmptyFirst>;

// Builds a value from a parser's events. The root owns all that was built at any time, also where memory ends.
template <class Json>
class JsonBuilder {
 public:
  JsonBuilder(Json &root, const std::function<void()> &too_deep) : root_(root), too_deep_(too_deep) {}
  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(int64_t value) { return add(value); }
  bool number_unsigned(uint64_t value) { return add(value); }
  bool number_float(double value, const std::string &) { return add(value); }
  bool string(std::string &value) { return add(std::move(value)); }
  bool binary(typename Json::binary_t &) { return false; }  // JSON has none
  bool key(std::string &name) {
    make_room(open_.back()->template get_ref<typename Json::object_t &>());
    member_ = &(*open_.back())[std::move(name)];
    return true;
  }
  bool start_object(size_t) { return open(Json::value_t::object); }
  bool start_array(size_t) { return open(Json::value_t::array); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool parse_error(size_t, const std::string &, const nlohmann::detail::exception &error) {
    reason = error.what();
    return false;
  }
  std::string reason;  // why it is no JSON

 private:
  // An object that is a list grows by copies of its members, and destroys the old ones, which must be empty then.
  template <class Object>
  static void make_room(Object &object) {
    if constexpr (requires { object.capacity(); }) {
      if (object.size() < object.capacity()) return;
      Object larger;
      larger.reserve(2 * object.size() + 8);
      for (const auto &[name, member] : object) larger.emplace_back(name, nullptr);
      auto to = larger.begin();
      for (auto &[name, member] : object) (to++)->second.swap(member);
      object.swap(larger);
    }
  }

  template <class Value>
  bool add(Value value) {
    slot() = std::move(value);
    return true;
  }
  // Where the next value goes.
  Json &slot() {
    constexpr size_t kDeepest = 32;
    if (open_.size() > kDeepest) too_deep_();
    if (open_.empty()) return root_;
    if (open_.back()->is_object()) {
      EmptyFirst::empty(*member_);  // a member of the same name may have come before
      return *member_;
    }
    return open_.back()->emplace_back();
  }
  bool open(typename Json::value_t type) {
    Json &begun = slot();
    begun = type;
    open_.push_back(&begun);
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  Json &root_, *member_ = nullptr;
  const std::function<void()> &too_deep_;
  std::vector<Json *> open_;
};

// Throws `status`, with the name of the text, where it is no JSON or is nested deeper than 32: what goes through values
// recurses, and must not run out of stack.
template <class Json = nlohmann::json>
OwnedJson<Json> parse_json(std::string_view text, Status status, const std::string &name) {
  OwnedJson<Json> json(new Json());
  const std::function<void()> too_deep = [&] { fail(status, name, " is JSON nested deeper than 32"); };
  JsonBuilder<Json> builder(*json, too_deep);
  if (Json::sax_parse(text, &builder)) return json;
  // The parser quotes what it read, which may be anything.
  std::replace_if(
      builder.reason.begin(), builder.reason.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  fail(status, name, " is not JSON: ", builder.reason);
}

// Whether the value can become a T without a number that T cannot hold.
template <class T>
bool fits(const nlohmann::json &value) {
  if constexpr (std::is_same_v<T, uint64_t>) return value.is_number_unsigned();
  else if constexpr (std::is_same_v<T, int64_t>)
    return value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX);
  else return true;
}

// Its own == with a literal makes a value of that, and ends the program where memory ends.
inline bool is_text(const nlohmann::json &value, std::string_view text) {
  return value.is_string() && value.get_ref<const std::string &>() == text;
}

// A member of a file's JSON, as it is.
inline const nlohmann::json &member(const nlohmann::json &object, const char *name, const std::string &file) {
  if (object.is_object())
    if (const auto found = object.find(name); found != object.end()) return *found;
  fail(Status::FORMAT, file, ": the header lacks '", name, "'");
}

// The same, in the type that it must have.
template <class T>
T member(const nlohmann::json &object, const char *name, const std::string &file) {
  try {
    const nlohmann::json &value = object.at(name);
    if (fits<T>(value)) return value.get<T>();
  } catch (const nlohmann::json::exception &) {}
  fail(Status::FORMAT, file, ": the header lacks '", name, "', or it has another type than it should");
}

// For what an older version wrote: a member of that name, where there is one, gets the name of today.
inline void rename_member(nlohmann::json &object, const std::string &old, const char *now) {
  if (!object.is_object()) return;
  auto &members = object.get_ref<nlohmann::json::object_t &>();
  auto found = members.extract(old);
  if (found.empty()) return;
  found.key() = now;
  members.insert(std::move(found));
}

// Bytes that are not UTF-8 become U+FFFD.
template <class Json>
std::string text_of(const Json &value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// JSON as text. It is written from its beginning to its end, so that nothing is built that must be taken apart again.
struct JsonText {
  std::string text;
};
template <class T>
JsonText json_of(const T &value);

class JsonList {
 public:
  template <class T>
  JsonList &add(const T &value) {
    text_ += text_.empty() ? "" : ",";
    text_ += json_of(value).text;
    return *this;
  }
  JsonText json() const { return {"[" + text_ + "]"}; }

 private:
  std::string text_;
};

class JsonObject {
 public:
  template <class T>
  JsonObject &add(std::string_view name, const T &value) {
    text_ += text_.empty() ? "" : ",";
    text_ += json_of(name).text + ":" + json_of(value).text;
    return *this;
  }
  // What another one has, behind this one's.
  JsonObject &add(const JsonObject &other) {
    text_ += text_.empty() || other.text_.empty() ? "" : ",";
    text_ += other.text_;
    return *this;
  }
  JsonText json() const { return {"{" + text_ + "}"}; }
  std::string text() const { return json().text; }

 private:
  std::string text_;
};

// A number, a text (bytes that are not UTF-8 become U+FFFD), a flag, nullptr, a list, tuple or map of such, or what is
// JSON already. Numbers that are not finite, and optional values that are not there, are null.
template <class T>
JsonText json_of(const T &value) {
  if constexpr (std::is_same_v<T, JsonText>) return value;
  else if constexpr (requires { value.json(); }) return value.json();
  else if constexpr (requires { value.has_value(); }) return value ? json_of(*value) : json_of(nullptr);
  else if constexpr (std::is_convertible_v<T, std::string_view> && !std::is_null_pointer_v<T>)
    return {text_of(nlohmann::json(std::string_view(value)))};
  else if constexpr (
      requires { std::tuple_size<T>::value; } && !requires { value.begin(); }) {
    JsonList list;
    std::apply([&](const auto &...item) { (list.add(item), ...); }, value);
    return list.json();
  } else if constexpr (requires { typename T::mapped_type; }) {
    JsonObject object;
    for (const auto &[name, member] : value) object.add(name, member);
    return object.json();
  } else if constexpr (requires { value.begin(); }) {
    JsonList list;
    for (const auto &item : value) list.add(item);
    return list.json();
  } else return {text_of(nlohmann::json(value))};
}

}  // namespace infini
