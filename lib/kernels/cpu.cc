#include "kernels/cpu.h"

#include <hwy/targets.h>

#include <cstdint>
#include <cstring>

#include "base/testing.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace infini {
namespace {

int64_t best_target() {
  const int64_t targets = hwy::SupportedTargets();
  return targets & -targets;  // the lowest bit is the best
}

}  // namespace

const char *instruction_set() { return hwy::TargetName(best_target()); }

#if defined(__x86_64__)

bool has_avx512() { return best_target() <= HWY_AVX3; }
bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
bool has_amx_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return has_avx512_bf16() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1);
}
bool has_fast_bf16() { return has_amx_bf16() || (has_avx512_bf16() && __builtin_cpu_is("amd")); }

void limit_instruction_set(const char *name) {
  const int64_t below_avx512 = HWY_AVX2 - 1, below_plain_avx512 = HWY_AVX3 - 1;
  hwy::DisableTargets(std::strcmp(name, "avx2") == 0     ? below_avx512
                      : std::strcmp(name, "avx512") == 0 ? below_plain_avx512
                                                         : 0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

#else

bool has_avx512() { return false; }
bool has_avx512_bf16() { return false; }
bool has_amx_bf16() { return false; }
bool has_fast_bf16() { return false; }
void limit_instruction_set(const char *) {}

#endif

}  // namespace infini
