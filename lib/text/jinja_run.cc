#include <algorithm>
#include <cmath>
#include <map>

#include "text/jinja_text.h"
#include "text/utf8.h"

namespace infini::jinja {
namespace {

constexpr int kDeepestCalls = 20;  // of macros within one another
constexpr int64_t kLongestRange = 10000;

enum class Flow { NEXT, BREAK, CONTINUE };

using Scope = std::map<std::string, Value, std::less<>>;

class Run {
 public:
  explicit Run(Dict values) : budget_(Value(values).weight()) {
    scopes_.emplace_back();
    for (auto &[name, value] : values) scopes_[0][name.text] = std::move(value);
    for (const char *name : {"range", "namespace", "raise_exception", "dict"})
      scopes_[0].try_emplace(name, Function{.name = name});
  }

  Text render(const Node &tree) {
    Text out;
    out_ = &out;
    execute(tree);
    return out;
  }

 private:
  [[noreturn]] void refuse(const std::string &reason) const {
    fail(Status::UNSUPPORTED, "the chat template, line ", line_, ": ", reason);
  }

  // --- statements

  void write(const Text &text) {
    budget_.take(text.text.size());
    out_->append(text);
  }

  Flow execute(const Node &node) {
    budget_.step();
    line_ = node.line;
    switch (node.kind) {
      case Node::EMPTY: break;
      case Node::BLOCK:
        for (const Node &part : node.parts)
          if (const Flow flow = execute(part); flow != Flow::NEXT) return flow;
        break;
      case Node::TEXT: write(*node.value.text()); break;
      case Node::OUTPUT: write(str_of(evaluate(node.parts[0]))); break;
      case Node::IF: {
        size_t i = 0;
        for (; i + 1 < node.parts.size(); i += 2)
          if (evaluate(node.parts[i]).truth()) return execute(node.parts[i + 1]);
        return execute(node.parts[i]);
      }
      case Node::FOR: loop(node); break;
      case Node::SET: set(node); break;
      case Node::MACRO: top()[node.name] = Function{.name = node.name, .macro = &node}; break;
      case Node::BREAK: return Flow::BREAK;
      case Node::CONTINUE: return Flow::CONTINUE;
      default: refuse("a value stands where a statement should");
    }
    return Flow::NEXT;
  }

  // What statements write, as a text of its own.
  Text captured(const Node &block) {
    Text text;
    Text *const before = std::exchange(out_, &text);
    execute(block);
    out_ = before;
    return text;
  }

  Scope &top() { return scopes_.back(); }

  void bind(const std::vector<std::string> &names, const Value &value) {
    if (names.size() == 1) {
      top()[names[0]] = value;
      return;
    }
    const List *list = value.list();
    if (!list || list->size() != names.size()) refuse(cat(names.size(), " names are given ", value.what()));
    const List values = *list;
    for (size_t i = 0; i < names.size(); ++i) top()[names[i]] = values[i];
  }

  void set(const Node &node) {
    Value value = node.parts[0].kind == Node::BLOCK ? Value(captured(node.parts[0])) : evaluate(node.parts[0]);
    if (!node.attribute) return bind(node.names, value);
    const Value object = lookup(node.names[0]);
    if (!object.is_namespace())
      refuse(cat("'", node.names[0], "' is ", object.what(), ", of which nothing can be set"));
    placed([&] { return object.set(Text(node.names[1]), std::move(value)), Value(); });
  }

  // A value that is gone through now: its text may be taken, or be compared.
  const Value &weighed(const Value &value) {
    budget_.work(value.weight());
    return value;
  }

  Text str_of(const Value &value) {
    if (!value.text()) budget_.take(weighed(value).weight());  // before it is written, however often it holds the same
    return value.str();
  }

  List items_of(const Value &value) {
    weighed(value);
    return *placed([&] { return Value(jinja::items_of(value, budget_)); }).list();
  }

