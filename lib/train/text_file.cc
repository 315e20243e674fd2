#include "train/text_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/status.h"

namespace infini {
namespace {

constexpr size_t kRead = size_t{1} << 16, kLongestLine = size_t{64} << 20;
constexpr std::string_view kMark = "\xef\xbb\xbf";

void refuse_utf16(const std::string &path) {
  std::string mark;
  ByteFile(path, 0).read(mark, 2);
  if (mark == "\xff\xfe" || mark == "\xfe\xff")
    fail(Status::INVALID_ARGUMENT, path,
         ": is UTF-16, but training reads UTF-8; `iconv -f UTF-16 -t UTF-8` converts it");
}

}  // namespace

ByteFile::ByteFile(const std::string &path, int64_t offset) : path_(path) {
  std::error_code error;
  // A folder opens like a file, and a pipe has no size to come back to.
  if (std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error))
    fail(Status::IO, path, ": not a regular file");
  file_.open(path, std::ios::binary);
  if (const int code = errno; !file_) throw Error(Status::IO, cat(path, ": ", std::strerror(code)), code);
  size_ = static_cast<int64_t>(file_.seekg(0, std::ios::end).tellg());
  if (size_ < 0) fail(Status::IO, path, ": cannot tell its size");
  if (offset < 0 || offset > size_)
    fail(Status::FORMAT, path, ": was read up to byte ", offset, ", but has only ", size_, " now");
  file_.seekg(offset);
}

bool ByteFile::read(std::string &bytes, size_t most) {
  bytes.resize(most);
  file_.read(bytes.data(), static_cast<std::streamsize>(most));
  if (file_.bad()) fail(Status::IO, path_, ": cannot be read");
  bytes.resize(static_cast<size_t>(file_.gcount()));
  return !bytes.empty();
}

TextFile::TextFile(const std::string &path, int64_t offset)
    : file_(path, offset), stream_(offset == 0), begin_(offset), offset_(offset) {
  refuse_utf16(path);
}

bool TextFile::next(const Tokenizer &tokenizer, Tokenizer::Encode how, std::vector<int32_t> &tokens) {
  how.offset = static_cast<size_t>(offset_);
  const std::string piece = next();
  if (piece.empty()) return false;
  try {
    const std::vector<int32_t> ids = tokenizer.encode(piece, how);
    tokens.insert(tokens.end(), ids.begin(), ids.end());
  } catch (const Error &error) { throw Error(error.status(), cat(file_.path(), ": ", error.what())); }
  return true;
}

std::string TextFile::next() try {
  std::string piece, bytes;
  while ((piece = stream_.next()).empty() && !finished_) {
    if (file_.read(bytes, kRead)) {
      stream_.push(bytes);
    } else {
      stream_.finish();
      finished_ = true;
    }
  }
  offset_ = begin_ + static_cast<int64_t>(stream_.bytes_taken());
  return piece;
} catch (const Error &error) {
  if (error.status() == Status::IO) throw;
  throw Error(error.status(),
              cat(file_.path(), ": ", error.what(), begin_ > 0 ? cat(", counted from byte ", begin_) : ""));
}

LineFile::LineFile(const std::string &path, int64_t offset) : file_(path, offset), offset_(offset) {
  refuse_utf16(path);
}

bool LineFile::next(std::string &line) {
  const bool first = offset_ == 0;
  if (!read_line(line)) return false;
  if (first && line.starts_with(kMark)) line.erase(0, kMark.size());
  return true;
}

bool LineFile::read_line(std::string &line) {
  for (size_t searched = begin_;;) {
    const size_t end = buffer_.find('\n', searched);
    if (end != buffer_.npos) {
      line = buffer_.substr(begin_, end - begin_);
      begin_ = end + 1;
      offset_ += static_cast<int64_t>(line.size()) + 1;
      if (line.ends_with('\r')) line.pop_back();
      return true;
    }
    buffer_.erase(0, begin_);
    begin_ = 0;
    searched = buffer_.size();
    if (buffer_.size() > kLongestLine)
      fail(Status::FORMAT, path(), ": the line at byte ", offset_, " is longer than 64 MiB");
    if (!file_.read(more_, kRead)) break;
    buffer_ += more_;
  }
  line = std::move(buffer_);
  buffer_.clear();
  offset_ += static_cast<int64_t>(line.size());
  return !line.empty();
}

}  // namespace infini
