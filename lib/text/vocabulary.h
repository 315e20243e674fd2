// What both tokenizer models share: the tokens of the file, and the step from plain text to ids.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "format/gguf.h"

namespace infini {

enum class TokenType : uint8_t { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

struct Vocabulary {
  // From tokenizer.ggml.tokens and .token_type, as they stand in the file. Throws FORMAT.
  explicit Vocabulary(const Gguf &gguf);

  // The id under a key, or -1 where the key is absent or is -1; FORMAT if it is not in the vocabulary.
  int32_t id_of_key(const Gguf &gguf, const std::string &key) const;
  bool is_special(int32_t id) const { return of_type(id, TokenType::CONTROL) || of_type(id, TokenType::USER_DEFINED); }
  bool of_type(int32_t id, TokenType type) const { return types[id] == type; }
  int32_t size() const { return static_cast<int32_t>(pieces.size()); }
  bool has_bytes(std::string_view text) const;  // each of its bytes has a token of its own
  bool has_all_bytes() const;                   // so has every byte that UTF-8 is made of

  std::vector<std::string> pieces;  // the bytes that each token stands for, once a model has translated them
  std::vector<TokenType> types;
  std::array<int32_t, 256> bytes;  // the token of each single byte, -1: none; filled by the model
};

// Text without special tokens to ids. Immutable; any number of threads may use one.
class TextModel {
 public:
  virtual ~TextModel() = default;
  // Appends the ids of valid UTF-8 shorter than 4 GiB, of characters that all have tokens.
  virtual void encode(std::string_view text, std::vector<int32_t> &ids) const = 0;
  // Whether every character has tokens, and whether this one has.
  virtual bool complete() const = 0;
  virtual bool expresses(std::string_view character) const = 0;
};

}  // namespace infini
