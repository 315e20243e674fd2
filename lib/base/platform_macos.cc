// What POSIX leaves to each system, on macOS. Compiled against its headers; it has never run there.
#ifdef __APPLE__
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sysctl.h>
#include <unistd.h>
#include <xlocale.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <string>

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

int Replacement::allocate(size_t size) noexcept {
  fstore_t room = {F_ALLOCATEALL, F_PEOFPOSMODE, 0, static_cast<off_t>(size), 0};
  return fcntl(descriptor_, F_PREALLOCATE, &room) == 0 ? 0 : errno;
}

bool random_bits(uint64_t &number) noexcept { return getentropy(&number, sizeof number) == 0; }

namespace {

// By strtod or strtof in the C locale, less what they take beyond from_chars: spaces, a plus, hexadecimal numbers.
template <class Number>
std::from_chars_result read_real(const char *begin, const char *end, Number &value,
                                 Number (*read)(const char *, char **, locale_t)) {
  const std::string text(begin, end);
  const size_t sign = text.starts_with('-');
  if (std::isspace(static_cast<unsigned char>(text[0])) || text[0] == '+') return {begin, std::errc::invalid_argument};
  if (text.find_first_of("xX", sign) == sign + 1) return value = 0, std::from_chars_result{begin + sign + 1, {}};
  char *stop = nullptr;
  errno = 0;
  const Number number = read(text.c_str(), &stop, nullptr);
  if (stop == text.c_str()) return {begin, std::errc::invalid_argument};
  const char *const at = begin + (stop - text.c_str());
  if (errno == ERANGE) return {at, std::errc::result_out_of_range};
  value = number;
  return {at, {}};
}

}  // namespace

std::from_chars_result real_from_chars(const char *begin, const char *end, float &value) {
  return read_real(begin, end, value, strtof_l);
}
std::from_chars_result real_from_chars(const char *begin, const char *end, double &value) {
  return read_real(begin, end, value, strtod_l);
}

}  // namespace infini::platform
#endif