  void loop(const Node &node) {
    List items;
    for (Value &item : items_of(evaluate(node.parts[0]))) {
      if (node.parts[1].kind != Node::EMPTY) {
        scopes_.emplace_back();
        bind(node.names, item);
        const bool wanted = evaluate(node.parts[1]).truth();
        scopes_.pop_back();
        if (!wanted) continue;
      }
      items.push_back(std::move(item));
    }
    if (items.empty()) {
      execute(node.parts[3]);
      return;
    }
    const auto size = static_cast<int64_t>(items.size());
    for (int64_t i = 0; i < size; ++i) {
      const auto at = [&](int64_t which) { return which < 0 || which >= size ? Value() : items[which]; };
      scopes_.emplace_back();
      bind(node.names, at(i));
      const Value cycle = Function{.name = "cycle", .of = std::make_shared<const Value>(i)};
      top()["loop"] = Dict{{Text("index"), i + 1},        {Text("index0"), i},
                           {Text("revindex"), size - i},  {Text("revindex0"), size - i - 1},
                           {Text("first"), i == 0},       {Text("last"), i + 1 == size},
                           {Text("length"), size},        {Text("previtem"), at(i - 1)},
                           {Text("nextitem"), at(i + 1)}, {Text("cycle"), cycle}};
      const Flow flow = execute(node.parts[2]);
      scopes_.pop_back();
      if (flow == Flow::BREAK) break;
    }
  }

  // --- values

  Value lookup(std::string_view name) const {
    for (size_t i = scopes_.size(); i-- > frame_;)
      if (const auto found = scopes_[i].find(name); found != scopes_[i].end()) return found->second;
    const auto found = scopes_[0].find(name);
    return found == scopes_[0].end() ? Value() : found->second;
  }

  Value evaluate(const Node &node) {
    budget_.step();
    line_ = node.line;
    switch (node.kind) {
      case Node::EMPTY: return {};
      case Node::CONSTANT: return node.value;
      case Node::NAME: return lookup(node.name);
      case Node::LIST: {
        List items;
        for (const Node &part : node.parts) items.push_back(evaluate(part));
        return placed([&] { return Value(std::move(items)); });
      }
      case Node::DICT: {
        Dict dict;
        for (size_t i = 0; i < node.parts.size(); i += 2) {
          const Text key = str_of(evaluate(node.parts[i]));
          put(dict, key, evaluate(node.parts[i + 1]));
        }
        return placed([&] { return Value(std::move(dict)); });
      }
      case Node::ATTRIBUTE: return attribute(evaluate(node.parts[0]), node);
      case Node::ITEM: return item(evaluate(node.parts[0]), evaluate(node.parts[1]));
      case Node::SLICE: return slice(node);
      case Node::CALL: return call(node);
      case Node::FILTER: {
        const Value operand = weighed(evaluate(node.parts[0]));
        const Arguments arguments = arguments_of(node);
        return placed([&] { return call_filter(node.name, operand, arguments, budget_); });
      }
      case Node::TEST: {
        const Value operand = weighed(evaluate(node.parts[0]));
        const Arguments arguments = arguments_of(node);
        return placed([&] { return Value(call_test(node.name, operand, arguments)); });
      }
      case Node::UNARY: return unary(node.name, evaluate(node.parts[0]));
      case Node::BINARY: {
        if (node.name == "and" || node.name == "or") {
          Value left = evaluate(node.parts[0]);
          return left.truth() == (node.name == "or") ? left : evaluate(node.parts[1]);
        }
        const Value left = weighed(evaluate(node.parts[0])), right = weighed(evaluate(node.parts[1]));
        line_ = node.line;
        return binary(node.name, left, right);
      }
      case Node::CHOICE: return evaluate(node.parts[evaluate(node.parts[1]).truth() ? 0 : 2]);
      default: refuse("a statement stands where a value should");
    }
  }

