// What an enemy does to a snapshot whose header was changed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/hash.h"
#include "format/snapshot.h"

namespace test {

// Makes the header's checksum right again; those of the sections stay as they are.
inline void seal(std::vector<std::byte> &bytes) {
  uint64_t header = 0, zero = 0;
  std::memcpy(&header, bytes.data() + 16, 8);
  std::memcpy(bytes.data() + 24, &zero, 8);
  const uint64_t sum = infini::checksum(bytes.data(), header);
  std::memcpy(bytes.data() + 24, &sum, 8);
}

inline std::vector<std::byte> bytes_of(const infini::SnapshotImage &image) {
  std::vector<std::byte> bytes;
  const std::vector<std::byte> front = image.write([&](const void *data, size_t size) {
    const auto *const from = static_cast<const std::byte *>(data);
    bytes.insert(bytes.end(), from, from + size);
  });
  std::copy(front.begin(), front.end(), bytes.begin());
  return bytes;
}

}  // namespace test
