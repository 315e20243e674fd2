// Text to token ids and back, as the model's own file describes it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/gguf.h"

namespace infini {

// Bytes of a text: [begin, end).
struct TextRange {
  size_t begin, end;
};

// What becomes of characters that the vocabulary has no token for: an error, nothing, or U+FFFD (where the vocabulary
// has that; else a question mark, if it has one).
enum class UnknownText { FAIL, SKIP, REPLACE };
UnknownText unknown_text_of(std::string_view name);  // "error", "skip" or "replace"

// Immutable after construction; any number of threads may use one.
class Tokenizer {
 public:
  // From the keys tokenizer.ggml.*. Throws FORMAT for bad arrays, UNSUPPORTED for a model or a
  // pre-tokenizer that is not known (the message lists the known ones).
  explicit Tokenizer(const Gguf &gguf);
  ~Tokenizer();

  struct Encode {
    bool special = false;  // parse control tokens (type 3) in the text; user-defined ones (type 4) always are
    bool start = true;     // the text begins the stream: BOS and the space prefix, where the model asks for them
    // Parts of the text, in order, that are not to be trusted, as the contents of messages: no control token, and no
    // other that ends generation, is parsed there, nor one that reaches into them.
    std::span<const TextRange> contents = {};
    UnknownText unknown = UnknownText::FAIL;
    size_t offset = 0;                    // of the text in a longer one: errors name bytes of that
    std::vector<size_t> *ends = nullptr;  // receives for each token the offset of its end in the text
  };
  // Ids of a whole text of up to 2 GiB; EOS is never added. Special tokens are found before all else, the longest
  // one at each offset, and the text after one is tokenized as a text of its own, with the space prefix where the
  // model has it. Where the model was trained on text in Unicode's form NFC, the text is put into that. Invalid UTF-8
  // is an INVALID_ARGUMENT error with its byte offset; a character that the vocabulary has no token for is what
  // how.unknown says, and its bytes are added to *unknown_bytes. (A vocabulary that has an unknown token, as some of
  // SentencePiece's, has one for every character.)
  std::vector<int32_t> encode(std::string_view text, Encode how, int64_t *unknown_bytes = nullptr) const;

  // The bytes that one token stands for; may end inside a UTF-8 character. Control tokens and the unknown one
  // give "" unless `special`. An id outside the vocabulary is an INVALID_ARGUMENT error, here and below.
  // `start`: the token begins the text or follows one of which ends_text() is true, so that the space prefix is taken
  // off.
  std::string piece(int32_t id, bool special = false, bool start = false) const;
  // Whether the text behind this token is a text of its own, which a space prefix begins: the one rule for encode(),
  // decode() and all who put a text together piece by piece.
  bool ends_text(int32_t id) const;
  // All tokens; `start`: they begin the stream, so that the BOS and the space prefix come off which encode() gives
  // then. What encode() was given (or made of it: form NFC, characters without tokens), byte for byte, if they came
  // from there with the same `start` and `special`.
  std::string decode(std::span<const int32_t> ids, bool special = false, bool start = true) const;

  int32_t size() const;
  int32_t bos() const;  // -1: none
  int32_t eos() const;  // -1: none
  // Ends generation: the file's end of sequence, turn or message, or a special token known as one by its text.
  bool is_end(int32_t id) const;
  bool is_control(int32_t id) const;
  bool normalises() const;                   // texts are put into form NFC
  const std::string &model() const;          // "llama" or "gpt2"
  const std::string &chat_template() const;  // "" where the file has none

 private:
  struct Data;
  std::unique_ptr<const Data> data_;
};

// [size]: whether a sentence, or a line, ends with the token.
std::vector<bool> sentence_ends(const Tokenizer &tokenizer);

}  // namespace infini