  // Gives errors of functions that know no lines the current one.
  template <class Body>
  Value placed(const Body &body) const {
    try {
      return body();
    } catch (const Error &error) {
      if (error.status() != Status::UNSUPPORTED || std::string_view(error.what()).starts_with("the chat template"))
        throw;
      refuse(error.what());
    }
  }

  Arguments arguments_of(const Node &node) {
    Arguments arguments;
    for (size_t i = 1; i < node.parts.size(); ++i) {
      Value value = weighed(evaluate(node.parts[i]));
      if (node.names[i - 1].empty()) arguments.values.push_back(std::move(value));
      else arguments.named.emplace_back(node.names[i - 1], std::move(value));
    }
    line_ = node.line;
    return arguments;
  }

  Value attribute(const Value &object, const Node &node) {
    if (!object.defined()) refuse(cat("'", node.name, "' is asked of what is not there"));
    if (const Value *found = object.find(node.name)) return *found;
    return method_of(object, node.name);
  }

  static int64_t length_of(const Value &object) {
    return object.text() ? characters(*object.text()) : static_cast<int64_t>(object.list()->size());
  }

  Value item(const Value &object, const Value &key) {
    if (!object.defined()) refuse("a part is asked of what is not there");
    if (key.text()) {
      const Value *found = object.find(key.text()->text);
      return found ? *found : Value();
    }
    if (!key.integer()) return {};
    if (!object.list() && !object.text()) return {};
    if (object.text()) weighed(object);
    const int64_t size = length_of(object), index = *key.integer() + (*key.integer() < 0 ? size : 0);
    if (index < 0 || index >= size) return {};
    return object.text() ? Value(characters(*object.text(), index, index + 1)) : (*object.list())[index];
  }

  Value slice(const Node &node) {
    const Value object = evaluate(node.parts[0]);
    const Value bounds[] = {evaluate(node.parts[1]), evaluate(node.parts[2]), evaluate(node.parts[3])};
    line_ = node.line;
    if (!object.text() && !object.list()) refuse(cat("a part is asked of ", object.what()));
    const auto bound = [&](int which, int64_t otherwise) {
      return bounds[which].is_none()
                 ? otherwise
                 : integer_of(bounds[which].defined() ? &bounds[which] : nullptr, otherwise, "a bound");
    };
    weighed(object);
    const int64_t size = length_of(object);
    const int64_t step = bound(2, 1);
    if (step == 0) refuse("a slice has the step 0");
    const auto clip = [&](int64_t at) {
      if (at < 0) at += size;
      return std::clamp<int64_t>(at, step < 0 ? -1 : 0, step < 0 ? size - 1 : size);
    };
    const int64_t begin = bounds[0].defined() && !bounds[0].is_none() ? clip(bound(0, 0)) : step < 0 ? size - 1 : 0;
    const int64_t end = bounds[1].defined() && !bounds[1].is_none() ? clip(bound(1, 0)) : step < 0 ? -1 : size;
    if (object.text() && step == 1) return characters(*object.text(), begin, std::max(begin, end));
    const List items = items_of(object);
    List part;
    Text text;
    for (int64_t i = begin; step < 0 ? i > end : i < end; i += std::clamp(step, -size - 1, size + 1)) {
      budget_.step();
      if (object.text()) text.append(*items[i].text());
      else part.push_back(items[i]);
    }
    return object.text() ? Value(text) : Value(part);
  }

  Value unary(const std::string &of, const Value &value) const {
    if (of == "not") return !value.truth();
    if (!value.number()) refuse(cat("'", of, "' of ", value.what()));
    if (const int64_t *whole = value.integer())
      return of == "-" ? static_cast<int64_t>(0 - static_cast<uint64_t>(*whole)) : *whole;
    return of == "-" ? -value.as_double() : value.as_double();
  }

