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

}  // namespace

ByteFile::ByteFile(const std::string &path, int64_t offset) : path_(path) {
  std::error_code error;
  // A folder opens like a file, and a pipe has no size to come back to.
  if (std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error))
    fail(Status::IO, path, ": not a regular file");
  file_.open(std::filesystem::path(path), std::ios::binary);
  if (const int code = errno; !file_) throw Error(Status::IO, cat(path, ": ", std::strerror(code)), code);
  size_ = static_cast<int64_t>(file_.seekg(0, std::ios::end).tellg());
  if (size_ < 0) fail(Status::IO, path, ": cannot tell its size");
  const auto check_size = [&](int64_t size) {
    if (offset < 0 || offset > size)
      fail(Status::FORMAT, path, ": was read up to byte ", offset, ", but has only ", size, " now");
  };
  file_.seekg(0);
  std::string bytes;
  if (read_stored(bytes, 2) && (bytes == "\xff\xfe" || bytes == "\xfe\xff")) utf16_.emplace(true);
  file_.clear();
  file_.seekg(utf16_ ? 0 : offset);
  if (!utf16_) check_size(size_);
  for (int64_t at = 0; utf16_ && at < offset; at += static_cast<int64_t>(bytes.size()))
    if (!read(bytes, static_cast<size_t>(std::min<int64_t>(kRead, offset - at)))) check_size(at);
}

bool ByteFile::read_stored(std::string &bytes, size_t most) {
  bytes.resize(most);
  file_.read(bytes.data(), static_cast<std::streamsize>(most));
  if (file_.bad()) fail(Status::IO, path_, ": cannot be read");
  bytes.resize(static_cast<size_t>(file_.gcount()));
  return !bytes.empty();
}

bool ByteFile::read(std::string &bytes, size_t most) {
  if (!utf16_) return read_stored(bytes, most);
  while (ready_.size() < most && !finished_) {
    try {
      if (read_stored(bytes, kRead)) {
        utf16_->push(bytes, ready_);
      } else {
        utf16_->finish(ready_);
        finished_ = true;
      }
    } catch (const Error &error) { throw Error(error.status(), cat(path_, ": ", error.what())); }
  }
  bytes = ready_.substr(0, most);
  ready_.erase(0, bytes.size());
  return !bytes.empty();
}

int64_t ByteFile::size() const {
  if (!utf16_) return size_;
  ByteFile whole(path_, 0);
  int64_t size = 0;
  for (std::string bytes; whole.read(bytes, kRead);) size += static_cast<int64_t>(bytes.size());
  return size;
}

TextFile::TextFile(const std::string &path, int64_t offset)
    : file_(path, offset), stream_(offset == 0), begin_(offset), offset_(offset) {}

bool TextFile::next(const Tokenizer &tokenizer, Tokenizer::Encode how, std::vector<int32_t> &tokens,
                    int64_t *unknown_bytes) {
  how.offset = static_cast<size_t>(offset_);
  const std::string piece = next();
  if (piece.empty()) return false;
  try {
    const std::vector<int32_t> ids = tokenizer.encode(piece, how, unknown_bytes);
    tokens.insert(tokens.end(), ids.begin(), ids.end());
  } catch (const Error &error) { throw Error(error.status(), cat(file_.path(), ": ", error.what())); }
  return true;
}

std::string TextFile::next() {
  const auto named = [&](const auto &f) {  // an error about the text names the file
    try {
      return f();
    } catch (const Error &error) {
      throw Error(error.status(),
                  cat(file_.path(), ": ", error.what(), begin_ > 0 ? cat(", counted from byte ", begin_) : ""));
    }
  };
  std::string piece, bytes;
  while ((piece = named([&] { return stream_.next(); })).empty() && !finished_) {
    const bool more = file_.read(bytes, kRead);
    named([&] { more ? stream_.push(bytes) : stream_.finish(); });
    finished_ = !more;
  }
  offset_ = begin_ + static_cast<int64_t>(stream_.bytes_taken());
  return piece;
}

LineFile::LineFile(const std::string &path, int64_t offset) : file_(path, offset), offset_(offset) {}

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
