// What POSIX leaves to each system, on macOS. Compiled against its headers; it has never run there.
#ifdef __APPLE__
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sysctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <new>

#include "base/platform.h"

namespace infini::platform {

// There are no large pages to ask for.
void *map_memory(size_t bytes, bool) {
  void *const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return memory;
}
void gather_pages(void *, size_t) noexcept {}
void provide_pages(void *, size_t) noexcept {}

int cores() {
  int found = 0;
  size_t size = sizeof found;
  return sysctlbyname("hw.physicalcpu", &found, &size, nullptr, 0) == 0 ? std::max(1, found) : 1;
}
int cpu_quota(const std::string &) { return 0; }

void Replacement::reserve(size_t size) {
  fstore_t room = {F_ALLOCATEALL, F_PEOFPOSMODE, 0, static_cast<off_t>(size), 0};
  if (size == 0 || fcntl(descriptor_, F_PREALLOCATE, &room) == 0) return;
  if (no_space(errno)) fail("cannot write", errno);
}

uint64_t secret() {
  uint64_t number = 0;
  if (getentropy(&number, sizeof number) != 0)
    number = static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()) ^
             reinterpret_cast<uintptr_t>(&number);
  return number;
}

}  // namespace infini::platform
#endif
