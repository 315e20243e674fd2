#include "base/platform.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <system_error>

#include "base/status.h"

namespace infini::platform {

bool no_space(int code) {
#ifdef EDQUOT
  if (code == EDQUOT) return true;
#endif
  return code == ENOSPC || code == EFBIG;
}

void fail_io(const char *what, const std::string &path, int code) {
  throw Error(no_space(code) ? Status::NO_SPACE : Status::IO,
              cat(what, " '", path, "': ", std::generic_category().message(code)), code);
}

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

uint64_t secret() {
  uint64_t number = 0;
  if (random_bits(number)) return number;
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()) ^
         reinterpret_cast<uintptr_t>(&number);
}

#ifndef __APPLE__
std::from_chars_result real_from_chars(const char *begin, const char *end, float &value) {
  return std::from_chars(begin, end, value);
}
std::from_chars_result real_from_chars(const char *begin, const char *end, double &value) {
  return std::from_chars(begin, end, value);
}
#endif

std::string temporary_name() { return cat(kTemporaryBegin, secret(), kTemporaryEnd); }

Replacement::~Replacement() { discard(); }

void Replacement::fail(const char *what, int code) {
  discard();
  fail_io(what, path_, code);
}

void Replacement::reserve(size_t size) {
  const int code = size == 0 ? 0 : allocate(size);
  if (no_space(code)) fail("cannot write", code);
}

void Replacement::write(const char *data, size_t size) {
  constexpr size_t kLargest = size_t{1} << 30;  // Linux and Windows write at most 2 GiB in one call
  while (size > 0) {
    const ptrdiff_t written = write_some(data, std::min(size, kLargest));
    if (written <= 0) fail("cannot write", written < 0 ? errno : EIO);
    data += written;
    size -= static_cast<size_t>(written);
  }
}

}  // namespace infini::platform
