#include "base/file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <functional>

#include "base/status.h"
#include "base/testing.h"

namespace infini {
namespace {

constexpr size_t kBufferSize = 64 * 1024;

std::atomic<long long> g_bytes_before_failure{-1};

// Bytes of `size` that may be written before the failure that a test asked for.
size_t allowed(size_t size) {
  long long left = g_bytes_before_failure.load();
  if (left < 0) return size;
  size_t now = 0;
  do {
    now = static_cast<size_t>(std::min(static_cast<unsigned long long>(left), static_cast<unsigned long long>(size)));
  } while (!g_bytes_before_failure.compare_exchange_weak(left, left - static_cast<long long>(now)));
  return now;
}

}  // namespace

MappedFile::MappedFile(const std::string &path, Use use) : bytes_(platform::map_file(path, use == Use::ALL)) {}
MappedFile::~MappedFile() { platform::unmap_file(bytes_); }

void MappedFile::release(std::span<const std::byte> part) const noexcept {
  const std::less_equal<const std::byte *> before;
  if (before(bytes_.data(), part.data()) && before(part.data() + part.size(), bytes_.data() + bytes_.size()))
    platform::release_pages(part);
}

AtomicFile::AtomicFile(const std::string &path) : file_(path) {}

void AtomicFile::check_open() const {
  if (!file_.open()) fail(Status::STATE, "'", file_.path(), "' was written or given up already");
}

void AtomicFile::reserve(size_t size) {
  check_open();
  file_.reserve(size);
}

void AtomicFile::write(const void *data, size_t size) {
  check_open();
  if (buffer_.size() + size > kBufferSize) flush();
  if (size > kBufferSize) return put(static_cast<const char *>(data), size);
  buffer_.append(static_cast<const char *>(data), size);
}

void AtomicFile::rewrite(std::span<const std::byte> front) {
  check_open();
  flush();
  file_.rewrite(reinterpret_cast<const char *>(front.data()), front.size());
}

void AtomicFile::flush() {
  put(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void AtomicFile::put(const char *data, size_t size) {
  while (size > 0) {
    const size_t piece = allowed(size);
    if (piece == 0) file_.fail("cannot write", ENOSPC);
    file_.write(data, piece);
    data += piece;
    size -= piece;
  }
}

void AtomicFile::commit() {
  check_open();
  flush();
  file_.commit();
}

void set_write_failure(long long after_bytes) { g_bytes_before_failure.store(after_bytes); }

}  // namespace infini
