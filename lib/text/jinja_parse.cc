// Tokens to a tree.
#include <algorithm>

#include "text/jinja_expressions.h"
#include "text/utf8.h"

namespace infini::jinja {
namespace {

constexpr size_t kLongest = 1 << 18;  // bytes of a template; published ones have up to some 20,000

class Parser : private ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Node all() {
    Node tree = block({});
    if (peek().kind != Token::END)
      refuse_template(peek().line, cat("'", printable(peek(1).text), "' belongs to nothing"));
    return tree;
  }

 private:
  // Statements up to one that begins with one of the words, which is left with its {%.
  Node block(std::initializer_list<std::string_view> ends) {
    const Level level(*this);
    Node node = {.kind = Node::BLOCK};
    const int line = peek().line;
    while (peek().kind != Token::END) {
      if (peek().kind == Token::STATEMENT &&
          std::find(ends.begin(), ends.end(), std::string_view(peek(1).text)) != ends.end())
        break;
      if (peek().kind == Token::DATA) {
        const Token token = take();
        node.parts.push_back(make({.kind = Node::TEXT, .value = Text(token.text)}, token.line));
      } else if (peek().kind == Token::PRINT) {
        const Token token = take();
        node.parts.push_back(make({.kind = Node::OUTPUT, .parts = list(expression())}, token.line));
        need(Token::END_PRINT, "");
      } else if (peek().kind == Token::STATEMENT && !peek(1).text.starts_with("end") && peek(1).text != "else" &&
                 peek(1).text != "elif") {
        take();
        node.parts.push_back(statement());
      } else {
        break;
      }
    }
    return make(std::move(node), line);
  }
  void close(std::string_view word) {
    if (peek().kind != Token::STATEMENT) refuse_template(peek().line, cat("{% ", word, " %} is missing"));
    take();
    need(Token::WORD, word);
    end_statement();
  }
  // The opening words of the tag that comes, taken where they are this one.
  bool tag(std::string_view text) {
    if (peek().kind != Token::STATEMENT || peek(1).text != text) return false;
    take(), take();
    return true;
  }

  Node statement() {
    const int line = peek().line;
    const std::string what = name();
    if (what == "if") return branches(line);
    if (what == "for") return loop(line);
    if (what == "set") return assignment(line);
    if (what == "macro") return macro(line);
    if (what == "break" || what == "continue") {
      end_statement();
      return make({.kind = what == "break" ? Node::BREAK : Node::CONTINUE}, line);
    }
    if (what == "generation") {  // marks what a model is trained on
      end_statement();
      Node inner = block({"endgeneration"});
      close("endgeneration");
      return inner;
    }
    refuse_template(line, cat("{% ", printable(what), " %} is not known here"));
  }
  Node branches(int line) {
    Node node = {.kind = Node::IF};
    do {
      node.parts.push_back(expression());
      end_statement();
      node.parts.push_back(block({"elif", "else", "endif"}));
    } while (tag("elif"));
    node.parts.push_back(otherwise({"endif"}));
    close("endif");
    return make(std::move(node), line);
  }
  Node otherwise(std::initializer_list<std::string_view> ends) {
    if (!tag("else")) return {};
    end_statement();
    return block(ends);
  }
  std::vector<std::string> targets() {
    const bool brackets = sign("(");
    std::vector<std::string> names = {name()};
    while (sign(",")) names.push_back(name());
    if (brackets) need(Token::SIGN, ")");
    return names;
  }
  Node loop(int line) {
    Node node = {.kind = Node::FOR, .names = targets()};
    need(Token::WORD, "in");
    node.parts.push_back(either());  // its `if` is the loop's
    node.parts.push_back(word("if") ? expression() : Node());
    word("recursive");
    end_statement();
    node.parts.push_back(block({"else", "endfor"}));
    node.parts.push_back(otherwise({"endfor"}));
    close("endfor");
    return make(std::move(node), line);
  }
  Node assignment(int line) {
    Node node = {.kind = Node::SET, .names = targets()};
    if (node.names.size() == 1 && sign(".")) {
      node.attribute = true;
      node.names.push_back(name());
    }
    if (sign("=")) {
      Node value = expression();
      if (is(Token::SIGN, ",")) {
        Node tuple = {.kind = Node::LIST, .parts = list(std::move(value))};
        while (sign(",")) tuple.parts.push_back(expression());
        value = make(std::move(tuple), line);
      }
      node.parts.push_back(std::move(value));
      end_statement();
    } else {
      end_statement();
      node.parts.push_back(block({"endset"}));
      close("endset");
    }
    return make(std::move(node), line);
  }
  Node macro(int line) {
    Node node = {.kind = Node::MACRO, .name = name()};
    need(Token::SIGN, "(");
    while (!sign(")")) {
      node.names.push_back(name());
      node.parts.push_back(sign("=") ? expression() : Node());
      if (!is(Token::SIGN, ")")) need(Token::SIGN, ",");
    }
    end_statement();
    node.parts.push_back(block({"endmacro"}));
    close("endmacro");
    return make(std::move(node), line);
  }
};

}  // namespace

Node parse(std::string_view source) {
  if (source.size() > kLongest)
    fail(Status::UNSUPPORTED, "the chat template has ", source.size(), " bytes; at most ", kLongest, " are read");
  return Parser(tokens_of(source)).all();
}

}  // namespace infini::jinja
