#include "base/platform.h"

#include "support.h"
#include "temporary_folder.h"

using infini::platform::cpu_quota;

namespace {

// A root with the files that are given.
int quota_with(std::initializer_list<std::pair<const char *, const char *>> files) {
  const test::TemporaryFolder root;
  for (const auto &[name, text] : files) {
    const std::filesystem::path path = root.file(name);
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  return cpu_quota(root.path());
}

}  // namespace

TEST_CASE("a quota of control groups, version 2, is rounded up, and the least of those above counts") {
  CHECK(quota_with({{"proc/self/cgroup", "0::/a/b\n"}, {"sys/fs/cgroup/a/b/cpu.max", "150000 100000\n"}}) == 2);
  CHECK(quota_with({{"proc/self/cgroup", "0::/a/b\n"},
                    {"sys/fs/cgroup/a/b/cpu.max", "max 100000\n"},
                    {"sys/fs/cgroup/a/cpu.max", "300000 100000\n"}}) == 3);
  CHECK(quota_with({{"proc/self/cgroup", "0::/a/b\n"},
                    {"sys/fs/cgroup/a/b/cpu.max", "400000 100000\n"},
                    {"sys/fs/cgroup/a/cpu.max", "100000 100000\n"}}) == 1);
  // A container sees its own group as the top, by whatever name it has outside.
  CHECK(quota_with({{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", "50000 100000\n"}}) == 1);
  CHECK(quota_with({{"proc/self/cgroup", "0::/../x\n"}, {"sys/fs/cgroup/cpu.max", "200000 100000\n"}}) == 2);
}

TEST_CASE("a quota of control groups, version 1, counts too") {
  CHECK(quota_with({{"proc/self/cgroup", "12:memory:/x\n4:cpu,cpuacct:/docker/1\n0::/\n"},
                    {"sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us", "250000\n"},
                    {"sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us", "100000\n"}}) == 3);
  CHECK(quota_with({{"proc/self/cgroup", "4:cpu:/docker/1\n"},
                    {"sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n"},
                    {"sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000\n"}}) == 2);
  CHECK(quota_with({{"proc/self/cgroup", "4:cpu:/\n"},
                    {"sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"},
                    {"sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}}) == 0);
}

TEST_CASE("without a quota, or with files that make no sense, there is none") {
  CHECK(quota_with({}) == 0);
  CHECK(quota_with({{"proc/self/cgroup", "0::/a"}, {"sys/fs/cgroup/a/cpu.max", "max 100000"}}) == 0);
  CHECK(quota_with({{"proc/self/cgroup", "\n:\n::\n0:\n0::\nx"}, {"sys/fs/cgroup/cpu.max", "x"}}) == 0);
  CHECK(quota_with({{"proc/self/cgroup", "0::/"}, {"sys/fs/cgroup/cpu.max", "100000 0"}}) == 0);
}
