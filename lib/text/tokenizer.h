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
  };
  // Ids of a whole text of up to 2 GiB; EOS is never added. Special tokens are found before all else, the longest
  // one at each place, and the text after one is tokenized as a text of its own, with the space prefix where the
  // model has it. Invalid UTF-8 is an INVALID_ARGUMENT error with its byte offset; a byte that the vocabulary
  // cannot express is one too.
  std::vector<int32_t> encode(std::string_view text, Encode how) const;

  // The bytes that one token stands for; may end inside a UTF-8 character. Control tokens and the unknown one
  // give "" unless `special`. An id outside the vocabulary is an INVALID_ARGUMENT error, here and below.
  // `start`: the token begins the text or follows a special token, so that the space prefix is taken off.
  std::string piece(int32_t id, bool special = false, bool start = false) const;
  // All tokens, the first as the start of the text: what encode() was given, byte for byte, if they came from there.
  std::string decode(std::span<const int32_t> ids, bool special = false) const;

  int32_t size() const;
  int32_t bos() const;  // -1: none
  int32_t eos() const;  // -1: none
  // Ends generation: the file's end of sequence, turn or message, or a special token known as one by its text.
  bool is_end(int32_t id) const;
  bool is_control(int32_t id) const;
  const std::string &model() const;          // "llama" or "gpt2"
  const std::string &chat_template() const;  // "" where the file has none

 private:
  struct Data;
  std::unique_ptr<const Data> data_;
};

// [size]: whether a sentence, or a line, ends with the token.
std::vector<bool> sentence_ends(const Tokenizer &tokenizer);

}  // namespace infini
