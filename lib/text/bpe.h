// Byte-level BPE, as GPT-2 has it (tokenizer.ggml.model = gpt2).
#pragma once

#include <optional>
#include <unordered_map>

#include "base/hash.h"
#include "text/merge.h"
#include "text/pretokenizer.h"
#include "text/vocabulary.h"

namespace infini {

class Bpe : public TextModel {
 public:
  // Translates the vocabulary's pieces into bytes; it must outlive this object. Throws FORMAT or UNSUPPORTED.
  Bpe(const Gguf &gguf, Vocabulary &vocabulary);
  void encode(std::string_view text, std::vector<int32_t> &ids) const override;
  bool complete() const override { return complete_; }
  bool expresses(std::string_view character) const override { return vocabulary_.has_bytes(character); }
  bool begins_with_bos() const { return pretokenizer_.begins_with_bos(); }
  bool normalises() const { return pretokenizer_.normalises(); }

 private:
  // Merges by the ids of both sides, in an open hash table with linear probing, whose hash no file can foresee.
  struct Merge {
    int32_t left = -1, right = -1;  // -1: an empty slot
    Join<int32_t> join;
  };
  size_t slot_of(int32_t left, int32_t right) const;
  Join<int32_t> find(int32_t left, int32_t right) const;
  void read_merges(const std::vector<std::string> &merges);
  int32_t id_of(std::string_view bytes) const;  // of an ordinary token, -1: none

  const Vocabulary &vocabulary_;
  Pretokenizer pretokenizer_;
  bool complete_ = false;
  std::unordered_map<std::string_view, int32_t, TextHash> ids_;  // ordinary tokens by their bytes
  uint64_t factor_ = table_secret() | 1;
  std::vector<Merge> merges_;  // a power of two of slots, at most half of them taken
};

}  // namespace infini
