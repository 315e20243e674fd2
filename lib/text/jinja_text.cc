#include "text/jinja_text.h"

#include <algorithm>

namespace infini::jinja {
namespace {

constexpr std::string_view kSpaces = " \t\n\r\v\f";

}  // namespace

Text strip(const Text &text, const Value *set, bool left, bool right) {
  const std::string characters = set && set->text() ? set->text()->text : std::string(kSpaces);
  size_t begin = 0, end = text.text.size();
  while (left && begin < end && characters.find(text.text[begin]) != characters.npos) ++begin;
  while (right && end > begin && characters.find(text.text[end - 1]) != characters.npos) --end;
  return text.part(begin, end);
}

namespace {

bool begins_character(char byte) { return (byte & 0xc0) != 0x80; }

}  // namespace

int64_t characters(const Text &text) { return std::count_if(text.text.begin(), text.text.end(), begins_character); }

Text characters(const Text &text, int64_t begin, int64_t end) {
  size_t at = 0, from = text.text.size();
  for (int64_t passed = 0; at < text.text.size(); ++at) {
    if (!begins_character(text.text[at])) continue;
    if (passed == begin) from = at;
    if (passed++ == end) break;
  }
  return text.part(std::min(from, at), at);
}

Text cased(const Text &text, const std::function<bool(size_t at, bool begins)> &upper_case) {
  std::string bytes = text.text;
  bool begins = true;  // a word
  for (size_t i = 0; i < bytes.size(); ++i) {
    const char c = bytes[i];
    const bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z';
    if (upper || lower) {
      const bool to_upper = upper_case(i, begins);
      if (upper != to_upper) bytes[i] = static_cast<char>(c ^ 0x20);
    }
    begins = !upper && !lower && !(c & 0x80) && c != '\'';
  }
  Text out(bytes);
  out.contents = text.contents;
  return out;
}

Text replace(const Text &text, const Text &from, const Text &to, int64_t most, Budget &budget) {
  Text out;
  size_t begin = 0;
  while (most != 0 && !from.text.empty()) {
    const size_t at = text.text.find(from.text, begin);
    if (at == text.text.npos) break;
    budget.step();
    budget.take(at - begin + to.text.size());
    out.append(text, begin, at);
    out.append(to);
    begin = at + from.text.size();
    --most;
  }
  out.append(text, begin, text.text.size());
  return out;
}

List split(const Text &text, const Value *separator, int64_t most, bool from_right, Budget &budget) {
  List parts;
  size_t begin = 0, end = text.text.size();
  if (!separator || separator->is_none()) {
    while (true) {
      begin = std::min(text.text.find_first_not_of(kSpaces, begin), end);
      if (begin == end) return parts;
      budget.step();
      const size_t stop = most-- == 0 ? end : std::min(text.text.find_first_of(kSpaces, begin), end);
      parts.push_back(text.part(begin, stop));
      begin = stop;
    }
  }
  const std::string by = separator->str().text;
  if (by.empty()) fail(Status::UNSUPPORTED, "split by an empty text");
  while (most-- != 0) {
    budget.step();
    const size_t at = from_right ? (end >= by.size() ? text.text.rfind(by, end - by.size()) : text.text.npos)
                                 : text.text.find(by, begin);
    if (at == text.text.npos) break;
    if (from_right) parts.insert(parts.begin(), text.part(at + by.size(), end)), end = at;
    else parts.push_back(text.part(begin, at)), begin = at + by.size();
  }
  if (from_right) parts.insert(parts.begin(), text.part(0, end));
  else parts.push_back(text.part(begin, end));
  return parts;
}

List lines(const Text &text) {
  List lines;
  for (size_t begin = 0; begin < text.text.size();) {
    const size_t end = std::min(text.text.find('\n', begin), text.text.size());
    lines.push_back(text.part(begin, end));
    begin = end + 1;
  }
  return lines;
}

Text indent(const Text &text, const Value *width, bool first, bool blank, Budget &budget) {
  const Text by =
      width && width->text()
          ? *width->text()
          : Text(std::string(static_cast<size_t>(std::clamp<int64_t>(integer_of(width, 4, "indent"), 0, 100)), ' '));
  Text out;
  bool begins = true;
  for (size_t begin = 0; begin <= text.text.size();) {
    const size_t end = std::min(text.text.find('\n', begin), text.text.size());
    budget.take(end - begin + by.text.size());
    if (!begins) out.append(Text("\n"));
    if ((begins ? first : true) && (blank || end > begin)) out.append(by);
    out.append(text, begin, end);
    begins = false;
    begin = end + 1;
  }
  return out;
}

}  // namespace infini::jinja
