// Watches what a test's program takes by `new` and, with the GNU C library, as buffers do, by calloc, which sanitizers
// keep for themselves. Replaces both: for one file of a program.
#pragma once

#include <atomic>
#include <cstdlib>
#include <new>

#include "sanitized.h"

namespace test {
inline std::atomic<size_t> largest_allocation = 0;  // bytes, by `new`
inline std::atomic<size_t> allocated_bytes = 0;     // so far, by both
// How many are still possible by `new`: then one fails, and all are possible again. Below 0: all are.
inline std::atomic<long> allocations_left = -1;
}  // namespace test

// Not inlined: a compiler that sees through one of a pair takes it for a mismatch.
[[gnu::noinline]] void *operator new(size_t size) {
  test::allocated_bytes += size;
  if (size > test::largest_allocation) test::largest_allocation = size;
  if (test::allocations_left >= 0 && test::allocations_left-- == 0) throw std::bad_alloc();
  if (void *memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void *memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void *memory, size_t) noexcept { std::free(memory); }

#if defined(__GLIBC__) && !TEST_SANITIZED
extern "C" void *__libc_calloc(size_t count, size_t size);
extern "C" void *calloc(size_t count, size_t size) noexcept {
  test::allocated_bytes += count * size;
  return __libc_calloc(count, size);
}
#endif
