// SentencePiece's BPE with scores and byte fallback, as Llama 2 has it (tokenizer.ggml.model = llama).
#pragma once

#include <unordered_map>

#include "base/hash.h"
#include "text/merge.h"
#include "text/vocabulary.h"

namespace infini {

class SentencePiece : public TextModel {
 public:
  // Translates the vocabulary's pieces into bytes; it must outlive this object. Throws FORMAT.
  SentencePiece(const Gguf &gguf, Vocabulary &vocabulary);
  // A space prefix is the caller's to add.
  void encode(std::string_view text, std::vector<int32_t> &ids) const override;
  bool complete() const override { return complete_; }
  // With an unknown token every character; else those that are tokens, and those whose bytes all are.
  bool expresses(std::string_view character) const override {
    return unknown_ >= 0 || tokens_.contains(character) || vocabulary_.has_bytes(character);
  }

 private:
  struct Token {
    int32_t id, rank;  // rank: 0 for the highest score; equal scores have equal ranks
  };
  void append(std::string_view symbol, std::vector<int32_t> &ids, bool &unknown) const;

  const Vocabulary &vocabulary_;
  std::unordered_map<std::string_view, Token, TextHash> tokens_;  // ordinary tokens by their bytes
  size_t longest_ = 0;                                            // bytes of the longest of them
  bool splits_at_spaces_ = true;                                  // no token has a space after anything else
  int32_t unknown_ = -1;
  bool complete_ = false;
};

}  // namespace infini
