#include "text/jinja_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace infini::jinja {
namespace {

constexpr int kDeepest = 64;  // of lists and dicts within one another: writing, comparing and freeing them recurses

std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char digits[40];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  std::string text(digits, end);
  if (text.find_first_of(".e") == text.npos) text += ".0";
  return text;
}

std::string quoted_json(std::string_view text) { return text_of(nlohmann::json(text)); }

std::string quoted_python(std::string_view text) {
  const char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    if (c == '\\' || c == quote) out += '\\';
    if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (c == '\r') out += "\\r";
    else out += c;
  }
  return out + quote;
}

}  // namespace

Text Text::of_content(std::string_view content) {
  Text text(content);
  if (!content.empty()) text.contents.push_back({0, content.size()});
  return text;
}

void Text::append(const Text &other, size_t begin, size_t end) {
  auto range = std::lower_bound(other.contents.begin(), other.contents.end(), begin,
                                [](const TextRange &each, size_t at) { return each.end <= at; });
  for (; range != other.contents.end() && range->begin < end; ++range) {
    const TextRange here = {text.size() + std::max(range->begin, begin) - begin,
                            text.size() + std::min(range->end, end) - begin};
    if (!contents.empty() && contents.back().end == here.begin) contents.back().end = here.end;
    else contents.push_back(here);
  }
  text.append(other.text, begin, end - begin);
}

Text Text::part(size_t begin, size_t end) const {
  Text part;
  part.append(*this, begin, end);
  return part;
}

void put(Dict &dict, const Text &key, Value value) {
  for (auto &[name, held] : dict)
    if (name.text == key.text) {
      held = std::move(value);
      return;
    }
  dict.emplace_back(key, std::move(value));
}

template <class Parts>
void Value::Held<Parts>::hold(const Value &part) {
  if (part.is_namespace()) fail(Status::UNSUPPORTED, "a namespace stands within another value");
  depth = std::max(depth, part.depth() + 1);
  if (depth > kDeepest) fail(Status::UNSUPPORTED, "lists are nested deeper than ", kDeepest);
  if (__builtin_add_overflow(weight, part.weight(), &weight)) weight = UINT64_MAX;
}

Value::Value(List items) {
  const auto held = std::make_shared<Held<List>>(Held<List>{std::move(items)});
  for (const Value &item : held->parts) held->hold(item);
  value_ = std::shared_ptr<const Held<List>>(held);
}

Value::Value(Dict entries) {
  const auto held = std::make_shared<Held<Dict>>(Held<Dict>{std::move(entries)});
  for (const auto &[key, value] : held->parts) {
    held->hold(value);
    held->weight += std::min(UINT64_MAX - held->weight, uint64_t{key.text.size()});
  }
  value_ = std::shared_ptr<const Held<Dict>>(held);
}

Value Value::namespace_of(Dict entries) {
  Value value;
  value.value_ = std::make_shared<Dict>();
  for (auto &[key, entry] : entries) value.set(key, std::move(entry));
  return value;
}

int Value::depth() const {
  if (const auto *held = get<const Held<List>>()) return held->depth;
  if (const auto *held = get<const Held<Dict>>()) return held->depth;
  return function() && function()->of ? function()->of->depth() + 1 : 1;
}

uint64_t Value::weight() const {
  if (text()) return text()->text.size() + 1;
  if (const auto *held = get<const Held<List>>()) return held->weight;
  if (const auto *held = get<const Held<Dict>>()) return held->weight;
  return 1;
}

Value Value::of_json(const nlohmann::ordered_json &json) {
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::boolean: return json.get<bool>();
    case nlohmann::ordered_json::value_t::number_integer:
    case nlohmann::ordered_json::value_t::number_unsigned:
      if (fits<int64_t>(json)) return json.get<int64_t>();
      return json.get<double>();
    case nlohmann::ordered_json::value_t::number_float: return json.get<double>();
    case nlohmann::ordered_json::value_t::string: return Text::of_content(json.get_ref<const std::string &>());
    case nlohmann::ordered_json::value_t::array: {
      List list;
      for (const auto &item : json) list.push_back(of_json(item));
      return list;
    }
    case nlohmann::ordered_json::value_t::object: {
      Dict dict;
      for (const auto &[key, item] : json.items()) dict.emplace_back(Text::of_content(key), of_json(item));
      return dict;
    }
    default: return None();
  }
}

double Value::as_double() const {
  if (const bool *value = boolean()) return *value;
  if (const int64_t *value = integer()) return static_cast<double>(*value);
  return real() ? *real() : 0;
}

bool Value::truth() const {
  if (number()) return as_double() != 0;
  if (text()) return !text()->text.empty();
  if (list()) return !list()->empty();
  if (dict()) return !dict()->empty();
  return function() || is_namespace();
}

