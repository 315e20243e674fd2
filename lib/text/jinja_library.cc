// Filters, tests and methods, each as https://jinja.palletsprojects.com/en/3.1.x/templates/ or Python's own type has
// it.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/platform.h"
#include "text/jinja.h"
#include "text/jinja_text.h"
#include "text/utf8.h"

namespace infini::jinja {
namespace {

[[noreturn]] void refuse(const std::string &reason) { fail(Status::UNSUPPORTED, reason); }

Text text_of(const Value *value, const char *otherwise) { return value ? value->str() : Text(otherwise); }

int64_t length(const Value &value) {
  if (value.dict()) return static_cast<int64_t>(value.dict()->size());
  if (value.list()) return static_cast<int64_t>(value.list()->size());
  if (value.text()) return characters(*value.text());
  if (value.defined()) refuse(cat("the length of ", value.what()));
  return 0;
}

List pairs(const Value &dict) {
  if (!dict.dict()) refuse(cat("the items of ", dict.what()));
  List list;
  for (const auto &[key, value] : *dict.dict()) list.push_back(List{key, value});
  return list;
}

Text join(const Value &list, const Text &by, const Value *attribute, Budget &budget) {
  Text out;
  bool first = true;
  for (const Value &item : items_of(list, budget)) {
    const Value *part = attribute ? item.find(attribute->str().text) : &item;
    if (part) budget.work(part->weight());
    const Text text = part ? part->str() : Text();
    budget.take(text.text.size() + by.text.size());
    if (!first) out.append(by);
    out.append(text);
    first = false;
  }
  return out;
}

double real_of(const Value &value, double otherwise) {
  if (value.number()) return value.as_double();
  if (!value.text()) return otherwise;
  const std::string text = strip(*value.text(), nullptr, true, true).text;
  double number = 0;
  const auto end = platform::real_from_chars(text.data(), text.data() + text.size(), number).ptr;
  return !text.empty() && end == text.data() + text.size() ? number : otherwise;
}

// select, reject, selectattr, rejectattr
List selected(const Value &list, const Arguments &arguments, bool wanted, bool by_attribute, Budget &budget) {
  Arguments rest;
  const size_t skip = by_attribute ? 2 : 1;
  for (size_t i = skip; i < arguments.values.size(); ++i) rest.values.push_back(arguments.values[i]);
  const uint64_t weight = Value(rest.values).weight();
  const Value *attribute = by_attribute ? arguments.get(0, "") : nullptr, *test = arguments.get(skip - 1, "");
  List out;
  for (const Value &item : items_of(list, budget)) {
    const Value *of = attribute ? item.find(attribute->str().text) : &item;
    const Value value = of ? *of : Value();
    budget.work(std::max(weight, value.weight()));
    if ((test ? call_test(test->str().text, value, rest) : value.truth()) == wanted) out.push_back(item);
  }
  return out;
}

List map(const Value &list, const Arguments &arguments, Budget &budget) {
  const Value *attribute = arguments.get(99, "attribute"), *otherwise = arguments.get(99, "default");
  const Value *filter = arguments.get(0, "");
  Arguments rest;
  for (size_t i = 1; i < arguments.values.size(); ++i) rest.values.push_back(arguments.values[i]);
  List out;
  for (const Value &item : items_of(list, budget)) {
    const Value *of = attribute ? item.find(attribute->str().text) : nullptr;
    if (attribute) out.push_back(of ? *of : otherwise ? *otherwise : Value());
    else if (filter) out.push_back(call_filter(filter->str().text, item, rest, budget));
    else refuse("map without a filter or an attribute");
  }
  return out;
}

// By number where both keys are, else by text.
List sorted(List list, const Value *attribute, bool reverse) {
  struct Row {
    Value item, key;
    std::string text;
  };
  std::vector<Row> rows;
  for (Value &item : list) {
    const Value *of = attribute && attribute->text() ? item.find(attribute->text()->text) : &item;
    const Value key = of ? *of : Value();
    rows.push_back({std::move(item), key, key.str().text});
  }
  std::stable_sort(rows.begin(), rows.end(), [&](const Row &a, const Row &b) {
    const Row &first = reverse ? b : a, &second = reverse ? a : b;
    if (a.key.number() && b.key.number()) return first.key.as_double() < second.key.as_double();
    return first.text < second.text;
  });
  for (size_t i = 0; i < rows.size(); ++i) list[i] = std::move(rows[i].item);
  return list;
}

}  // namespace

Budget::Budget(uint64_t given) {
  const auto some = static_cast<int64_t>(std::min<uint64_t>(given, int64_t{1} << 40));
  steps_ = 2000000 + some / 8;
  bytes_ = (32 << 20) + 32 * some;
}

void Budget::work(uint64_t weight) {
  steps_ -= 1 + static_cast<int64_t>(weight / 256);
  if (steps_ < 0) fail(Status::UNSUPPORTED, "the chat template does not come to an end");
}

void Budget::take(uint64_t count) {
  bytes_ -= static_cast<int64_t>(std::min<uint64_t>(count, INT64_MAX / 2));
  if (bytes_ < 0) fail(Status::UNSUPPORTED, "the chat template writes too much");
}

List items_of(const Value &value, Budget &budget) {
  if (value.list()) return *value.list();
  List items;
  if (value.dict())
    for (const auto &[key, item] : *value.dict()) items.push_back(key);
  else if (const Text *text = value.text()) {
    budget.work(64 * value.weight());  // each character becomes a text of its own
    for (size_t at = 0; at < text->text.size();) {
      const size_t end = std::min(at + utf8_size(text->text[at]), text->text.size());
      items.push_back(text->part(at, end));
      at = end;
    }
  } else if (value.defined()) refuse(cat("items are asked of ", value.what()));
  return items;
}

const Value *Arguments::get(size_t index, std::string_view name) const {
  if (index < values.size()) return &values[index];
  for (const auto &[given, value] : named)
    if (given == name) return &value;
  return nullptr;
}

int64_t integer_of(const Value *value, int64_t otherwise, const char *what) {
  if (!value) return otherwise;
  if (value->boolean()) return *value->boolean();
  if (!value->integer()) refuse(cat(what, " is ", value->what(), ", but must be a whole number"));
  return *value->integer();
}

bool contains(const Value &container, const Value &item) {
  if (container.text()) {
    if (!item.text()) refuse(cat("'in' of ", item.what(), " and a text"));
    return container.text()->text.find(item.text()->text) != std::string::npos;
  }
  if (container.dict()) return item.text() && container.find(item.text()->text);
  if (!container.list()) refuse(cat("'in' of ", container.what()));
  return std::any_of(container.list()->begin(), container.list()->end(),
                     [&](const Value &each) { return each.equals(item); });
}

Value call_filter(const std::string &name, const Value &value, const Arguments &arguments, Budget &budget) {
  budget.step();
  const auto argument = [&](size_t index, const char *called) { return arguments.get(index, called); };
  const auto is = [&](auto... names) { return ((name == names) || ...); };
  const auto truth = [&](size_t index, const char *called) {
    const Value *given = argument(index, called);
    return given && given->truth();
  };
  if (is("trim")) return strip(value.str(), argument(0, "chars"), true, true);
  if (is("string", "safe", "escape", "e")) return value.str();  // nothing is escaped: it is no HTML
  if (is("length", "count")) return length(value);
  if (is("upper")) return cased(value.str(), [](size_t, bool) { return true; });
  if (is("lower")) return cased(value.str(), [](size_t, bool) { return false; });
  if (is("capitalize")) return cased(value.str(), [](size_t i, bool) { return i == 0; });
  if (is("title")) return cased(value.str(), [](size_t, bool begins) { return begins; });
  if (is("replace"))
    return replace(value.str(), text_of(argument(0, "old"), ""), text_of(argument(1, "new"), ""),
                   integer_of(argument(2, "count"), -1, "count"), budget);
  if (is("tojson")) {
    budget.take(value.weight());
    Text json =
        value.json(static_cast<int>(std::clamp<int64_t>(integer_of(argument(0, "indent"), -1, "indent"), -1, 16)));
    budget.take(json.text.size());
    return json;
  }
  if (is("default", "d")) {
    const bool missing = !value.defined() || (truth(1, "boolean") && !value.truth());
    const Value *otherwise = argument(0, "default_value");
    return !missing ? value : otherwise ? *otherwise : Value(Text());
  }
  if (is("join")) return join(value, text_of(argument(0, "d"), ""), argument(1, "attribute"), budget);
  if (is("indent")) return indent(value.str(), argument(0, "width"), truth(1, "first"), truth(2, "blank"), budget);
  if (is("int")) {
    const double number = real_of(value, static_cast<double>(integer_of(argument(0, "default"), 0, "default")));
    return std::abs(number) < 9e15 ? Value(static_cast<int64_t>(number)) : Value(int64_t{0});
  }
  if (is("float")) return real_of(value, 0);
  if (is("abs")) return value.integer() ? Value(std::abs(*value.integer())) : Value(std::abs(value.as_double()));
  if (is("round")) {
    const double scale = std::pow(10, static_cast<double>(integer_of(argument(0, "precision"), 0, "precision")));
    return std::round(value.as_double() * scale) / scale;
  }
  if (is("items")) return value.defined() ? pairs(value) : List();
  if (is("dictsort")) {
    if (!value.dict()) refuse(cat("the items of ", value.what()));
    Dict dict = *value.dict();
    std::stable_sort(dict.begin(), dict.end(),
                     [](const auto &a, const auto &b) { return a.first.text < b.first.text; });
    return pairs(Value(std::move(dict)));
  }
  if (is("selectattr", "rejectattr")) return selected(value, arguments, name == "selectattr", true, budget);
  if (is("select", "reject")) return selected(value, arguments, name == "select", false, budget);
  List list = is("list", "first", "last", "reverse", "sort", "unique", "map") ? items_of(value, budget) : List();
  budget.take(list.size());
  if (is("list")) return list;
  if (is("first")) return list.empty() ? Value() : list.front();
  if (is("last")) return list.empty() ? Value() : list.back();
  if (is("map")) return map(value, arguments, budget);
  if (is("sort")) return sorted(std::move(list), argument(2, "attribute"), truth(0, "reverse"));
  if (is("unique")) {
    List once;
    for (const Value &item : list) {
      for (const Value &each : once) budget.work(each.weight());
      if (!contains(once, item)) once.push_back(item);
    }
    return once;
  }
  if (is("reverse")) {
    std::reverse(list.begin(), list.end());
    return value.text() ? Value(join(list, Text(), nullptr, budget)) : Value(list);
  }
  refuse(cat("filter '", printable(name), "' is not known here"));
}

bool call_test(const std::string &name, const Value &value, const Arguments &arguments) {
  const auto is = [&](auto... names) { return ((name == names) || ...); };
  const Value *other = arguments.get(0, "other");
  const auto number = [&] { return integer_of(&value, 0, "the operand"); };
  if (is("defined")) return value.defined();
  if (is("undefined")) return !value.defined();
  if (is("none")) return value.is_none();
  if (is("string")) return value.text() != nullptr;
  if (is("mapping")) return value.dict() != nullptr;
  if (is("sequence", "iterable")) return value.list() || value.text() || value.dict();
  if (is("boolean")) return value.boolean() != nullptr;
  if (is("integer")) return value.integer() != nullptr;
  if (is("float")) return value.real() != nullptr;
  if (is("number")) return value.number();
  if (is("callable")) return value.function() != nullptr;
  if (is("true")) return value.boolean() && *value.boolean();
  if (is("false")) return value.boolean() && !*value.boolean();
  if (is("odd", "even")) return (number() % 2 != 0) == (name == "odd");
  if (is("divisibleby") && other) {
    const int64_t by = integer_of(other, 1, "divisibleby");
    return by == -1 || (by != 0 && number() % by == 0);
  }
  if (is("equalto", "eq", "==", "sameas") && other) return value.equals(*other);
  if (is("ne", "!=") && other) return !value.equals(*other);
  if (is("in") && other) return contains(*other, value);
  refuse(cat("test '", printable(name), "' is not known here"));
}

Value method_of(const Value &object, const std::string &name) {
  const auto is = [&](auto... names) { return ((name == names) || ...); };
  const bool known = object.text()   ? is("strip", "lstrip", "rstrip", "startswith", "endswith", "split", "rsplit",
                                          "splitlines", "upper", "lower", "title", "capitalize", "replace", "join",
                                          "find", "count", "removeprefix", "removesuffix")
                     : object.dict() ? is("items", "keys", "values", "get")
                                     : false;
  return known ? Value(Function{.name = name, .of = std::make_shared<const Value>(object)}) : Value();
}

Value call_method(const Function &method, const Arguments &arguments, Budget &budget) {
  budget.step();
  const Value &object = *method.of;
  const std::string &name = method.name;
  const auto is = [&](auto... names) { return ((name == names) || ...); };
  const auto argument = [&](size_t index, const char *called) { return arguments.get(index, called); };
  if (const Text *text = object.text()) {
    budget.take(text->text.size());
    if (is("strip", "lstrip", "rstrip")) return strip(*text, argument(0, "chars"), name != "rstrip", name != "lstrip");
    const auto matches = [&](const Value &part) {
      const std::string of = part.str().text;
      return name == "startswith" ? text->text.starts_with(of) : text->text.ends_with(of);
    };
    if (is("startswith", "endswith")) {
      const Value *part = argument(0, "");
      if (part && part->list()) return std::any_of(part->list()->begin(), part->list()->end(), matches);
      return part && matches(*part);
    }
    if (is("split", "rsplit"))
      return split(*text, argument(0, "sep"), integer_of(argument(1, "maxsplit"), -1, "maxsplit"), name == "rsplit",
                   budget);
    if (is("splitlines")) return lines(*text);
    if (is("join")) return argument(0, "") ? join(*argument(0, ""), *text, nullptr, budget) : Text();
    if (is("find")) {
      const size_t at = text->text.find(text_of(argument(0, ""), "").text);
      return at == text->text.npos ? Value(-1) : length(text->part(0, at));
    }
    if (is("count")) {
      const std::string part = text_of(argument(0, ""), "").text;
      int64_t count = 0;
      for (size_t at = 0; !part.empty() && (at = text->text.find(part, at)) != text->text.npos; at += part.size())
        ++count;
      return count;
    }
    const Text part = text_of(argument(0, ""), "");
    if (is("removeprefix"))
      return text->part(text->text.starts_with(part.text) ? part.text.size() : 0, text->text.size());
    if (is("removesuffix"))
      return text->part(0, text->text.size() - (text->text.ends_with(part.text) ? part.text.size() : 0));
    return call_filter(name, object, arguments, budget);  // upper, lower, title, capitalize, replace
  }
  if (is("items")) return pairs(object);
  if (is("get")) {
    const Value *found = argument(0, "") ? object.find(argument(0, "")->str().text) : nullptr;
    return found ? *found : argument(1, "default") ? *argument(1, "default") : Value(None());
  }
  List list;
  for (const auto &[key, value] : *object.dict()) list.push_back(name == "keys" ? Value(key) : value);
  return list;
}

}  // namespace infini::jinja
