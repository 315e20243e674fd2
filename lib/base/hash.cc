#include "base/hash.h"

#include <xxhash.h>

#include <cstdio>
#include <new>

#include "base/platform.h"

namespace infini {

namespace {
struct Xxh {
  XXH3_state_t *xxh = XXH3_createState();
  Xxh() {
    if (!xxh) throw std::bad_alloc();
  }
  ~Xxh() { XXH3_freeState(xxh); }
};
}  // namespace

struct Hash::State : Xxh {};

Hash::Hash() : state_(std::make_unique<State>()) { XXH3_128bits_reset(state_->xxh); }
Hash::~Hash() = default;

void Hash::add(const void *data, size_t size) {
  if (size > 0) XXH3_128bits_update(state_->xxh, data, size);
}

void Hash::add(std::string_view text) {
  add_number<uint64_t>(text.size());
  add(text.data(), text.size());
}

std::string Hash::hex() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh);
  char digits[33];
  std::snprintf(digits, sizeof digits, "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return digits;
}

struct StreamChecksum::State : Xxh {};

StreamChecksum::StreamChecksum() : state_(std::make_unique<State>()) { XXH3_64bits_reset(state_->xxh); }
StreamChecksum::~StreamChecksum() = default;

void StreamChecksum::add(const void *data, size_t size) {
  if (size > 0) XXH3_64bits_update(state_->xxh, data, size);
}

uint64_t StreamChecksum::value() const { return XXH3_64bits_digest(state_->xxh); }

uint64_t table_secret() {
  static const uint64_t secret = platform::secret();
  return secret;
}

size_t TextHash::operator()(std::string_view text) const {
  return XXH3_64bits_withSeed(text.data(), text.size(), table_secret());
}

uint64_t checksum(const void *data, size_t size) { return XXH3_64bits(data, size); }

}  // namespace infini
