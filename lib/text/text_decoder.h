// Text as systems write it, to UTF-8 with plain line ends.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace infini {

// UTF-8 with or without a mark (BOM), or UTF-16 with one, in bytes that may be cut anywhere. The mark is dropped, and
// CR LF and a lone CR become LF, as in most languages' text files.
class TextDecoder {
 public:
  // `begins`: a mark may come; else the bytes are the middle of UTF-8.
  explicit TextDecoder(bool begins = true) : encoding_(begins ? Encoding::UNKNOWN : Encoding::UTF8) {}

  // Appends whole characters to the text. INVALID_ARGUMENT, with the offset of the byte and how to convert, for
  // anything else; nothing is changed then.
  void push(std::string_view bytes, std::string &text);
  // No more bytes come. An unfinished character is an INVALID_ARGUMENT error.
  void finish(std::string &text);

  // Of a text in UTF-8: how many of the bytes that its first `size` bytes were made of gave no byte: the mark, and the
  // LF of each CR LF. `size` must not fall from call to call.
  uint64_t dropped_before(uint64_t size);

 private:
  enum class Encoding { UNKNOWN, UTF8, UTF16_LITTLE, UTF16_BIG };
  static Encoding encoding_of(std::string_view bytes, bool finished, size_t &mark);
  size_t whole_utf8(std::string_view bytes) const;
  std::string from_utf16(std::string_view bytes, size_t &done) const;
  void append(std::string_view characters, std::string &text);

  Encoding encoding_;
  std::string pending_;       // bytes of a mark or a character that is not all there
  uint64_t offset_ = 0;       // of pending_ in the bytes
  bool after_cr_ = false;     // an LF that comes next was given already
  uint64_t written_ = 0;      // bytes of text
  std::deque<uint64_t> lfs_;  // offsets in the text behind which an LF was dropped
  uint64_t dropped_ = 0;      // bytes: the mark, and the LFs that are not in lfs_ any more
};

}  // namespace infini
