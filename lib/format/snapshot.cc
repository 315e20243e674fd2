#include "format/snapshot.h"

#include <zstd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

#include "base/hash.h"
#include "base/status.h"

namespace infini {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian, and copied as it is");

constexpr char kMagic[8] = {'I', 'N', 'F', 'I', 'N', 'I', 'S', 'N'};
constexpr uint32_t kByteOrder = 0x01020304;
constexpr size_t kFixed = 64, kName = 24, kEntry = 64;
constexpr uint32_t kPlain = 0, kZstd = 1;
constexpr uint64_t kLargestHeader = 1u << 26;
constexpr size_t kPiece = 64 << 10, kWritten = 256 << 10;  // stay in the processor's cache

template <class Number>
void put(std::vector<std::byte> &bytes, size_t at, Number value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}
template <class Number>
Number get(std::span<const std::byte> bytes, size_t at) {
  Number value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

uint64_t size_of(const SnapshotSection &section) {
  uint64_t total = section.made_bytes;
  for (const auto part : section.parts) total += part.size();
  return total;
}

void each_part(const SnapshotSection &section, const std::function<void(std::span<const std::byte>)> &f) {
  for (const auto part : section.parts) f(part);
  if (section.make) section.make(f);
}

struct FreeContext {
  void operator()(ZSTD_CCtx *context) const { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx *context) const { ZSTD_freeDCtx(context); }
};

void check_zstd(size_t result, const char *what, const std::string &name) {
  if (ZSTD_isError(result)) fail(Status::FORMAT, what, " of section '", name, "' failed: ", ZSTD_getErrorName(result));
}

std::vector<std::byte> compress(const SnapshotSection &section, int level) {
  const std::unique_ptr<ZSTD_CCtx, FreeContext> context(ZSTD_createCCtx());
  if (!context) throw std::bad_alloc();
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, level);
  ZSTD_CCtx_setPledgedSrcSize(context.get(), size_of(section));
  std::vector<std::byte> out(ZSTD_compressBound(size_of(section)));
  ZSTD_outBuffer to{out.data(), out.size(), 0};
  const auto step = [&](ZSTD_inBuffer &from, ZSTD_EndDirective directive) {
    const size_t left = ZSTD_compressStream2(context.get(), &to, &from, directive);
    check_zstd(left, "compression", section.name);
    return left;
  };
  each_part(section, [&](std::span<const std::byte> part) {
    for (ZSTD_inBuffer from{part.data(), part.size(), 0}; from.pos < from.size;) step(from, ZSTD_e_continue);
  });
  ZSTD_inBuffer none{nullptr, 0, 0};
  while (step(none, ZSTD_e_end) != 0) {}
  out.resize(to.pos);
  return out;
}

// A Zstandard frame, decompressed piece by piece.
class Inflater {
 public:
  // `size`: of what comes out.
  Inflater(std::span<const std::byte> frame, uint64_t size, const std::string &section, const std::string &file)
      : context_(ZSTD_createDCtx()), in_{frame.data(), frame.size(), 0}, section_(section), file_(file) {
    if (!context_) throw std::bad_alloc();
    // A frame must not make zstd look back, and so hold, farther than its contents are long.
    constexpr int kLeast = 10,
                  kMost = 27;  // powers of two: the smallest window of the format, the largest that zstd takes unasked
    const int window = std::clamp(static_cast<int>(std::bit_width(size)), kLeast, kMost);
    check_zstd(ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, window), "decompression", section_);
  }
  // Decompresses exactly as many bytes as `part` holds.
  void fill(std::span<std::byte> part) {
    for (ZSTD_outBuffer out{part.data(), part.size(), 0}; out.pos < out.size;)
      if (!step(out)) fail(Status::FORMAT, file_, ": section '", section_, "' decompresses to less than it should");
  }
  // The frame's end may still be unread; it must bring no more bytes.
  void finish() {
    std::byte none;
    ZSTD_outBuffer out{&none, 0, 0};
    while (hint_ != 0 && step(out)) {}
    if (hint_ != 0 || in_.pos != in_.size)
      fail(Status::FORMAT, file_, ": section '", section_, "' decompresses to more than it should");
  }

 private:
  // False: nothing moved.
  bool step(ZSTD_outBuffer &out) {
    const size_t before = out.pos + in_.pos;
    hint_ = ZSTD_decompressStream(context_.get(), &out, &in_);
    check_zstd(hint_, "decompression", section_);
    return out.pos + in_.pos != before;
  }
  std::unique_ptr<ZSTD_DCtx, FreeContext> context_;
  ZSTD_inBuffer in_;
  size_t hint_ = 1;
  const std::string &section_, &file_;
};

}  // namespace

