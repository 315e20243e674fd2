// Files: read by mapping, replaced as a whole.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/platform.h"

namespace infini {

// A regular file mapped read-only. The file must not be cut short while it is mapped.
class MappedFile {
 public:
  enum class Use { SOME, ALL };  // ALL: every page is mapped at once, which costs less than page by page
  explicit MappedFile(const std::string &path, Use use = Use::SOME);  // throws IO, naming the path and the reason
  ~MappedFile();
  MappedFile(const MappedFile &) = delete;
  MappedFile &operator=(const MappedFile &) = delete;
  std::span<const std::byte> bytes() const { return bytes_; }
  // Gives the memory of what has been read back to the system. Reading it again reads the file. Does nothing for bytes
  // elsewhere.
  void release(std::span<const std::byte> part) const noexcept;

 private:
  std::span<const std::byte> bytes_;
};

// Writes a file that replaces `path` only when commit() succeeds: a temporary file in the same folder,
// flushed to disk, renamed, and the folder flushed. Whatever happens before commit(), `path` keeps its
// old contents. Without a commit() the temporary file is removed; only a killed process leaves it, as
// `.infini-*.tmp`, and the next file that is written into the folder removes it. A symbolic link is followed, and the
// old file's permissions are kept. A file-size limit is a NO_SPACE error; its signal, SIGXFSZ, does not come through.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string &path);
  // Each throws IO or NO_SPACE; the file is then given up, and calling any again is a STATE error.
  // Room for so many bytes, before the first is written: a full disk is known at once, and a file system that gives
  // space out in one piece takes a third less time to write it (ext4).
  void reserve(size_t size);
  void write(const void *data, size_t size);       // small pieces are gathered
  void rewrite(std::span<const std::byte> front);  // over the first bytes that were written
  void commit();

 private:
  void check_open() const;
  void put(const char *data, size_t size);
  void flush();

  platform::Replacement file_;
  std::string buffer_;
};

}  // namespace infini