bool Value::equals(const Value &other) const {
  if (number() && other.number()) {
    if (!real() && !other.real()) {
      const auto whole = [](const Value &value) {
        return value.boolean() ? int64_t{*value.boolean()} : *value.integer();
      };
      return whole(*this) == whole(other);
    }
    return as_double() == other.as_double();
  }
  if (text() && other.text()) return text()->text == other.text()->text;
  if (list() && other.list())
    return list() == other.list() ||
           std::equal(list()->begin(), list()->end(), other.list()->begin(), other.list()->end(),
                      [](const Value &a, const Value &b) { return a.equals(b); });
  if (dict() && other.dict())
    return dict() == other.dict() || (dict()->size() == other.dict()->size() &&
                                      std::all_of(dict()->begin(), dict()->end(), [&](const auto &entry) {
                                        const Value *theirs = other.find(entry.first.text);
                                        return theirs && entry.second.equals(*theirs);
                                      }));
  if (function()) return function() == other.function();
  if (is_namespace()) return get<Dict>() == other.get<Dict>();
  return value_.index() == other.value_.index();
}

const Value *Value::find(std::string_view key) const {
  const Dict *const entries = is_namespace() ? get<Dict>() : dict();
  if (!entries) return nullptr;
  for (const auto &[name, value] : *entries)
    if (name.text == key) return &value;
  return nullptr;
}

void Value::set(const Text &key, Value value) const {
  if (value.is_namespace()) fail(Status::UNSUPPORTED, "a namespace stands within another value");
  put(*get<Dict>(), key, std::move(value));
}

Text Value::str() const { return text() ? *text() : write(false, -1, 0); }
Text Value::json(int indent) const { return write(true, indent, 0); }

Text Value::write(bool as_json, int indent, int depth) const {
  if (!defined()) return Text(as_json ? "null" : "");
  if (is_none()) return Text(as_json ? "null" : "None");
  if (boolean()) return Text(as_json ? (*boolean() ? "true" : "false") : (*boolean() ? "True" : "False"));
  if (integer()) return Text(std::to_string(*integer()));
  if (real()) return Text(number_text(*real()));
  if (text()) return text()->changed(as_json ? quoted_json(text()->text) : quoted_python(text()->text));
  if (function() || is_namespace()) return Text(function() ? "<function>" : "<namespace>");
  Text out(list() ? "[" : "{");
  const bool lines = indent >= 0 && !(list() ? list()->empty() : dict()->empty());
  const auto new_line = [&](int level) {
    if (lines) out.append(Text("\n" + std::string(static_cast<size_t>(indent * level), ' ')));
  };
  bool first = true;
  const auto next = [&] {
    if (!first) out.append(Text(lines ? "," : ", "));
    first = false;
    new_line(depth + 1);
  };
  if (list()) {
    for (const Value &item : *list()) {
      next();
      out.append(item.write(as_json, indent, depth + 1));
    }
  } else {
    for (const auto &[key, item] : *dict()) {
      next();
      out.append(Value(key).write(as_json, indent, depth + 1));
      out.append(Text(": "));
      out.append(item.write(as_json, indent, depth + 1));
    }
  }
  new_line(depth);
  out.append(Text(list() ? "]" : "}"));
  return out;
}

Value arithmetic(const std::string &of, const Value &left, const Value &right) {
  const auto compare = [&](const auto &a, const auto &b) {
    return of == "<" ? a < b : of == "<=" ? a <= b : of == ">" ? a > b : a >= b;
  };
  const bool ordered = of[0] == '<' || of[0] == '>';
  if (ordered && left.text() && right.text()) return compare(left.text()->text, right.text()->text);
  if (!left.number() || !right.number())
    fail(Status::UNSUPPORTED, "'", of, "' of ", left.what(), " and ", right.what());
  const double a = left.as_double(), b = right.as_double();
  if (ordered) return compare(a, b);
  if ((of == "/" || of == "//" || of == "%") && b == 0) fail(Status::UNSUPPORTED, "a division by 0");
  const double result = of == "+"    ? a + b
                        : of == "-"  ? a - b
                        : of == "*"  ? a * b
                        : of == "/"  ? a / b
                        : of == "//" ? std::floor(a / b)
                        : of == "%"  ? a - std::floor(a / b) * b
                                     : std::pow(a, b);
  const bool whole = !left.real() && !right.real() && of != "/" && result == std::floor(result);
  return whole && std::abs(result) < 9e15 ? Value(static_cast<int64_t>(result)) : Value(result);
}

const char *Value::what() const {
  if (!defined()) return "undefined";
  if (is_none()) return "none";
  if (number()) return "a number";
  if (text()) return "a text";
  if (list()) return "a list";
  return dict() ? "a dict" : is_namespace() ? "a namespace" : "a function";
}

}  // namespace infini::jinja
