// Watches what a test's program takes by `new`. Replaces the operators: for one file of a program.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <new>

namespace test {
inline size_t largest_allocation = 0;  // bytes
}

// Not inlined: a compiler that sees through one of a pair takes it for a mismatch.
[[gnu::noinline]] void *operator new(size_t size) {
  test::largest_allocation = std::max(test::largest_allocation, size);
  if (void *memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void *memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void *memory, size_t) noexcept { std::free(memory); }
