#include "text/jinja_lex.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

#include "base/status.h"
#include "text/utf8.h"

namespace infini::jinja {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80); }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {
    if (!source_.empty() && source_.back() == '\n') source_.remove_suffix(1);
  }

  std::vector<Token> tokens() {
    while (at_ < source_.size()) data();
    out_.push_back({Token::END, "", line_});
    return std::move(out_);
  }

 private:
  bool here(std::string_view text) const { return source_.substr(at_).starts_with(text); }
  void move(size_t count) {
    line_ += static_cast<int>(std::count(source_.begin() + at_, source_.begin() + at_ + count, '\n'));
    at_ += count;
  }

  // Text up to the next tag, and the tag.
  void data() {
    size_t tag = at_;
    while ((tag = source_.find('{', tag)) != source_.npos &&
           (tag + 1 == source_.size() || std::string_view("%{#").find(source_[tag + 1]) == source_.npos))
      ++tag;
    std::string_view text = source_.substr(at_, tag == source_.npos ? source_.npos : tag - at_);
    const int line = line_;
    const char sign = tag == source_.npos || tag + 2 >= source_.size() ? ' ' : source_[tag + 2];
    const size_t size = text.size();
    if (sign == '-') {
      while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    } else if (sign != '+' && tag != source_.npos && source_[tag + 1] != '{') {  // lstrip_blocks
      size_t end = text.size();
      while (end > 0 && (text[end - 1] == ' ' || text[end - 1] == '\t')) --end;
      if (end == 0 ? line_begins_ : text[end - 1] == '\n') text = text.substr(0, end);
    }
    if (!text.empty()) out_.push_back({Token::DATA, std::string(text), line});
    move(size);
    if (tag == source_.npos) return;
    const char kind = source_[at_ + 1];
    move(2);
    if (kind == '#') {
      const size_t end = source_.find("#}", at_);
      if (end == source_.npos) refuse_template(line_, "a comment has no end");
      const bool strip = end > at_ && source_[end - 1] == '-';
      move(end + 2 - at_);
      behind(strip, true);
    } else {
      inside(kind == '%');
    }
  }

  // What is between {% and %}, or {{ and }}.
  void inside(bool statement) {
    const std::string_view end = statement ? "%}" : "}}";
    if (here("-") || here("+")) move(1);
    const int line = line_;
    out_.push_back({statement ? Token::STATEMENT : Token::PRINT, "", line_});
    int open = 0;  // brackets, in which }} is two of them
    while (true) {
      while (at_ < source_.size() && is_space(source_[at_])) move(1);
      if (at_ == source_.size()) refuse_template(line, "a tag has no end");
      const bool strip = here("-") && source_.substr(at_ + 1).starts_with(end);
      if (open == 0 && (strip || here(end))) {
        move(end.size() + strip);
        out_.push_back({statement ? Token::END_STATEMENT : Token::END_PRINT, "", line_});
        return behind(strip, statement);
      }
      open += std::string_view("([{").find(source_[at_]) != source_.npos;
      open -= std::string_view(")]}").find(source_[at_]) != source_.npos && open > 0;
      token();
    }
  }

  // The text behind a tag may lose its white space, or its first line end.
  void behind(bool strip, bool block) {
    size_t size = 0;
    while (strip && at_ + size < source_.size() && is_space(source_[at_ + size])) ++size;
    if (!strip && block && here("\n")) size = 1;
    if (!strip && block && here("\r\n")) size = 2;
    line_begins_ = size > 0 && source_[at_ + size - 1] == '\n';
    move(size);
  }

  void token() {
    const char c = source_[at_];
    const int line = line_;
    size_t size = 1;
    if (is_letter(c)) {
      while (at_ + size < source_.size() && (is_letter(source_[at_ + size]) || is_digit(source_[at_ + size]))) ++size;
      out_.push_back({Token::WORD, std::string(source_.substr(at_, size)), line});
    } else if (is_digit(c)) {
      bool real = false;
      const auto next = [&](size_t i) { return at_ + i < source_.size() ? source_[at_ + i] : ' '; };
      while (is_digit(next(size)) || next(size) == '_' || (!real && next(size) == '.' && is_digit(next(size + 1))))
        real |= next(size++) == '.';
      out_.push_back({real ? Token::REAL : Token::INTEGER, std::string(source_.substr(at_, size)), line});
    } else if (c == '\'' || c == '"') {
      return string(c);
    } else {
      constexpr std::array<std::string_view, 6> two = {"==", "!=", "<=", ">=", "//", "**"};
      for (const std::string_view sign : two)
        if (here(sign)) size = 2;
      if (std::string_view("()[]{}.,:|+-*/%~<>=!").find(c) == std::string_view::npos || (c == '!' && size == 1))
        refuse_template(line, cat("'", printable(source_.substr(at_, utf8_size(c))), "' has no meaning here"));
      out_.push_back({Token::SIGN, std::string(source_.substr(at_, size)), line});
    }
    move(size);
  }

  void string(char quote) {
    const int line = line_;
    std::string text;
    for (move(1);; move(1)) {
      if (at_ == source_.size()) refuse_template(line, "a text has no end");
      char c = source_[at_];
      if (c == quote) break;
      if (c == '\\' && at_ + 1 < source_.size()) {
        move(1);
        constexpr std::string_view escaped = "ntrbf0", meant = "\n\t\r\b\f";
        const size_t which = escaped.find(c = source_[at_]);
        if (which != escaped.npos) c = which < meant.size() ? meant[which] : '\0';
        else if (c == 'u' || c == 'x') {
          text += unicode(c == 'u' ? 4 : 2);
          continue;
        } else if (c == '\n') {
          continue;
        } else if (c != '\\' && c != '\'' && c != '"') {
          text += '\\';
        }
      }
      text += c;
    }
    move(1);
    if (!out_.empty() && out_.back().kind == Token::STRING) out_.back().text += text;  // as Python joins them
    else out_.push_back({Token::STRING, text, line});
  }

  std::string unicode(size_t digits) {
    uint32_t code = 0;
    const std::string_view text = source_.substr(at_ + 1, digits);
    const auto end = std::from_chars(text.data(), text.data() + text.size(), code, 16).ptr;
    if (text.size() < digits || end != text.data() + digits)
      refuse_template(line_, "a text has \\u or \\x without its digits");
    move(digits);
    std::string utf8;
    if (code < 0x80) return {static_cast<char>(code)};
    if (code < 0x800) return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
    return {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)),
            static_cast<char>(0x80 | (code & 0x3f))};
  }

  std::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_begins_ = true;  // what comes is the beginning of a line
  std::vector<Token> out_;
};

}  // namespace

std::vector<Token> tokens_of(std::string_view source) { return Lexer(source).tokens(); }

void refuse_template(int line, const std::string &reason) {
  fail(Status::UNSUPPORTED, "the chat template, line ", line, ": ", reason);
}

}  // namespace infini::jinja