  Value binary(const std::string &of, const Value &left, const Value &right) {
    if (of == "==" || of == "!=") return left.equals(right) == (of == "==");
    if (of == "in" || of == "not in") return placed([&] { return Value(contains(right, left) == (of == "in")); });
    if (of == "~" || (of == "+" && left.text() && right.text())) {
      Text both = str_of(left);
      both.append(str_of(right));
      budget_.take(both.text.size());
      return both;
    }
    if (of == "+" && left.list() && right.list()) {
      List both = *left.list();
      both.insert(both.end(), right.list()->begin(), right.list()->end());
      budget_.take(both.size() * sizeof(Value));
      return placed([&] { return Value(std::move(both)); });
    }
    if (of == "*" && left.text() && right.integer()) {
      Text many;
      for (int64_t i = 0; i < *right.integer(); ++i) {
        budget_.step();
        budget_.take(left.text()->text.size());
        many.append(*left.text());
      }
      return many;
    }
    return placed([&] { return arithmetic(of, left, right); });
  }

  Value call(const Node &node) {
    const Value callee = evaluate(node.parts[0]);
    const Arguments arguments = arguments_of(node);
    const Function *function = callee.function();
    if (!function) refuse(cat("a call of ", callee.what()));
    if (function->macro) return macro(*function->macro, arguments);
    if (function->of && function->name == "cycle")
      return arguments.values.empty()
                 ? Value()
                 : arguments.values[static_cast<size_t>(*function->of->integer()) % arguments.values.size()];
    if (function->of) {
      weighed(*function->of);
      return placed([&] { return call_method(*function, arguments, budget_); });
    }
    if (function->name == "raise_exception") {
      const Value *why = arguments.get(0, "message");
      fail(Status::INVALID_ARGUMENT,
           "the chat template refuses the messages: ", printable(why ? why->str().text : "", 200));
    }
    if (function->name == "range") return range(arguments);
    Dict dict;  // of dict, or the namespace
    if (!arguments.values.empty() && arguments.values[0].dict()) dict = *arguments.values[0].dict();
    for (const auto &[name, value] : arguments.named) put(dict, Text(name), value);
    const bool changes = function->name == "namespace";
    return placed([&] { return changes ? Value::namespace_of(std::move(dict)) : Value(std::move(dict)); });
  }

  Value range(const Arguments &arguments) {
    const size_t count = arguments.values.size();
    const auto at = [&](size_t i, int64_t otherwise) {
      return placed([&] { return Value(integer_of(arguments.get(i, ""), otherwise, "range")); });
    };
    const int64_t begin = count > 1 ? *at(0, 0).integer() : 0, end = *at(count > 1, 0).integer(),
                  step = *at(2, 1).integer();
    if (step == 0) refuse("range has the step 0");
    List numbers;
    for (int64_t i = begin; step > 0 ? i < end : i > end;) {
      if (static_cast<int64_t>(numbers.size()) == kLongestRange) refuse(cat("a range of more than ", kLongestRange));
      numbers.push_back(i);
      if (__builtin_add_overflow(i, step, &i)) break;
    }
    return numbers;
  }

  Value macro(const Node &node, const Arguments &arguments) {
    if (++calls_ > kDeepestCalls) refuse(cat("macros call one another deeper than ", kDeepestCalls));
    Scope scope;
    for (size_t i = 0; i < node.names.size(); ++i) {
      const Value *given = arguments.get(i, node.names[i]);
      scope[node.names[i]] = given ? *given : evaluate(node.parts[i]);
    }
    scopes_.push_back(std::move(scope));
    const size_t frame = std::exchange(frame_, scopes_.size() - 1);
    Text text = captured(node.parts.back());
    frame_ = frame;
    scopes_.pop_back();
    --calls_;
    return text;
  }

  Budget budget_;
  std::vector<Scope> scopes_;  // the first holds what is seen everywhere
  size_t frame_ = 0;           // the first scope of the macro that runs
  int calls_ = 0;
  int line_ = 0;
  Text *out_ = nullptr;
};

}  // namespace

Text render(const Node &tree, Dict values) { return Run(std::move(values)).render(tree); }

}  // namespace infini::jinja
