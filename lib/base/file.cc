#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <memory>
#include <system_error>

#include "base/status.h"

namespace infini {
namespace {

constexpr size_t kBufferSize = 64 * 1024;
constexpr size_t kLargestWrite = size_t{1} << 30;  // Linux writes at most 2 GiB in one call

std::atomic<long long> g_bytes_before_failure{-1};

[[noreturn]] void fail_io(const char *what, const std::string &path, int code) {
  const bool full = code == ENOSPC || code == EFBIG || code == EDQUOT;
  throw Error(full ? Status::NO_SPACE : Status::IO, cat(what, " '", path, "': ", std::generic_category().message(code)),
              code);
}

const char *kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) close(value);
  }
};

// The file that replacing `path` has to replace: what a symbolic link points to, not the link.
std::string resolve(const std::string &path) {
  const std::unique_ptr<char, void (*)(void *)> resolved(realpath(path.c_str(), nullptr), std::free);
  return resolved ? resolved.get() : path;
}

std::string folder_of(const std::string &path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "./" : path.substr(0, slash + 1);
}

// Independent of the target's name, which may be as long as the file system allows.
std::string unique_name() {
  static std::atomic<unsigned> counter{0};
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  return cat(".infini-", getpid(), "-", now, "-", counter.fetch_add(1), ".tmp");
}

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

MappedFile::MappedFile(const std::string &path, Use use) {
  // Without O_NONBLOCK, opening a pipe would wait for a writer.
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
  if (file.value < 0) fail_io("cannot open", path, errno);
  struct stat info;
  if (fstat(file.value, &info) != 0) fail_io("cannot examine", path, errno);
  if (!S_ISREG(info.st_mode))
    fail(Status::IO, "cannot open '", path, "': it is ", kind_of(info.st_mode), ", not a regular file");
  if (info.st_size == 0) return;  // nothing can be mapped
  const size_t size = static_cast<size_t>(info.st_size);
  void *const address =
      mmap(nullptr, size, PROT_READ, MAP_PRIVATE | (use == Use::ALL ? MAP_POPULATE : 0), file.value, 0);
  if (address == MAP_FAILED) fail_io("cannot map", path, errno);
  bytes_ = {static_cast<const std::byte *>(address), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte *>(bytes_.data()), bytes_.size());
}

AtomicFile::AtomicFile(const std::string &path) : path_(resolve(path)) {
  struct stat old;
  const bool replaces = stat(path_.c_str(), &old) == 0;
  if (!replaces && (errno != ENOENT || path.empty())) fail_io("cannot write", path, errno);
  if (replaces && !S_ISREG(old.st_mode))
    fail(Status::IO, "cannot write '", path, "': it is ", kind_of(old.st_mode), ", not a regular file");
  do {
    temporary_ = folder_of(path_) + unique_name();
    descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && (errno == EEXIST || errno == EINTR));
  if (descriptor_ < 0) fail_io("cannot create a file beside", path_, errno);
  if (replaces) (void)!fchmod(descriptor_, old.st_mode & 0777);  // refused on some file systems: no harm
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() {
  if (descriptor_ < 0) return;
  close(descriptor_);
  descriptor_ = -1;
  unlink(temporary_.c_str());
}

void AtomicFile::fail_write(const char *what, int code) {
  discard();
  fail_io(what, path_, code);
}

void AtomicFile::check_open() const {
  if (descriptor_ < 0) fail(Status::STATE, "'", path_, "' was written or given up already");
}

void AtomicFile::write(const void *data, size_t size) {
  check_open();
  if (buffer_.size() + size > kBufferSize) flush();
  if (size > kBufferSize) return put(static_cast<const char *>(data), size);
  buffer_.append(static_cast<const char *>(data), size);
}

void AtomicFile::flush() {
  put(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void AtomicFile::put(const char *data, size_t size) {
  while (size > 0) {
    const size_t piece = allowed(std::min(size, kLargestWrite));
    if (piece == 0) fail_write("cannot write", ENOSPC);
    const ssize_t written = ::write(descriptor_, data, piece);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_write("cannot write", written < 0 ? errno : EIO);
    data += written;
    size -= static_cast<size_t>(written);
  }
}

void AtomicFile::commit() {
  check_open();
  flush();
  if (fsync(descriptor_) != 0) fail_write("cannot flush", errno);
  if (rename(temporary_.c_str(), path_.c_str()) != 0) fail_write("cannot replace", errno);
  close(descriptor_);
  descriptor_ = -1;
  // The new name is on disk once the folder is. A folder that cannot be read, or a file system that
  // does not flush folders, leaves that to the system.
  const Descriptor folder{open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (folder.value >= 0 && fsync(folder.value) != 0 && errno == EIO)
    fail_io("cannot flush the folder of", path_, errno);
}

void set_write_failure(long long after_bytes) { g_bytes_before_failure.store(after_bytes); }

}  // namespace infini
