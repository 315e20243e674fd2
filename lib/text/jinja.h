// Jinja, as far as chat templates use it: https://jinja.palletsprojects.com/en/3.1.x/templates/, with the settings of
// the transformers library (trim_blocks, lstrip_blocks, break and continue, raise_exception, tojson that escapes
// nothing).
//
// A template is somebody's program: what it may do is bounded in depth, steps and bytes, and it sees nothing but what
// it is given. jinja_lex, _expressions and _parse read it, jinja_run runs it, jinja_library has its
// filters, tests and methods.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_value.h"

namespace infini::jinja {

// A part of a template. What `parts` and `names` hold stands behind each kind; an absent part is EMPTY.
struct Node {
  enum Kind {
    EMPTY,
    CONSTANT,   // value
    NAME,       // name
    LIST,       // parts: items
    DICT,       // parts: key, value, key, value, ...
    ATTRIBUTE,  // name; parts: object
    ITEM,       // parts: object, key
    SLICE,      // parts: object, begin, end, step
    CALL,       // parts: function, arguments; names: "" or the argument's name
    FILTER,     // name; parts: operand, arguments; names as above
    TEST,       // name; parts as above
    UNARY,      // name: not, -, +; parts: operand
    BINARY,     // name: + - * / // % ** ~ == != < <= > >= in "not in" and or; parts: left, right
    CHOICE,     // parts: value, condition, otherwise
    BLOCK,      // parts: statements
    TEXT,       // value
    OUTPUT,     // parts: value
    IF,         // parts: condition, block, condition, block, ..., block otherwise
    FOR,        // names: targets; parts: of what, condition, body, body where there is nothing
    SET,        // names: targets, or an object and its attribute where `attribute`; parts: value
    MACRO,      // name; names: parameters; parts: their defaults, body
    BREAK,
    CONTINUE,
  };
  Kind kind = EMPTY;
  std::string name{};
  Value value{};
  std::vector<Node> parts{};
  std::vector<std::string> names{};
  bool attribute = false;
  int line = 0, depth = 1;
};

// UNSUPPORTED, with the line, for what is no Jinja, or none that is known here.
Node parse(std::string_view source);

// What a template makes of the values, which it knows by their names. INVALID_ARGUMENT where the template itself
// refuses them (raise_exception), UNSUPPORTED with the line for what it cannot do.
Text render(const Node &tree, Dict values);

// --- what the interpreter's parts share

struct Arguments {
  std::vector<Value> values;
  std::vector<std::pair<std::string, Value>> named;
  // An argument by its position or name; nullptr where it was not given.
  const Value *get(size_t position, std::string_view name) const;
};

// What a run may still do; each use takes from it.
struct Budget {
  // A fixed amount, and more in proportion to what the run is given.
  explicit Budget(uint64_t given);
  void step() { work(0); }
  void work(uint64_t weight);  // a step that goes through a value of this weight
  void take(uint64_t bytes);   // of output

 private:
  int64_t steps_, bytes_;
};

Value call_filter(const std::string &name, const Value &operand, const Arguments &arguments, Budget &budget);
bool call_test(const std::string &name, const Value &operand, const Arguments &arguments);
// Undefined where there is no such method.
Value method_of(const Value &object, const std::string &name);
Value call_method(const Function &method, const Arguments &arguments, Budget &budget);
// What a loop goes over: the items of a list, the keys of a dict, the characters of a text, nothing of undefined.
List items_of(const Value &value, Budget &budget);
bool contains(const Value &container, const Value &item);
// An integer that must be there, or `otherwise`.
int64_t integer_of(const Value *value, int64_t otherwise, const char *what);

}  // namespace infini::jinja
