// Values of Jinja, the language of chat templates, as far as templates use it.
//
// Texts know which of their parts came out of messages. What a template does to a text (cutting, joining, replacing)
// keeps that, so that in the end what messages say can be told from the template's marks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "text/tokenizer.h"

namespace infini::jinja {

// Bytes, and ranges of them that messages' contents gave: in order, not empty, apart from one another.
struct Text {
  std::string text;
  std::vector<TextRange> contents;

  Text() = default;
  explicit Text(std::string_view marks) : text(marks) {}
  static Text of_content(std::string_view content);
  void append(const Text &other) { append(other, 0, other.text.size()); }
  void append(const Text &other, size_t begin, size_t end);
  Text part(size_t begin, size_t end) const;
  // Other bytes, of any number: all of them contents if any was.
  Text changed(std::string bytes) const { return contents.empty() ? Text(bytes) : of_content(bytes); }
};

struct Node;
class Value;
using List = std::vector<Value>;
using Dict = std::vector<std::pair<Text, Value>>;  // in the order in which keys were first set
void put(Dict &dict, const Text &key, Value value);
struct Function {
  std::string name;                   // of a function of the language or a method
  std::shared_ptr<const Value> of{};  // what a method belongs to
  const Node *macro = nullptr;
};
struct None {};

// Immutable, as in the sandbox that transformers runs templates in. Only a namespace changes, and that is never part of
// a list, dict or namespace: so no value holds itself, and all are of bounded depth.
class Value {
 public:
  Value() = default;  // undefined
  Value(None) : value_(None()) {}
  Value(bool value) : value_(value) {}
  Value(int value) : value_(int64_t{value}) {}
  Value(int64_t value) : value_(value) {}
  Value(double value) : value_(value) {}
  Value(Text value) : value_(std::make_shared<const Text>(std::move(value))) {}
  Value(List items);
  Value(Dict entries);
  Value(Function value) : value_(std::make_shared<const Function>(std::move(value))) {}
  Value(const char *) = delete;  // would be a bool
  static Value namespace_of(Dict entries);
  // All texts in it are contents.
  static Value of_json(const nlohmann::ordered_json &json);

  bool defined() const { return value_.index() != 0; }
  bool is_none() const { return std::holds_alternative<None>(value_); }
  const bool *boolean() const { return std::get_if<bool>(&value_); }
  const int64_t *integer() const { return std::get_if<int64_t>(&value_); }
  const double *real() const { return std::get_if<double>(&value_); }
  const Text *text() const { return get<const Text>(); }
  const List *list() const { return get<const Held<List>>() ? &get<const Held<List>>()->parts : nullptr; }
  const Dict *dict() const { return get<const Held<Dict>>() ? &get<const Held<Dict>>()->parts : nullptr; }
  bool is_namespace() const { return get<Dict>() != nullptr; }
  const Function *function() const { return get<const Function>(); }
  bool number() const { return boolean() || integer() || real(); }
  double as_double() const;

  // About how many bytes going through the whole of it touches.
  uint64_t weight() const;
  bool truth() const;
  bool equals(const Value &other) const;
  // The value of a key, or nullptr.
  const Value *find(std::string_view key) const;
  void set(const Text &key, Value value) const;  // of a namespace
  // As Python writes it.
  Text str() const;
  Text json(int indent) const;
  // "a text", "a list", ..., for messages
  const char *what() const;

 private:
  template <class Parts>
  struct Held {
    Parts parts;
    uint64_t weight = 1;
    int depth = 1;
    void hold(const Value &part);
  };
  int depth() const;
  template <class T>
  T *get() const {
    const auto *pointer = std::get_if<std::shared_ptr<T>>(&value_);
    return pointer ? pointer->get() : nullptr;
  }
  Text write(bool as_json, int indent, int depth) const;

  std::variant<std::monostate, None, bool, int64_t, double, std::shared_ptr<const Text>,
               std::shared_ptr<const Held<List>>, std::shared_ptr<const Held<Dict>>, std::shared_ptr<Dict>,
               std::shared_ptr<const Function>>
      value_;
};

// + - * / // % ** and < <= > >= of numbers, and the latter of texts. UNSUPPORTED for others.
Value arithmetic(const std::string &of, const Value &left, const Value &right);

}  // namespace infini::jinja
