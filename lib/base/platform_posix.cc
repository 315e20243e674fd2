// Files and signals by POSIX: on Linux and macOS, each of which has a file more for what POSIX leaves open.
#ifndef _WIN32
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>

#include "base/platform.h"
#include "base/status.h"

namespace infini::platform {

void unmap_memory(void *memory, size_t bytes) noexcept { munmap(memory, bytes); }

void sleep_while(const std::atomic<uint64_t> &word, uint64_t value) noexcept {
  word.wait(value, std::memory_order_acquire);
}
void wake_all(std::atomic<uint64_t> &word) noexcept { word.notify_all(); }

struct NoSignals::Mask {
  sigset_t before;
};

NoSignals::NoSignals() {
  static_assert(sizeof(Mask) <= sizeof mask_ && alignof(Mask) <= 8);
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &(new (mask_) Mask)->before);
}
NoSignals::~NoSignals() {
  pthread_sigmask(SIG_SETMASK, &std::launder(reinterpret_cast<Mask *>(mask_))->before, nullptr);
}

// --- Files -----------------------------------------------------------------------------------------------------------

namespace {

const char *kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

#ifndef MAP_POPULATE  // Linux's
constexpr int MAP_POPULATE = 0;
#endif

// What was written is on the disk, not in a cache of the disk's.
int flush(int descriptor) {
#ifdef F_FULLFSYNC  // of macOS, whose fsync stops at the disk's cache; some file systems refuse it
  if (fcntl(descriptor, F_FULLFSYNC) == 0) return 0;
#endif
  return fsync(descriptor);
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
    if (ours_) take_signal();
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    errno = code;
  }
  NoSizeSignal(const NoSizeSignal &) = delete;
  NoSizeSignal &operator=(const NoSizeSignal &) = delete;

 private:
  // The one that is pending, if one is.
  void take_signal() {
#ifdef __APPLE__  // which lacks sigtimedwait
    sigset_t pending;
    sigpending(&pending);
    int taken = 0;
    if (sigismember(&pending, SIGXFSZ) == 1) sigwait(&signal_, &taken);
#else
    const timespec now{};
    while (sigtimedwait(&signal_, nullptr, &now) < 0 && errno == EINTR) {}
#endif
  }

  sigset_t signal_, before_;
  bool ours_;
};

}  // namespace

std::span<const std::byte> map_file(const std::string &path, bool all) {
  // Without O_NONBLOCK, opening a pipe would wait for a writer.
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
  if (file.value < 0) fail_io("cannot open", path, errno);
  struct stat info;
  if (fstat(file.value, &info) != 0) fail_io("cannot examine", path, errno);
  if (!S_ISREG(info.st_mode))
    infini::fail(Status::IO, "cannot open '", path, "': it is ", kind_of(info.st_mode), ", not a regular file");
  if (info.st_size == 0) return {};  // nothing can be mapped
  const size_t size = static_cast<size_t>(info.st_size);
  void *const address = mmap(nullptr, size, PROT_READ, MAP_PRIVATE | (all ? MAP_POPULATE : 0), file.value, 0);
  if (address == MAP_FAILED) fail_io("cannot map", path, errno);
  return {static_cast<const std::byte *>(address), size};
}

void unmap_file(std::span<const std::byte> bytes) noexcept {
  // munmap takes no pointer to const, though nothing is written.
  if (!bytes.empty()) munmap(const_cast<std::byte *>(bytes.data()), bytes.size());
}

void release_pages(std::span<const std::byte> bytes) noexcept {
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data()), end = begin + bytes.size();
  const uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
  if (first < last) madvise(reinterpret_cast<void *>(first), last - first, MADV_DONTNEED);  // Linux's
}

Replacement::Replacement(const std::string &path) : path_(resolve(path)) {
  struct stat old;
  const bool replaces = stat(path_.c_str(), &old) == 0;
  if (!replaces && (errno != ENOENT || path.empty())) fail_io("cannot write", path, errno);
  if (replaces && !S_ISREG(old.st_mode))
    infini::fail(Status::IO, "cannot write '", path, "': it is ", kind_of(old.st_mode), ", not a regular file");
  remove_litter(folder_of(path_));
  do {
    temporary_ = folder_of(path_) + temporary_name();
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
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

void Replacement::discard() noexcept {
  if (descriptor_ < 0) return;
  close(descriptor_);
  descriptor_ = -1;
  unlink(temporary_.c_str());
}

ptrdiff_t Replacement::write_some(const char *data, size_t size) noexcept {
  const NoSizeSignal scope;
  ssize_t written;
  do { written = ::write(descriptor_, data, size); } while (written < 0 && errno == EINTR);
  return written;
}

void Replacement::rewrite(const char *data, size_t size) {
  for (size_t at = 0; at < size;) {
    const ssize_t written = ::pwrite(descriptor_, data + at, size - at, static_cast<off_t>(at));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail("cannot write", written < 0 ? errno : EIO);
    at += static_cast<size_t>(written);
  }
}

void Replacement::commit() {
  if (flush(descriptor_) != 0) fail("cannot flush", errno);
  if (rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot replace", errno);
  close(descriptor_);
  descriptor_ = -1;
  // The new name is on disk once the folder is. A folder that cannot be read, or a file system that
  // does not flush folders, leaves that to the system.
  const Descriptor folder{::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (folder.value >= 0 && flush(folder.value) != 0 && errno == EIO)
    fail_io("cannot flush the folder of", path_, errno);
}

}  // namespace infini::platform
#endif