SnapshotImage::SnapshotImage(const std::string &json, std::vector<SnapshotSection> sections, int level)
    : sections_(std::move(sections)) {
  if (json.size() > kLargestHeader / 2)
    fail(Status::INVALID_ARGUMENT, "the snapshot's name, note and options take ", json.size(),
         " bytes, but can be at most ", kLargestHeader / 2);
  // The JSON has room to grow by the digits of a position, so that the size of a snapshot does not tell its age.
  const size_t table = kFixed + sections_.size() * kEntry, header = (table + json.size() + 1023) / 1024 * 1024;
  header_.resize(header);
  std::memcpy(header_.data(), kMagic, sizeof kMagic);
  put(header_, 8, kSnapshotVersion);
  put(header_, 12, kByteOrder);
  put<uint64_t>(header_, 16, header);
  put(header_, 40, static_cast<uint32_t>(sections_.size()));
  put(header_, 44, static_cast<uint32_t>(json.size()));
  std::memcpy(header_.data() + table, json.data(), json.size());
  compressed_.resize(sections_.size());
  size_ = header;
  for (size_t i = 0; i < sections_.size(); ++i) {
    SnapshotSection &section = sections_[i];
    const uint64_t size = size_of(section);
    uint32_t encoding = kPlain;
    if (level > 0 && size > 0) {
      compressed_[i] = compress(section, level);
      if (compressed_[i].size() < size) {
        encoding = kZstd;
        section = {std::move(section.name), {compressed_[i]}};
      }
    }
    const size_t at = kFixed + i * kEntry;
    std::memcpy(header_.data() + at, section.name.data(), std::min(section.name.size(), kName - 1));
    put<uint64_t>(header_, at + 24, size_);
    put<uint64_t>(header_, at + 32, size_of(section));
    put<uint64_t>(header_, at + 40, size);
    put(header_, at + 56, encoding);
    size_ += size_of(section);
  }
  put<uint64_t>(header_, 32, size_);
}

std::vector<std::byte> SnapshotImage::write(const std::function<void(const void *, size_t)> &write) const {
  std::vector<std::byte> header = header_;
  write(header.data(), header.size());
  for (size_t i = 0; i < sections_.size(); ++i) {
    StreamChecksum sum;
    each_part(sections_[i], [&](std::span<const std::byte> part) {
      for (size_t at = 0; at < part.size(); at += kWritten) {
        const auto piece = part.subspan(at, std::min(part.size() - at, kWritten));
        sum.add(piece.data(), piece.size());
        write(piece.data(), piece.size());
      }
    });
    put<uint64_t>(header, kFixed + i * kEntry + 48, sum.value());
  }
  put<uint64_t>(header, 24, checksum(header.data(), header.size()));
  return header;
}

