// Streams of UTF-8 that arrive in pieces.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "text/text_decoder.h"

namespace infini {

// Offset of the first byte that is not valid UTF-8 (RFC 3629: no overlong forms, no surrogates), or npos.
// With `partial`, an unfinished character at the end is no error.
size_t find_invalid_utf8(std::string_view text, bool partial = false);

// Bytes of the character that begins with `lead`, in valid text.
inline size_t utf8_size(char lead) {
  const unsigned char byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

// The code point of one character of valid text, as "U+00E9".
std::string utf8_name(std::string_view character);

// Text of a file or a caller, fit for a message: made valid, and cut at `most` bytes.
std::string printable(std::string_view text, size_t most = 64);

// Whole characters out of bytes that may be cut anywhere: what generation prints.
class Utf8Stream {
 public:
  // Adds bytes and takes out every complete character; what cannot belong to any becomes U+FFFD,
  // one for each longest beginning of a character that breaks off (as Unicode recommends, and browsers do).
  std::string push(std::string_view bytes);
  // What is left over at the end, an unfinished character as U+FFFD.
  std::string finish();
  const std::string &pending() const { return pending_; }  // at most 3 bytes; part of a session's state
  void set_pending(std::string bytes) { pending_ = std::move(bytes); }

 private:
  std::string pending_;
};

// A long text in pieces that can be tokenized one by one: files, pipes, request bodies, as TextDecoder reads them.
// A piece ends at the first single space between two letters from 4 KiB on, or at 64 KiB where there is none, before a
// letter or behind its marks.
// So pieces depend on the text alone, however it arrives, and at such a space every pre-tokenizer begins a new
// word: tokens of the pieces are those of the whole. (Only a special token that has such a space within itself,
// or a SentencePiece token of two words, may be cut in two.)
class TextStream {
 public:
  TextStream() = default;
  // `begins`: from the text's beginning, where a mark may tell the encoding; else from the middle of UTF-8.
  explicit TextStream(bool begins) : decoder_(begins) {}
  // Adds bytes. Errors as TextDecoder's; nothing is added then.
  void push(std::string_view bytes);
  // The next piece, or "" if more bytes are needed. After finish() the last piece comes too.
  std::string next();
  // No more bytes come. An unfinished character is an INVALID_ARGUMENT error.
  void finish();
  // How many bytes of UTF-8 the pieces so far were made of.
  uint64_t bytes_taken() { return offset_ + begin_ + decoder_.dropped_before(offset_ + begin_); }

 private:
  static constexpr size_t shortest = 4096, longest = 65536, most_marks = 256;  // bytes of a piece, the last one aside
  std::string take(size_t size);

  TextDecoder decoder_;
  std::string buffer_;         // whole characters
  size_t offset_ = 0;          // of buffer_ in the text
  size_t begin_ = 0;           // of the next piece in buffer_
  size_t scanned_ = shortest;  // no cut in the next piece before this
  bool finished_ = false;
};

}  // namespace infini
