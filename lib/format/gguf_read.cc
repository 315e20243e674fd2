#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "format/gguf_types.h"

namespace infini {
namespace {

using namespace gguf;

// The least bytes of a key with its value, and of a tensor's description.
constexpr uint64_t kLeastEntry = 8 + 1 + 4 + 1, kLeastTensor = 8 + 1 + 4 + 8 + 4 + 8;

// Takes a file apart from its first byte to its last. Nothing is believed before it is compared with the
// bytes that are left, and nothing is allocated that they do not justify.
class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string &name) : bytes_(bytes), name_(name) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return bytes_.size() - position_; }

  // What is being read, for messages: "key 'general.name'".
  void enter(std::string subject) { subject_ = std::move(subject); }
  const std::string &subject() const { return subject_; }

  template <class... Parts>
  [[noreturn]] void refuse(Status status, const Parts &...parts) const {
    fail(status, name_, ": ", parts...);
  }

  const std::byte *take(uint64_t size, const char *what) {
    if (size > left())
      refuse(Status::TRUNCATED, subject_, ": ", what, " takes ", size, " bytes, but the file ends after ", left());
    position_ += size;
    return bytes_.data() + position_ - size;
  }

  template <class T>
  T number(const char *what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what), sizeof(T));
    return value;
  }

  std::string text(const char *length, const char *what) {
    const uint64_t size = number<uint64_t>(length);
    return {reinterpret_cast<const char *>(take(size, what)), size};
  }

  // A number of things that follow, each of which takes at least `least` bytes.
  uint64_t count(const char *what, uint64_t least) {
    const uint64_t value = number<uint64_t>(what);
    if (value > left() / least)
      refuse(Status::TRUNCATED, subject_, ": ", what, " is ", value, ", but the file ends after ", left(), " bytes");
    return value;
  }

  void header(uint64_t &tensors, uint64_t &entries);
  GgufValue value();
  GgufTensor tensor(uint64_t &offset);

 private:
  GgufArray array();
  void check_bool(std::byte value) const;

  std::span<const std::byte> bytes_;
  const std::string &name_;
  uint64_t position_ = 0;
  std::string subject_ = "header";
};

void Reader::header(uint64_t &tensors, uint64_t &entries) {
  const std::string_view start(reinterpret_cast<const char *>(bytes_.data()), std::min(bytes_.size(), kMagic.size()));
  if (!kMagic.starts_with(start))
    refuse(Status::FORMAT, "not a GGUF file: it starts with ", quoted(start), " instead of 'GGUF'");
  take(kMagic.size(), "the magic 'GGUF'");
  const uint32_t version = number<uint32_t>("the version");
  if (version == 0) refuse(Status::FORMAT, "GGUF version 0 does not exist; expected 2 or 3");
  if (version == 1) refuse(Status::UNSUPPORTED, "GGUF version 1 is no longer read; convert the file to version 2 or 3");
  // No version will ever need the upper half: there it is the byte order.
  if ((version & 0xffffu) == 0) refuse(Status::FORMAT, "a big-endian GGUF file; convert it to little-endian");
  if (version > kVersion) refuse(Status::VERSION, "GGUF version ", version, " is newer than ", kVersion);
  tensors = number<uint64_t>("the tensor count");
  entries = count("the key count", kLeastEntry);
  if (tensors > (left() - entries * kLeastEntry) / kLeastTensor)
    refuse(Status::TRUNCATED, "header: the tensor count is ", tensors, " beside ", entries,
           " keys, but the file ends after ", left(), " bytes");
}

void Reader::check_bool(std::byte value) const {
  const int number = std::to_integer<int>(value);
  if (number > 1) refuse(Status::FORMAT, subject_, " holds a bool of ", number, ", which must be 0 or 1");
}

GgufValue Reader::value() {
  const uint32_t type = number<uint32_t>("the value type");
  constexpr const char *what = "the value";
  switch (type) {
    case 0: return number<uint8_t>(what);
    case 1: return number<int8_t>(what);
    case 2: return number<uint16_t>(what);
    case 3: return number<int16_t>(what);
    case 4: return number<uint32_t>(what);
    case 5: return number<int32_t>(what);
    case 6: return number<float>(what);
    case 7: {
      const std::byte byte = *take(1, what);
      check_bool(byte);
      return byte != std::byte{0};
    }
    case 8: return text("the length of the string", "the string");
    case 9: return array();
    case 10: return number<uint64_t>(what);
    case 11: return number<int64_t>(what);
    case 12: return number<double>(what);
    default: refuse(Status::FORMAT, subject_, " has value type ", type, "; there are 0 to 12");
  }
}

