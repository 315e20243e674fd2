#include "kernels/cpu.h"

#include <hwy/targets.h>

#include <atomic>
#include <cstdint>
#include <cstring>

#include "base/testing.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace infini {
namespace {

// Kept: virtual machines take 10 us to answer, and each time Highway asks them it dispatches to the best set again,
// whatever it was limited to.
std::atomic<int64_t> best = 0;

int64_t find_best() {
  const int64_t targets = hwy::SupportedTargets() & ~int64_t{HWY_DISABLED_TARGETS};
  hwy::GetChosenTarget().Update(targets);
  best.store(targets & -targets, std::memory_order_relaxed);  // the lowest bit is the best
  return targets & -targets;
}
int64_t best_target() {
  const int64_t known = best.load(std::memory_order_relaxed);
  return known ? known : find_best();
}

enum Known : int { UNKNOWN, NO, YES };
std::atomic<int> byte_dot = UNKNOWN;  // kept too: products ask for it
bool byte_dot_allowed = true;

bool find_byte_dot() {
  if (!byte_dot_allowed || !has_byte_products()) return false;
#if defined(__x86_64__)
  if (has_avx512()) return __builtin_cpu_supports("avx512vnni");
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
#elif defined(__aarch64__) && defined(__linux__)
  return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#elif defined(__aarch64__) && defined(__APPLE__)
  return true;  // every Mac with such a processor has them
#else
  return false;
#endif
}

}  // namespace

const char *instruction_set() { return hwy::TargetName(best_target()); }

bool has_byte_dot() {
  int known = byte_dot.load(std::memory_order_relaxed);
  if (known == UNKNOWN) byte_dot.store(known = find_byte_dot() ? YES : NO, std::memory_order_relaxed);
  return known == YES;
}

void limit_instruction_set(const char *name) {
  byte_dot_allowed = std::strcmp(name, "avx2") != 0 && std::strcmp(name, "avx512") != 0;
#if defined(__x86_64__)
  const int64_t below_avx512 = HWY_AVX2 - 1, below_plain_avx512 = HWY_AVX3 - 1;
  hwy::DisableTargets(std::strncmp(name, "avx2", 4) == 0 ? below_avx512
                      : std::strcmp(name, "avx512") == 0 ? below_plain_avx512
                                                         : 0);
#endif
  byte_dot.store(UNKNOWN, std::memory_order_relaxed);
  find_best();
}

#if defined(__x86_64__)

bool has_byte_products() { return best_target() <= HWY_AVX2; }
bool has_avx512() { return best_target() <= HWY_AVX3; }
bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
bool has_amx_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return has_avx512_bf16() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1);
}
bool has_fast_bf16() { return has_amx_bf16() || (has_avx512_bf16() && __builtin_cpu_is("amd")); }

#else

bool has_byte_products() { return best_target() == HWY_NEON; }
bool has_avx512() { return false; }
bool has_avx512_bf16() { return false; }
bool has_amx_bf16() { return false; }
bool has_fast_bf16() { return false; }

#endif

}  // namespace infini