SnapshotView::SnapshotView(std::span<const std::byte> bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {
  if (bytes.size() < sizeof kMagic || std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0)
    fail(Status::FORMAT, name_, ": not a snapshot (it does not begin with INFINISN)");
  if (bytes.size() < kFixed) fail(Status::TRUNCATED, name_, ": ends after ", bytes.size(), " bytes, inside the header");
  const auto header = get<uint64_t>(bytes, 16);
  if (header < kFixed || header > kLargestHeader || header % 64 != 0)
    fail(Status::CHECKSUM, name_, ": the header was changed: its size says ", header);
  if (header > bytes.size())
    fail(Status::TRUNCATED, name_, ": ends after ", bytes.size(), " bytes, inside the header of ", header);
  std::vector<std::byte> copy(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(header));
  put<uint64_t>(copy, 24, 0);
  if (checksum(copy.data(), copy.size()) != get<uint64_t>(bytes, 24))
    fail(Status::CHECKSUM, name_, ": the header was changed: its checksum does not match");
  version_ = get<uint32_t>(bytes, 8);
  if (version_ > kSnapshotVersion)
    fail(Status::VERSION, name_, ": format version ", version_, " is newer than ", kSnapshotVersion,
         ", which this library knows; update the library");
  if (version_ == 0 || get<uint32_t>(bytes, 12) != kByteOrder)
    fail(Status::FORMAT, name_, ": version ", version_, " with byte order ", get<uint32_t>(bytes, 12),
         " was never written");

  const auto count = get<uint32_t>(bytes, 40), json_size = get<uint32_t>(bytes, 44);
  if (uint64_t{count} * kEntry + json_size > header - kFixed)
    fail(Status::FORMAT, name_, ": ", count, " sections and ", json_size, " bytes of JSON do not fit the header of ",
         header);
  uint64_t next = header;
  for (uint32_t i = 0; i < count; ++i) {
    const size_t at = kFixed + i * kEntry;
    const char *text = reinterpret_cast<const char *>(bytes.data() + at);
    Entry entry{std::string(text, strnlen(text, kName)), get<uint64_t>(bytes, at + 24), get<uint64_t>(bytes, at + 32),
                get<uint64_t>(bytes, at + 40),           get<uint64_t>(bytes, at + 48), get<uint32_t>(bytes, at + 56)};
    if (entry.offset != next || entry.encoding > kZstd || entry.stored_size > UINT64_MAX - next ||
        (entry.encoding == kPlain && entry.stored_size != entry.size))
      fail(Status::FORMAT, name_, ": section '", entry.name, "' has impossible numbers (offset ", entry.offset,
           ", size ", entry.stored_size, ")");
    next += entry.stored_size;
    entries_.push_back(std::move(entry));
  }
  if (get<uint64_t>(bytes, 32) != next)
    fail(Status::FORMAT, name_, ": the sections end at ", next, ", the header says ", get<uint64_t>(bytes, 32));
  if (bytes.size() < next) fail(Status::TRUNCATED, name_, ": ends after ", bytes.size(), " of ", next, " bytes");
  if (bytes.size() > next) fail(Status::FORMAT, name_, ": ", bytes.size() - next, " bytes follow the last section");
  json_.assign(reinterpret_cast<const char *>(bytes.data() + kFixed + count * kEntry), json_size);
}

const SnapshotView::Entry &SnapshotView::entry(const std::string &section) const {
  for (const Entry &entry : entries_)
    if (entry.name == section) return entry;
  fail(Status::FORMAT, name_, ": section '", section, "' is missing");
}

void SnapshotView::check_sum(const Entry &entry, uint64_t sum) const {
  if (sum != entry.checksum)
    fail(Status::CHECKSUM, name_, ": section '", entry.name, "' was changed: its checksum does not match");
}

uint64_t SnapshotView::verify(const Entry &entry, const std::function<void(uint64_t)> &passed) const {
  const std::span<const std::byte> stored = bytes_.subspan(entry.offset, entry.stored_size);
  StreamChecksum sum;
  for (size_t at = 0; at < stored.size(); at += kPiece) {
    const auto part = stored.subspan(at, std::min<size_t>(stored.size() - at, kPiece));
    sum.add(part.data(), part.size());
    if (passed) passed(part.size());
  }
  check_sum(entry, sum.value());
  if (entry.encoding == kPlain) return sum.value();
  Inflater inflater(stored, entry.size, entry.name, name_);
  StreamChecksum contents;
  std::vector<std::byte> piece(kPiece);
  for (uint64_t left = entry.size; left > 0;) {
    const auto part = std::span(piece).first(std::min<uint64_t>(left, kPiece));
    inflater.fill(part);
    contents.add(part.data(), part.size());
    left -= part.size();
    if (passed) passed(part.size());
  }
  inflater.finish();
  return contents.value();
}

const SnapshotView::Entry &SnapshotView::entry(const std::string &section, uint64_t size) const {
  const Entry &entry = this->entry(section);
  if (entry.size != size)
    fail(Status::FORMAT, name_, ": section '", section, "' holds ", entry.size, " bytes, but the session needs ", size);
  return entry;
}

std::span<const std::byte> SnapshotView::view(const std::string &section, uint64_t size,
                                              Buffer<std::byte> &space) const {
  const Entry &entry = this->entry(section, size);
  if (entry.encoding == kZstd) {
    space = Buffer<std::byte>(static_cast<int64_t>(size));
    const std::span<std::byte> bytes(space.data(), size);
    read(section, {bytes});
    return bytes;
  }
  const std::span<const std::byte> stored = bytes_.subspan(entry.offset, entry.stored_size);
  check_sum(entry, checksum(stored.data(), stored.size()));
  return stored;
}

void SnapshotView::read(const std::string &section, const std::vector<std::span<std::byte>> &parts) const {
  uint64_t expected = 0;
  for (const auto part : parts) expected += part.size();
  const Entry &entry = this->entry(section, expected);
  const std::span<const std::byte> stored = bytes_.subspan(entry.offset, entry.stored_size);
  if (entry.encoding == kZstd) {
    check_sum(entry, checksum(stored.data(), stored.size()));
    Inflater inflater(stored, entry.size, section, name_);
    for (const auto part : parts) inflater.fill(part);
    return inflater.finish();
  }
  // Copied and summed in one pass, while a piece is in the processor's cache.
  StreamChecksum sum;
  const std::byte *from = stored.data();
  for (const auto part : parts) {
    for (size_t at = 0; at < part.size(); at += kPiece) {
      const size_t count = std::min(kPiece, part.size() - at);
      std::memcpy(part.data() + at, from, count);
      sum.add(part.data() + at, count);
      from += count;
    }
  }
  check_sum(entry, sum.value());
}

}  // namespace infini