GgufArray Reader::array() {
  GgufArray out;
  out.type = number<uint32_t>("the element type");
  if (out.type == kArray) refuse(Status::UNSUPPORTED, subject_, " is an array of arrays, which is not supported");
  if (out.type >= std::size(kValueTypes))
    refuse(Status::FORMAT, subject_, " has element type ", out.type, "; there are 0 to 12");
  if (out.type == kString) {
    out.count = count("the array's count", sizeof(uint64_t));
    out.strings.reserve(out.count);
    for (uint64_t i = 0; i < out.count; ++i)
      out.strings.push_back(text("the length of a string of the array", "a string of the array"));
    return out;
  }
  const uint64_t size = kValueTypes[out.type].bytes;
  out.count = count("the array's count", size);
  const std::byte *const numbers = take(out.count * size, "the array");
  if (out.type == kBool) std::for_each_n(numbers, out.count, [this](std::byte value) { check_bool(value); });
  out.numbers.assign(numbers, numbers + out.count * size);
  return out;
}

GgufTensor Reader::tensor(uint64_t &offset) {
  GgufTensor out;
  out.name = text("the length of the name", "the name");
  if (out.name.empty()) refuse(Status::FORMAT, subject_, " has an empty name");
  enter(cat("tensor ", quoted(out.name)));
  const uint32_t dimensions = number<uint32_t>("the number of dimensions");
  if (dimensions < 1 || dimensions > kMostDimensions)
    refuse(Status::FORMAT, subject_, " has ", dimensions, " dimensions, but must have 1 to ", kMostDimensions);
  for (uint32_t i = 0; i < dimensions; ++i) out.shape.push_back(number<int64_t>("an extent"));
  out.type = static_cast<TensorType>(number<uint32_t>("the type"));
  offset = number<uint64_t>("the offset");
  return out;
}

}  // namespace

Gguf Gguf::open(const std::string &path) {
  auto file = std::make_shared<const MappedFile>(path);
  Gguf gguf = parse(file->bytes(), path);
  file->release(file->bytes());
  gguf.file_ = std::move(file);
  return gguf;
}

void Gguf::release(std::span<const std::byte> part) const noexcept {
  if (file_) file_->release(part);
}

Gguf Gguf::parse(std::span<const std::byte> bytes, const std::string &name) {
  Gguf gguf;
  gguf.name_ = name;
  Reader reader(bytes, name);
  uint64_t tensors, entries;
  reader.header(tensors, entries);

  for (uint64_t i = 0; i < entries; ++i) {
    reader.enter(cat("key ", i + 1, " of ", entries));
    std::string key = reader.text("the length of its name", "its name");
    if (key.empty() || key.size() > kLongestKey)
      reader.refuse(Status::FORMAT, reader.subject(), " has a name of ", key.size(), " bytes, but must have 1 to ",
                    kLongestKey);
    reader.enter(cat("key ", quoted(key)));
    if (!gguf.key_index_.emplace(key, i).second) reader.refuse(Status::FORMAT, reader.subject(), " is there twice");
    GgufValue value = reader.value();
    gguf.entries_.emplace_back(std::move(key), std::move(value));
  }

  std::vector<uint64_t> offsets(tensors);
  for (uint64_t i = 0; i < tensors; ++i) {
    reader.enter(cat("tensor ", i + 1, " of ", tensors));
    GgufTensor tensor = reader.tensor(offsets[i]);
    if (!gguf.tensor_index_.emplace(tensor.name, i).second)
      reader.refuse(Status::FORMAT, reader.subject(), " is there twice");
    gguf.tensors_.push_back(std::move(tensor));
  }

  const uint64_t unit = alignment(gguf, name), start = reader.position() + padding(reader.position(), unit);
  uint64_t end = 0;  // of the tensors so far, from `start`
  for (uint64_t i = 0; i < tensors; ++i) {
    GgufTensor &tensor = gguf.tensors_[i];
    const std::string where = cat(name, ": tensor ", quoted(tensor.name));
    const uint64_t size = tensor_bytes(Status::FORMAT, where, tensor.type, tensor.shape), offset = offsets[i];
    if (offset % unit != 0)
      fail(Status::FORMAT, where, " is at offset ", offset, ", which is no multiple of the alignment ", unit);
    if (offset < end) fail(Status::FORMAT, where, " is at offset ", offset, ", but the tensor before it ends at ", end);
    const uint64_t available = bytes.size() - std::min<uint64_t>(bytes.size(), start);
    if (offset > available || size > available - offset)
      fail(Status::TRUNCATED, where, " takes ", size, " bytes at offset ", offset, ", but the file has ", available,
           " bytes of tensors");
    tensor.data = bytes.subspan(start + offset, size);
    end = offset + size;
  }
  return gguf;
}

}  // namespace infini
