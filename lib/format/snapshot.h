// The snapshot container: a header that names everything, and checksummed sections of bytes. What the sections
// mean is stream/snapshot.cc's business.
//
//   0   8  magic "INFINISN"                    for ever at these places,
//   8   4  format version, 1 or 2              whatever the version
//   12  4  byte order, 0x01020304 (numbers are little-endian)
//   16  8  header size H in bytes, a multiple of 64
//   24  8  header checksum: XXH3-64 of bytes 0 .. H with these 8 as zero
//   32  8  file size
//   40  4  number of sections S, 44 4 size J of the JSON, 48 16 zero
//   64  S * 64 section table: name (24, zero-padded), offset (8), stored size (8), size (8), checksum of the
//             stored bytes (8), encoding (4: 0 as they are, 1 Zstandard), zero (4)
//   ..  J  JSON, then zeros to H; then the sections, without gaps
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/buffer.h"

namespace infini {

constexpr uint32_t kSnapshotVersion = 2;  // 1 is read too: it had windows in panels (stream/snapshot.cc)

struct SnapshotSection {
  std::string name;                               // at most 23 bytes
  std::vector<std::span<const std::byte>> parts;  // its bytes, in order
  // Behind them `made_bytes` more, which make() gives to take() piece by piece, the same each time.
  uint64_t made_bytes = 0;
  std::function<void(const std::function<void(std::span<const std::byte>)> &take)> make{};
};

// A whole snapshot, ready to be written; holds views of the sections' bytes.
class SnapshotImage {
 public:
  // level 0: sections as they are, else Zstandard's level for those that it makes smaller.
  SnapshotImage(const std::string &json, std::vector<SnapshotSection> sections, int level);
  size_t size() const { return size_; }
  // Calls write(data, size) for every stretch of the file, in order, some 256 KB at a time. Only then are the checksums
  // known: what it returns is to be written over the file's first bytes.
  [[nodiscard]] std::vector<std::byte> write(const std::function<void(const void *, size_t)> &write) const;

 private:
  std::vector<std::byte> header_;
  std::vector<SnapshotSection> sections_;
  std::vector<std::vector<std::byte>> compressed_;
  size_t size_ = 0;
};

// A snapshot that was read; `bytes` must outlive it. The constructor checks the header and that sections lie inside
// the file: FORMAT, CHECKSUM, VERSION or TRUNCATED, in the order magic, header checksum, version, sections.
class SnapshotView {
 public:
  struct Entry {
    std::string name;
    uint64_t offset, stored_size, size, checksum;
    uint32_t encoding;
  };
  SnapshotView(std::span<const std::byte> bytes, std::string name);

  const std::string &json() const { return json_; }
  uint32_t version() const { return version_; }
  const std::vector<Entry> &entries() const { return entries_; }
  size_t size() const { return bytes_.size(); }
  const std::string &name() const { return name_; }
  // CHECKSUM if the section's bytes were changed, FORMAT if they do not decompress. Returns the checksum of its
  // contents: what two snapshots share that were compressed differently. Goes piece by piece, and calls passed(bytes)
  // after each, stored ones and those that come out of them.
  uint64_t verify(const Entry &entry, const std::function<void(uint64_t)> &passed = {}) const;
  // The section's bytes, verified and decompressed; when it throws, the parts hold anything. FORMAT if there is no such
  // section, or unless it fills the parts exactly.
  void read(const std::string &section, const std::vector<std::span<std::byte>> &parts) const;
  // The same without a copy, or, if they had to be decompressed, in `space`.
  std::span<const std::byte> view(const std::string &section, uint64_t size, Buffer<std::byte> &space) const;
  const Entry &entry(const std::string &section) const;

 private:
  const Entry &entry(const std::string &section, uint64_t size) const;  // FORMAT unless it is of that size
  void check_sum(const Entry &entry, uint64_t sum) const;
  std::span<const std::byte> bytes_;
  std::string name_, json_;
  uint32_t version_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace infini
