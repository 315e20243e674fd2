// What a container may use of the processors.
#pragma once

#include <string>

namespace infini {

// Processors that the CPU quotas of this process's control groups come to, rounded up, versions 1 and 2; 0: no quota.
// `root` stands before /proc and /sys; tests have their own.
int cpu_quota(const std::string &root = "");

}  // namespace infini
