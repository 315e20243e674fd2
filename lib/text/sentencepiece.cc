#include "text/sentencepiece.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "text/utf8.h"

namespace infini {
namespace {

// SentencePiece writes a space as U+2581. Tokens are kept with plain spaces instead, so that text is matched as it
// stands, and a U+2581 of the text itself comes back as what it was.
void restore_spaces(std::string &piece) {
  constexpr std::string_view mark = "\u2581";
  size_t size = 0;
  for (size_t at = 0; at < piece.size(); ++size) {
    const bool space = piece.compare(at, mark.size(), mark) == 0;
    piece[size] = space ? ' ' : piece[at];
    at += space ? mark.size() : 1;
  }
  piece.resize(size);
}

// The byte that "<0x0A>" names.
unsigned char named_byte(const std::string &piece, int32_t id) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  if (piece.size() == 6 && piece.starts_with("<0x") && piece[5] == '>' && digit(piece[3]) >= 0 && digit(piece[4]) >= 0)
    return static_cast<unsigned char>(digit(piece[3]) * 16 + digit(piece[4]));
  fail(Status::FORMAT, "tokenizer.ggml.tokens: token ", id, " is a byte but not of the form <0x0A>");
}

// For each token its rank in the order of falling scores.
std::vector<int32_t> ranks_of(const std::vector<double> &scores) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  std::vector<int32_t> ranks(scores.size());
  int32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && scores[order[i]] != scores[order[i - 1]]) ++rank;
    ranks[order[i]] = rank;
  }
  return ranks;
}

}  // namespace

SentencePiece::SentencePiece(const Gguf &gguf, Vocabulary &vocabulary) : vocabulary_(vocabulary) {
  std::vector<double> scores(vocabulary.pieces.size());  // all equal where the file has none
  if (gguf.find("tokenizer.ggml.scores")) scores = gguf.get_doubles("tokenizer.ggml.scores");
  if (scores.size() != vocabulary.pieces.size())
    fail(Status::FORMAT, "tokenizer.ggml.scores has ", scores.size(), " entries for ", vocabulary.size(), " tokens");
  if (!std::all_of(scores.begin(), scores.end(), [](double score) { return std::isfinite(score); }))
    fail(Status::FORMAT, "tokenizer.ggml.scores: a score is not finite");
  const std::vector<int32_t> ranks = ranks_of(scores);

  vocabulary.bytes.fill(-1);
  unknown_ = vocabulary.id_of_key(gguf, "tokenizer.ggml.unknown_token_id");
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    std::string &piece = vocabulary.pieces[id];
    if (vocabulary.of_type(id, TokenType::BYTE)) {
      const unsigned char byte = named_byte(piece, id);
      piece.assign(1, static_cast<char>(byte));
      if (vocabulary.bytes[byte] < 0) vocabulary.bytes[byte] = id;
    } else if (vocabulary.of_type(id, TokenType::UNKNOWN)) {
      if (unknown_ < 0) unknown_ = id;
    } else if (vocabulary.of_type(id, TokenType::NORMAL)) {
      restore_spaces(piece);
      tokens_.emplace(piece, Token{id, ranks[id]});
      longest_ = std::max(longest_, piece.size());
      const size_t word = piece.find_first_not_of(' ');
      if (word != piece.npos && piece.find(' ', word) != piece.npos) splits_at_spaces_ = false;
    } else if (vocabulary.of_type(id, TokenType::USER_DEFINED)) {
      restore_spaces(piece);
    }
  }
  complete_ = unknown_ >= 0 || vocabulary.has_all_bytes();
}

void SentencePiece::encode(std::string_view text, std::vector<int32_t> &ids) const {
  std::vector<std::string_view> symbols;
  Merger<std::string_view> merger;
  const auto find = [this](std::string_view left, std::string_view right) -> Join<std::string_view> {
    const std::string_view joined(left.data(), left.size() + right.size());
    if (joined.size() > longest_) return {};
    const auto token = tokens_.find(joined);
    if (token == tokens_.end()) return {};
    return {token->second.rank, joined};
  };
  bool unknown = false;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    // Where no token reaches over the border between two words, each is merged by itself.
    end = text.size();
    if (splits_at_spaces_) end = std::min(end, text.find(' ', std::min(end, text.find_first_not_of(' ', begin))));
    symbols.clear();
    for (size_t at = begin; at < end; at += symbols.back().size())
      symbols.push_back(text.substr(at, utf8_size(text[at])));
    merger.run(symbols, find);
    for (const std::string_view symbol : symbols) append(symbol, ids, unknown);
  }
}

// A character that is no token becomes its bytes; where there are no byte tokens, a run of such characters becomes
// one unknown token.
void SentencePiece::append(std::string_view symbol, std::vector<int32_t> &ids, bool &unknown) const {
  if (const auto token = tokens_.find(symbol); token != tokens_.end()) {
    unknown = false;
    return ids.push_back(token->second.id);
  }
  for (const char byte : symbol) {
    if (const int32_t id = vocabulary_.bytes[static_cast<unsigned char>(byte)]; id >= 0) {
      unknown = false;
      ids.push_back(id);
    } else if (!unknown && unknown_ >= 0) {
      unknown = true;
      ids.push_back(unknown_);
    }
  }
}

}  // namespace infini
