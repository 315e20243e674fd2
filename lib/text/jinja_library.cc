// Filters, tests and methods, each as https://jinja.palletsprojects.com/en/3.1.x/templates/ or Python's own type has it.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja.h"
#include "text/jinja_text.h"
#include "text/utf8.h"

namespace infini::jinja {
namespace {

[[noreturn]] void refuse(const std::string &reason) { fail(Status::UNSUPPORTED, reason); }

Text text_of(const Value *value, const char *otherwise) { return value ? value->str() : Text(otherwise); }

int64_t length(const Value &value) {
  if (value.dict()) return static_cast<int64_t>(value.dict()->size());
  if (!value.list() && !value.text() && value.defined()) refuse(cat("the length of ", value.what()));
  return static_cast<int64_t>(items_of(value).size());
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
  for (const Value &item : items_of(list)) {
    const Value *part = attribute ? item.find(attribute->str().text) : &item;
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
  const auto end = std::from_chars(text.data(), text.data() + text.size(), number).ptr;
  return !text.empty() && end == text.data() + text.size() ? number : otherwise;
}

// select, reject, selectattr, rejectattr
List selected(const Value &list, const Arguments &arguments, bool wanted, bool by_attribute) {
  Arguments rest;
  const size_t skip = by_attribute ? 2 : 1;
  for (size_t i = skip; i < arguments.values.size(); ++i) rest.values.push_back(arguments.values[i]);
  const Value *attribute = by_attribute ? arguments.get(0, "") : nullptr, *test = arguments.get(skip - 1, "");
  List out;
  for (const Value &item : items_of(list)) {
    const Value *of = attribute ? item.find(attribute->str().text) : &item;
    const Value value = of ? *of : Value();
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
  for (const Value &item : items_of(list)) {
    const Value *of = attribute ? item.find(attribute->str().text) : nullptr;
    if (attribute) out.push_back(of ? *of : otherwise ? *otherwise : Value());
    else if (filter) out.push_back(call_filter(filter->str().text, item, rest, budget));
    else refuse("map without a filter or an attribute");
  }
  return out;
}

List sorted(List list, const Value *attribute, bool reverse) {
  const auto key = [&](const Value &item) {
    const Value *of = attribute && attribute->text() ? item.find(attribute->text()->text) : &item;
    return of ? *of : Value();
  };
  std::stable_sort(list.begin(), list.end(), [&](const Value &a, const Value &b) {
    const Value x = key(a), y = key(b);
    if (x.number() && y.number()) return reverse ? y.as_double() < x.as_double() : x.as_double() < y.as_double();
    return reverse ? y.str().text < x.str().text : x.str().text < y.str().text;
  });
  return list;
}

}  // namespace

List items_of(const Value &value) {
  if (value.list()) return *value.list();
  List items;
  if (value.dict())
    for (const auto &[key, item] : *value.dict()) items.push_back(key);
  else if (const Text *text = value.text())
    for (size_t at = 0; at < text->text.size();) {
      const size_t end = std::min(at + utf8_size(text->text[at]), text->text.size());
      items.push_back(text->part(at, end));
      at = end;
    }
  else if (value.defined()) refuse(cat("items are asked of ", value.what()));
  return items;
}

const Value *Arguments::get(size_t place, std::string_view name) const {
  if (place < values.size()) return &values[place];
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
  const auto argument = [&](size_t place, const char *called) { return arguments.get(place, called); };
  const auto is = [&](auto... names) { return ((name == names) || ...); };
  const auto truth = [&](size_t place, const char *called) {
    const Value *given = argument(place, called);
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
    List list = pairs(value);
    std::stable_sort(list.begin(), list.end(), [](const Value &a, const Value &b) {
      return (*a.list())[0].str().text < (*b.list())[0].str().text;
    });
    return list;
  }
  if (is("selectattr", "rejectattr")) return selected(value, arguments, name == "selectattr", true);
  if (is("select", "reject")) return selected(value, arguments, name == "select", false);
  List list = is("list", "first", "last", "reverse", "sort", "unique", "map") ? items_of(value) : List();
  budget.take(list.size());
  if (is("list")) return list;
  if (is("first")) return list.empty() ? Value() : list.front();
  if (is("last")) return list.empty() ? Value() : list.back();
  if (is("map")) return map(value, arguments, budget);
  if (is("sort")) return sorted(std::move(list), argument(2, "attribute"), truth(0, "reverse"));
  if (is("unique")) {
    List once;
    for (const Value &item : list) {
      budget.step();
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
                     : object.dict() ? is("items", "keys", "values", "get", "update")
                     : object.list() ? is("append", "pop", "extend")
                                     : false;
  return known ? Value(Function{.name = name, .of = std::make_shared<const Value>(object)}) : Value();
}

Value call_method(const Function &method, const Arguments &arguments, Budget &budget) {
  budget.step();
  const Value &object = *method.of;
  const std::string &name = method.name;
  const auto is = [&](auto... names) { return ((name == names) || ...); };
  const auto argument = [&](size_t place, const char *called) { return arguments.get(place, called); };
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
  if (object.dict()) {
    if (is("items")) return pairs(object);
    if (is("get")) {
      const Value *found = argument(0, "") ? object.find(argument(0, "")->str().text) : nullptr;
      return found ? *found : argument(1, "default") ? *argument(1, "default") : Value(None());
    }
    if (is("update")) {
      const Value given = argument(0, "") ? *argument(0, "") : Value(Dict());
      if (!given.dict()) refuse(cat("update with ", given.what()));
      const Dict entries = *given.dict();
      for (const auto &[key, value] : entries) object.set(key, value);
      return None();
    }
    List list;
    for (const auto &[key, value] : *object.dict()) list.push_back(name == "keys" ? Value(key) : value);
    return list;
  }
  List &list = *object.list();
  budget.take(sizeof(Value));
  if (is("append")) list.push_back(argument(0, "") ? *argument(0, "") : Value());
  else if (is("extend")) {
    const List more = argument(0, "") ? items_of(*argument(0, "")) : List();
    budget.take(more.size() * sizeof(Value));
    list.insert(list.end(), more.begin(), more.end());
  } else if (is("pop") && !list.empty()) {
    const int64_t at = integer_of(argument(0, ""), -1, "pop"), size = static_cast<int64_t>(list.size());
    if (at < -size || at >= size) refuse("pop of an item that is not there");
    const auto where = list.begin() + (at < 0 ? at + size : at);
    Value taken = *where;
    list.erase(where);
    return taken;
  }
  return None();
}

}  // namespace infini::jinja
