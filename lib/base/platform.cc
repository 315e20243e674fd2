#include "base/platform.h"

#include <algorithm>
#include <cerrno>
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

std::string temporary_name() { return cat(kTemporaryBegin, secret(), kTemporaryEnd); }

Replacement::~Replacement() { discard(); }

void Replacement::fail(const char *what, int code) {
  discard();
  fail_io(what, path_, code);
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
