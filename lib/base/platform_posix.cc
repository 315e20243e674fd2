// Linux; what is not POSIX's says so.
#ifndef _WIN32
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <set>
#include <string_view>
#include <utility>

#include "base/platform.h"
#include "base/status.h"

namespace infini::platform {

// --- Memory ----------------------------------------------------------------------------------------------------------

void *map_memory(size_t bytes, bool large_pages) {
  void *const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  madvise(memory, bytes, large_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);  // Linux's
  return memory;
}

void unmap_memory(void *memory, size_t bytes) noexcept { munmap(memory, bytes); }

void gather_pages(void *memory, size_t bytes) noexcept {
  constexpr int kCollapse = 25;  // MADV_COLLAPSE of Linux 6.1, which older headers lack
  madvise(memory, bytes, MADV_HUGEPAGE);
  madvise(memory, bytes, kCollapse);
}

void provide_pages(void *memory, size_t bytes) noexcept {
  constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE of Linux 5.14, which older headers lack
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(memory), first = begin / page * page;
  if (bytes > 0) madvise(reinterpret_cast<void *>(first), begin + bytes - first, kPopulateWrite);
}

// --- Processors and threads ------------------------------------------------------------------------------------------

namespace {

// A number from /sys/devices/system/cpu/cpuN/topology, or -1.
int topology(int cpu, const char *name) {
  char path[128];
  std::snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, name);
  std::FILE *file = std::fopen(path, "re");
  if (!file) return -1;
  int value = -1;
  if (std::fscanf(file, "%d", &value) != 1) value = -1;
  std::fclose(file);
  return value;
}

// The beginning of a small file; "" where it cannot be read.
std::string read_file(const std::string &path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE *)> file(std::fopen(path.c_str(), "re"), std::fclose);
  std::string text(16384, '\0');
  text.resize(file ? std::fread(text.data(), 1, text.size(), file.get()) : 0);
  return text;
}

// The part before `mark`, which goes with it.
std::string_view cut(std::string_view &text, char mark) {
  const size_t end = std::min(text.find(mark), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

int64_t number(std::string_view text) {
  int64_t value = -1;  // as for "max"
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// A quota counts for all groups inside: the least of a group and those above it. `in` gives the microseconds of work
// and those of the period in which they may be done. A container may see its own group as the top.
template <class In>
int least(std::string group, const In &in) {
  int processors = 0;
  while (true) {
    const auto [quota, period] = in(group == "/" ? "" : group);
    if (quota > 0 && period > 0) {
      const int here = static_cast<int>(std::min<int64_t>((quota - 1) / period + 1, 1 << 20));
      processors = processors == 0 ? here : std::min(processors, here);
    }
    if (group.empty()) return processors;
    group.erase(std::min(group.rfind('/'), group.size()));
  }
}

struct Quota {
  int64_t quota, period;
};

}  // namespace

int cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
  std::set<std::pair<int, int>> found;  // (package, core): siblings of one core count once
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const int core = topology(cpu, "core_id");
    found.insert(core < 0 ? std::pair{-1, cpu} : std::pair{topology(cpu, "physical_package_id"), core});
  }
  return std::max<int>(1, static_cast<int>(found.size()));
}

int cpu_quota(const std::string &root) {
  const std::string groups = read_file(root + "/proc/self/cgroup"), mounts = root + "/sys/fs/cgroup";
  int processors = 0;
  const auto add = [&](int found) {
    if (found > 0) processors = processors == 0 ? found : std::min(processors, found);
  };
  for (std::string_view rest = groups; !rest.empty();) {
    std::string_view group = cut(rest, '\n');  // "0::/a/b", "4:cpu,cpuacct:/a/b"
    const std::string_view hierarchy = cut(group, ':'), controllers = cut(group, ':');
    if (hierarchy == "0" && controllers.empty()) {
      for (const char *mount : {"", "/unified"})
        add(least(std::string(group), [&](const std::string &at) -> Quota {
          const std::string text = read_file(mounts + mount + at + "/cpu.max");
          std::string_view words = text;
          const std::string_view quota = cut(words, ' ');
          return {number(quota), number(words)};
        }));
    }
    for (std::string_view names = controllers; !names.empty();) {
      if (cut(names, ',') != "cpu") continue;
      for (const std::string_view mount : {std::string_view("cpu"), controllers})
        add(least(std::string(group), [&](const std::string &at) -> Quota {
          const std::string folder = mounts + "/" + std::string(mount) + at;
          return {number(read_file(folder + "/cpu.cfs_quota_us")), number(read_file(folder + "/cpu.cfs_period_us"))};
        }));
    }
  }
  return processors;
}

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

void Replacement::reserve(size_t size) {
  if (size == 0 || fallocate(descriptor_, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size)) == 0) return;  // Linux's
  if (no_space(errno)) fail("cannot write", errno);
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
  if (fsync(descriptor_) != 0) fail("cannot flush", errno);
  if (rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot replace", errno);
  close(descriptor_);
  descriptor_ = -1;
  // The new name is on disk once the folder is. A folder that cannot be read, or a file system that
  // does not flush folders, leaves that to the system.
  const Descriptor folder{::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (folder.value >= 0 && fsync(folder.value) != 0 && errno == EIO)
    fail_io("cannot flush the folder of", path_, errno);
}

uint64_t secret() {
  uint64_t number = 0;
  if (getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number)  // early in a machine's life
    number = static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()) ^
             reinterpret_cast<uintptr_t>(&number);
  return number;
}

}  // namespace infini::platform
#endif
