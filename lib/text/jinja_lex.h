// The tokens of a chat template.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace infini::jinja {

struct Token {
  enum Kind { DATA, STATEMENT, END_STATEMENT, PRINT, END_PRINT, WORD, STRING, INTEGER, REAL, SIGN, END };
  Kind kind;
  std::string text;
  int line;
};

// Data between tags as white space control leaves it, and what stands within tags. UNSUPPORTED, with the line, for what
// is no token.
std::vector<Token> tokens_of(std::string_view source);

[[noreturn]] void refuse_template(int line, const std::string &reason);

}  // namespace infini::jinja
