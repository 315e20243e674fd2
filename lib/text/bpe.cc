#include "text/bpe.h"

#include "base/log.h"
#include "text/utf8.h"

namespace infini {
namespace {

// GPT-2 writes each byte as one printable character, so that a vocabulary is plain text: printable Latin-1 stands
// for itself, the 68 other bytes, in order, for U+0100 and up. Here: from the character to the byte.
constexpr int alphabet_size = 256 + 68;

std::array<int, alphabet_size> make_alphabet() {
  std::array<int, alphabet_size> byte_of;
  byte_of.fill(-1);
  int others = 0;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable_byte = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
    byte_of[printable_byte ? byte : 256 + others++] = byte;
  }
  return byte_of;
}

// The bytes that a text of the alphabet stands for; nothing if another character is in it.
std::optional<std::string> to_bytes(std::string_view text) {
  static const std::array<int, alphabet_size> byte_of = make_alphabet();
  std::string bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned character = static_cast<unsigned char>(text[i]);
    if (character >= 0x80) {  // the alphabet ends below U+0800: two bytes
      if (character >= 0xe0 || i + 1 == text.size()) return {};
      character = (character & 0x1f) << 6 | (static_cast<unsigned char>(text[++i]) & 0x3f);
    }
    if (character >= alphabet_size || byte_of[character] < 0) return {};
    bytes.push_back(static_cast<char>(byte_of[character]));
  }
  return bytes;
}

std::string pretokenizer_name(const Gguf &gguf) {
  if (!gguf.find("tokenizer.ggml.pre"))
    log(LogLevel::WARNING, "the model does not name its pre-tokenizer (tokenizer.ggml.pre); gpt-2 is taken");
  return gguf.get_string("tokenizer.ggml.pre", "gpt-2");
}

}  // namespace

Bpe::Bpe(const Gguf &gguf, Vocabulary &vocabulary) : vocabulary_(vocabulary), pretokenizer_(pretokenizer_name(gguf)) {
  vocabulary.bytes.fill(-1);
  ids_.reserve(vocabulary.pieces.size());
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    // Special tokens stand in the file as their own text.
    if (!vocabulary.of_type(id, TokenType::NORMAL) && !vocabulary.of_type(id, TokenType::BYTE)) continue;
    std::string &piece = vocabulary.pieces[id];
    if (std::optional<std::string> bytes = to_bytes(piece)) piece = std::move(*bytes);
    if (!ids_.emplace(piece, id).second) continue;
    if (piece.size() == 1) vocabulary.bytes[static_cast<unsigned char>(piece[0])] = id;
  }
  // SmolLM2's, for one, has no token for six control characters and for what begins characters from U+40000 on.
  complete_ = vocabulary.has_all_bytes();
  read_merges(gguf.get_strings("tokenizer.ggml.merges"));
}

void Bpe::read_merges(const std::vector<std::string> &merges) {
  if (merges.size() >= static_cast<size_t>(no_rank)) fail(Status::FORMAT, "tokenizer.ggml.merges: too many");
  size_t slots = 2;
  while (slots < 2 * merges.size()) slots *= 2;
  merges_.resize(slots);
  size_t left_out = 0;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view merge = merges[rank];
    const size_t space = merge.find(' ');
    if (space == 0 || space == merge.npos || space + 1 == merge.size() || merge.find(' ', space + 1) != merge.npos)
      fail(Status::FORMAT, "tokenizer.ggml.merges: entry ", rank, " is not two tokens and a space between them");
    const std::optional<std::string> left = to_bytes(merge.substr(0, space)), right = to_bytes(merge.substr(space + 1));
    if (!left || !right) fail(Status::FORMAT, "tokenizer.ggml.merges: entry ", rank, " has a character for no byte");
    const int32_t left_id = id_of(*left), right_id = id_of(*right), joined = id_of(*left + *right);
    if (left_id < 0 || right_id < 0 || joined < 0) {
      ++left_out;  // among them any that would make a control token of plain text
      continue;
    }
    Merge &entry = merges_[slot_of(left_id, right_id)];
    if (entry.left < 0) entry = {left_id, right_id, {static_cast<int32_t>(rank), joined}};
  }
  if (left_out > 0)
    log(LogLevel::WARNING, cat(left_out, " of ", merges.size(), " merges are of no ordinary tokens and are left out"));
}

int32_t Bpe::id_of(std::string_view bytes) const {
  const auto found = ids_.find(bytes);
  return found == ids_.end() ? -1 : found->second;
}

size_t Bpe::slot_of(int32_t left, int32_t right) const {
  uint64_t hash = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  hash = (hash ^ hash >> 31) * factor_;
  const size_t mask = merges_.size() - 1;
  size_t at = (hash ^ hash >> 32) & mask;
  while (merges_[at].left >= 0 && (merges_[at].left != left || merges_[at].right != right)) at = (at + 1) & mask;
  return at;
}

Join<int32_t> Bpe::find(int32_t left, int32_t right) const {
  return merges_[slot_of(left, right)].join;  // an empty slot joins nothing
}

void Bpe::encode(std::string_view text, std::vector<int32_t> &ids) const {
  std::vector<int32_t> symbols;
  Merger<int32_t> merger;
  pretokenizer_.split(text, [&](std::string_view word) {
    if (pretokenizer_.whole_words()) {
      if (const int32_t id = id_of(word); id >= 0) return ids.push_back(id);
    }
    symbols.clear();
    for (const char byte : word) symbols.push_back(vocabulary_.bytes[static_cast<unsigned char>(byte)]);
    merger.run(symbols, [this](int32_t left, int32_t right) { return find(left, right); });
    ids.insert(ids.end(), symbols.begin(), symbols.end());
  });
}

}  // namespace infini
