// The parser's part for expressions: each level of precedence is a function, the loosest first.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "base/platform.h"
#include "text/jinja.h"
#include "text/jinja_lex.h"
#include "text/utf8.h"

namespace infini::jinja {

class ExpressionParser {
  static constexpr int kDeepest = 150;  // of parts within one another: running and freeing them recurses

 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  const Token &peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  Token take() {
    Token token = peek();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool is(Token::Kind kind, std::string_view text) const { return peek().kind == kind && peek().text == text; }
  bool accept(Token::Kind kind, std::string_view text) {
    if (!is(kind, text)) return false;
    take();
    return true;
  }
  bool sign(std::string_view text) { return accept(Token::SIGN, text); }
  bool word(std::string_view text) { return accept(Token::WORD, text); }
  void need(Token::Kind kind, std::string_view text) {
    if (!accept(kind, text))
      refuse_template(peek().line, cat("'", text, "' is missing before '", printable(peek().text), "'"));
  }
  void end_statement() { need(Token::END_STATEMENT, ""); }
  std::string name() {
    if (peek().kind != Token::WORD)
      refuse_template(peek().line, cat("a name is missing before '", printable(peek().text), "'"));
    return take().text;
  }

  // A node of parts that are whole: its depth is known, and bounded.
  Node make(Node node, int line) {
    node.line = line;
    for (const Node &part : node.parts) node.depth = std::max(node.depth, part.depth + 1);
    if (node.depth > kDeepest) refuse_template(line, cat("parts are nested deeper than ", kDeepest));
    return node;
  }
  // Recursion of the parser itself.
  struct Level {
    explicit Level(ExpressionParser &of) : parser(of) {
      if (++of.level_ > kDeepest) refuse_template(of.peek().line, cat("parts are nested deeper than ", kDeepest));
    }
    ~Level() { --parser.level_; }
    ExpressionParser &parser;
  };

  Node expression() {
    const Level level(*this);
    const int line = peek().line;
    Node value = either();
    while (word("if")) {
      Node condition = either();
      Node otherwise = word("else") ? expression() : Node();
      value = make({.kind = Node::CHOICE, .parts = list(std::move(value), std::move(condition), std::move(otherwise))},
                   line);
    }
    return value;
  }

  template <class... Nodes>
  static std::vector<Node> list(Nodes... nodes) {
    std::vector<Node> parts;
    parts.reserve(sizeof...(nodes));
    (parts.push_back(std::move(nodes)), ...);
    return parts;
  }
  Node binary(std::string of, Node left, Node right, int line) {
    return make({.kind = Node::BINARY, .name = std::move(of), .parts = list(std::move(left), std::move(right))}, line);
  }

  Node either() {
    Node left = both();
    for (int line = peek().line; word("or"); line = peek().line) left = binary("or", std::move(left), both(), line);
    return left;
  }
  Node both() {
    Node left = negation();
    for (int line = peek().line; word("and"); line = peek().line)
      left = binary("and", std::move(left), negation(), line);
    return left;
  }
  Node negation() {
    const Level level(*this);
    const int line = peek().line;
    if (!word("not")) return comparison();
    return make({.kind = Node::UNARY, .name = "not", .parts = list(negation())}, line);
  }

  // The sign or words of a comparison, taken; "": there is none.
  std::string comparing() {
    for (const char *of : {"==", "!=", "<=", ">=", "<", ">"})
      if (sign(of)) return of;
    if (word("in")) return "in";
    if (is(Token::WORD, "not") && peek(1).text == "in") {
      take(), take();
      return "not in";
    }
    return "";
  }
  Node comparison() {
    Node left = sum();
    std::optional<Node> chain;
    while (true) {
      const int line = peek().line;
      const std::string of = comparing();
      if (of.empty()) return chain ? std::move(*chain) : std::move(left);
      Node right = sum(), again = right;
      Node one = binary(of, std::move(left), std::move(right), line);
      chain = chain ? binary("and", std::move(*chain), std::move(one), line) : std::move(one);
      left = std::move(again);
    }
  }

  // Operators of the same precedence, from left to right.
  template <class Next>
  Node operators(std::initializer_list<const char *> signs, const Next &next) {
    Node left = next();
    while (true) {
      const int line = peek().line;
      const auto of = std::find_if(signs.begin(), signs.end(), [&](const char *each) { return sign(each); });
      if (of == signs.end()) return left;
      left = binary(*of, std::move(left), next(), line);
    }
  }
  Node sum() {
    return operators({"+", "-"}, [&] { return operators({"~"}, [&] { return product(); }); });
  }
  Node product() {
    return operators({"*", "//", "/", "%"}, [&] { return signed_value(); });
  }
  Node signed_value() {
    const Level level(*this);
    const int line = peek().line;
    for (const char *of : {"-", "+"})
      if (sign(of)) return tested(make({.kind = Node::UNARY, .name = of, .parts = list(signed_value())}, line));
    Node value = suffixed(primary());
    if (sign("**")) value = binary("**", std::move(value), signed_value(), line);
    return tested(std::move(value));
  }

  // Filters and tests.
  Node tested(Node value) {
    while (true) {
      const int line = peek().line;
      Node node;
      if (sign("|")) {
        node = {.kind = Node::FILTER, .name = name(), .parts = list(std::move(value))};
        if (sign("(")) arguments(node);
      } else if (word("is")) {
        const bool negated = word("not");
        node = {.kind = Node::TEST, .name = name(), .parts = list(std::move(value))};
        const auto kind = peek().kind;
        const bool operand =
            kind == Token::STRING || kind == Token::INTEGER || kind == Token::REAL || is(Token::SIGN, "[") ||
            (kind == Token::WORD && !is(Token::WORD, "and") && !is(Token::WORD, "or") && !is(Token::WORD, "if") &&
             !is(Token::WORD, "else") && !is(Token::WORD, "is") && !is(Token::WORD, "not") && !is(Token::WORD, "in"));
        if (sign("(")) {
          arguments(node);
        } else if (operand) {
          node.parts.push_back(suffixed(primary()));
          node.names.emplace_back();
        }
        node = make(std::move(node), line);
        if (negated) node = {.kind = Node::UNARY, .name = "not", .parts = list(std::move(node))};
      } else {
        return value;
      }
      value = make(std::move(node), line);
    }
  }

  // Arguments up to the closing bracket.
  void arguments(Node &node) {
    while (!sign(")")) {
      std::string argument;
      if (peek().kind == Token::WORD && peek(1).kind == Token::SIGN && peek(1).text == "=") {
        argument = take().text;
        take();
      }
      node.parts.push_back(expression());
      node.names.push_back(argument);
      if (!sign(",") && !is(Token::SIGN, ")"))
        refuse_template(peek().line, "a ',' or ')' is missing between arguments");
    }
  }

  Node suffixed(Node value) {
    while (true) {
      const int line = peek().line;
      Node node;
      if (sign(".")) {
        if (peek().kind == Token::INTEGER) node = {.kind = Node::ITEM, .parts = list(std::move(value), primary())};
        else node = {.kind = Node::ATTRIBUTE, .name = name(), .parts = list(std::move(value))};
      } else if (sign("[")) {
        std::array<Node, 3> bounds;
        bool slice = false;
        for (size_t i = 0; i < bounds.size(); ++i) {
          if (!is(Token::SIGN, ":") && !is(Token::SIGN, "]")) bounds[i] = expression();
          if (i == 2 || !sign(":")) break;
          slice = true;
        }
        need(Token::SIGN, "]");
        node = slice ? Node{.kind = Node::SLICE, .parts = list(std::move(value), bounds[0], bounds[1], bounds[2])}
                     : Node{.kind = Node::ITEM, .parts = list(std::move(value), bounds[0])};
      } else if (sign("(")) {
        node = {.kind = Node::CALL, .parts = list(std::move(value))};
        arguments(node);
      } else {
        return value;
      }
      value = make(std::move(node), line);
    }
  }

  Node constant(Value value, int line) { return make({.kind = Node::CONSTANT, .value = std::move(value)}, line); }

  Node primary() {
    const Token token = take();
    const auto number = [&](auto value) {
      std::string digits = token.text;
      std::erase(digits, '_');
      const char *const begin = digits.data(), *const end = begin + digits.size();
      std::errc error{};
      if constexpr (std::is_floating_point_v<decltype(value)>) error = platform::real_from_chars(begin, end, value).ec;
      else error = std::from_chars(begin, end, value).ec;
      if (error != std::errc()) refuse_template(token.line, "a number is too large");
      return constant(value, token.line);
    };
    switch (token.kind) {
      case Token::STRING: return constant(Text(token.text), token.line);
      case Token::INTEGER: return number(int64_t{});
      case Token::REAL: return number(double{});
      case Token::WORD:
        if (token.text == "true" || token.text == "True") return constant(true, token.line);
        if (token.text == "false" || token.text == "False") return constant(false, token.line);
        if (token.text == "none" || token.text == "None") return constant(None(), token.line);
        return make({.kind = Node::NAME, .name = token.text}, token.line);
      case Token::SIGN:
        if (token.text == "(") return tuple(token.line);
        if (token.text == "[" || token.text == "{") return collection(token.text == "{", token.line);
        [[fallthrough]];
      default: refuse_template(token.line, cat("a value is missing before '", printable(token.text), "'"));
    }
  }
  // (a), or a tuple, which is a list here.
  Node tuple(int line) {
    Node items = {.kind = Node::LIST};
    bool comma = false;
    while (!sign(")")) {
      items.parts.push_back(expression());
      if (!is(Token::SIGN, ")")) need(Token::SIGN, ","), comma = true;
    }
    if (items.parts.size() == 1 && !comma) return std::move(items.parts[0]);
    return make(std::move(items), line);
  }
  Node collection(bool dict, int line) {
    const std::string_view end = dict ? "}" : "]";
    Node node = {.kind = dict ? Node::DICT : Node::LIST};
    while (!sign(end)) {
      node.parts.push_back(expression());
      if (dict) {
        need(Token::SIGN, ":");
        node.parts.push_back(expression());
      }
      if (!is(Token::SIGN, end)) need(Token::SIGN, ",");
    }
    return make(std::move(node), line);
  }

 private:
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int level_ = 0;
};

}  // namespace infini::jinja
