#include "base/cpu_quota.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string_view>

namespace infini {
namespace {

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

// A quota counts for all groups inside: the least of a group and those above it. `in` gives the microseconds of work and
// those of the period in which they may be done. A container may see its own group as the top.
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

}  // namespace infini
