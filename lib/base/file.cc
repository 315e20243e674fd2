#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
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
#include "base/testing.h"

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

std::string folder_of(const std::string &path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "./" : path.substr(0, slash + 1);
}

// The file that replacing `path` has to replace or make: what a symbolic link points to, not the link.
std::string resolve(std::string path) {
  constexpr int kMostLinks = 40;  // as Linux follows
  for (int i = 0; i < kMostLinks; ++i) {
    const std::unique_ptr<char, void (*)(void *)> resolved(realpath(path.c_str(), nullptr), std::free);
    if (resolved) return resolved.get();
    char target[PATH_MAX];
    const ssize_t size = readlink(path.c_str(), target, sizeof target);  // a link to what is not there
    if (size <= 0 || size == sizeof target) break;
    const std::string_view to(target, static_cast<size_t>(size));
    path = to[0] == '/' ? std::string(to) : folder_of(path) + std::string(to);
  }
  return path;
}

constexpr std::string_view kTemporaryBegin = ".infini-", kTemporaryEnd = ".tmp";

// Removes what killed processes have left in the folder: temporary files that nobody holds a lock on.
void remove_litter(const std::string &folder) {
  const std::unique_ptr<DIR, int (*)(DIR *)> listing(opendir(folder.c_str()), closedir);
  while (const dirent *entry = listing ? readdir(listing.get()) : nullptr) {
    const std::string_view name = entry->d_name;
    if (!name.starts_with(kTemporaryBegin) || !name.ends_with(kTemporaryEnd)) continue;
    const std::string path = folder + entry->d_name;
    const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW)};
    if (file.value >= 0 && flock(file.value, LOCK_EX | LOCK_NB) == 0) unlink(path.c_str());
  }
}

// Keeps the signal of the file-size limit from the calling thread, which it would kill.
class NoSizeSignal {
 public:
  NoSizeSignal() {
    sigemptyset(&signal_);
    sigaddset(&signal_, SIGXFSZ);
    sigset_t pending;
    sigpending(&pending);
    ours_ = sigismember(&pending, SIGXFSZ) == 0;
    pthread_sigmask(SIG_BLOCK, &signal_, &before_);
  }
  ~NoSizeSignal() {
    const int code = errno;
    const timespec now{};
    while (ours_ && sigtimedwait(&signal_, nullptr, &now) < 0 && errno == EINTR) {}
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    errno = code;
  }
  NoSizeSignal(const NoSizeSignal &) = delete;
  NoSizeSignal &operator=(const NoSizeSignal &) = delete;

 private:
  sigset_t signal_, before_;
  bool ours_;
};

// Independent of the target's name, which may be as long as the file system allows.
std::string unique_name() {
  static std::atomic<unsigned> counter{0};
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  return cat(kTemporaryBegin, getpid(), "-", now, "-", counter.fetch_add(1), kTemporaryEnd);
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
  remove_litter(folder_of(path_));
  do {
    temporary_ = folder_of(path_) + unique_name();
    descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    // The lock says that somebody is at work. Who removes litter may have come between: then it is made anew.
    struct stat made;
    if (descriptor_ >= 0 && ((flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) ||
                             (fstat(descriptor_, &made) == 0 && made.st_nlink == 0))) {
      discard();
      errno = EEXIST;
    }
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
  const NoSizeSignal scope;
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
