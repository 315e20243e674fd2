// Files of text, read in pieces, for sources of sequences. Errors name the file. A mark is the byte order mark of
// Unicode.
#pragma once

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"
#include "text/utf8.h"

namespace infini {

// Bytes of a file from some offset on. IO if it cannot be read. A file that begins with a mark of UTF-16 is given as
// UTF-8; offsets and sizes then count bytes of that, and it is read from its beginning whatever the offset.
// INVALID_ARGUMENT for a mark of UTF-32, and for UTF-16 that is invalid.
class ByteFile {
 public:
  ByteFile(const std::string &path, int64_t offset);
  // Fills the string with the next bytes, at most so many; false at the end.
  bool read(std::string &bytes, size_t most);
  const std::string &path() const { return path_; }
  int64_t size() const;

 private:
  bool read_stored(std::string &bytes, size_t most);

  std::string path_;
  std::ifstream file_;
  int64_t size_;
  std::optional<TextDecoder> utf16_;
  std::string ready_;  // UTF-8 that was not asked for yet
  bool finished_ = false;
};

// A text in pieces that can be tokenized one by one: UTF-8 or UTF-16, with or without a mark, with any line ends.
class TextFile {
 public:
  // From an offset in the file at which a character begins; where pieces end depends on it.
  explicit TextFile(const std::string &path, int64_t offset = 0);
  // Appends the tokens of the next piece; false at the end. INVALID_ARGUMENT for text in neither encoding, or with
  // characters without tokens; where `how` lets those pass, `unknown_bytes` counts their bytes.
  bool next(const Tokenizer &tokenizer, Tokenizer::Encode how, std::vector<int32_t> &tokens,
            int64_t *unknown_bytes = nullptr);
  int64_t offset() const { return offset_; }  // of the next piece
  int64_t size() const { return file_.size(); }

 private:
  std::string next();  // "" at the end

  ByteFile file_;
  TextStream stream_;
  int64_t begin_, offset_;
  bool finished_ = false;
};

// Lines without their ends, and without a mark at the start of the file. FORMAT for a line of more than 64 MiB.
class LineFile {
 public:
  explicit LineFile(const std::string &path, int64_t offset = 0);
  bool next(std::string &line);               // false at the end
  int64_t offset() const { return offset_; }  // of the next line
  const std::string &path() const { return file_.path(); }

 private:
  bool read_line(std::string &line);

  ByteFile file_;
  std::string buffer_, more_;
  size_t begin_ = 0;
  int64_t offset_;
};

}  // namespace infini
