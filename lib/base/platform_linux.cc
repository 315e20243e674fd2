// What POSIX leaves to each system, on Linux.
#ifdef __linux__
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <memory>
#include <new>
#include <set>
#include <string_view>
#include <utility>

#include "base/platform.h"

namespace infini::platform {

// --- Memory ----------------------------------------------------------------------------------------------------------

void *map_memory(size_t bytes, bool large_pages) {
  void *const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  madvise(memory, bytes, large_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return memory;
}

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

// --- Files -----------------------------------------------------------------------------------------------------------

int Replacement::allocate(size_t size) noexcept {
  return fallocate(descriptor_, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size)) == 0 ? 0 : errno;
}

bool random_bits(uint64_t &number) noexcept {
  return getrandom(&number, sizeof number, GRND_NONBLOCK) == sizeof number;
}

}  // namespace infini::platform
#endif
