#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "format/gguf_types.h"

namespace infini {
namespace {

using namespace gguf;

template <class T>
void append_number(std::string &out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void append_string(std::string &out, const std::string &text) {
  append_number(out, uint64_t{text.size()});
  out += text;
}

void append_array(std::string &out, const GgufArray &array) {
  append_number(out, array.type);
  append_number(out, array.count);
  out.append(reinterpret_cast<const char *>(array.numbers.data()), array.numbers.size());
  for (const std::string &text : array.strings) append_string(out, text);
}

void append_value(std::string &out, const GgufValue &value) {
  append_number(out, static_cast<uint32_t>(value.index()));
  std::visit(
      [&](const auto &content) {
    using T = std::decay_t<decltype(content)>;
    if constexpr (std::is_same_v<T, std::string>) append_string(out, content);
    else if constexpr (std::is_same_v<T, GgufArray>) append_array(out, content);
    else append_number(out, content);
      },
      value);
}

}  // namespace

void Gguf::save(const std::string &path, Task *task) const {
  save(
      path, [](const GgufTensor &tensor) { return tensor.type; },
      [](const GgufTensor &tensor, TensorType, const Put &put) { put(tensor.data); }, task, "save");
}

void Gguf::save(const std::string &path, const std::function<TensorType(const GgufTensor &)> &type_of,
                const std::function<void(const GgufTensor &, TensorType, const Put &)> &write, Task *task,
                const char *stage) const {
  const uint64_t unit = alignment(*this, path);
  std::string head(kMagic);
  append_number(head, kVersion);
  append_number(head, uint64_t{tensors_.size()});
  append_number(head, uint64_t{entries_.size()});
  for (const auto &[key, value] : entries_) {
    append_string(head, key);
    append_value(head, value);
  }
  uint64_t offset = 0, total = 0;
  for (const GgufTensor &tensor : tensors_) {
    append_string(head, tensor.name);
    append_number(head, static_cast<uint32_t>(tensor.shape.size()));
    for (const int64_t extent : tensor.shape) append_number(head, extent);
    const TensorType type = type_of(tensor);
    const uint64_t size =
        tensor_bytes(Status::INVALID_ARGUMENT, cat("tensor ", quoted(tensor.name)), type, tensor.shape);
    append_number(head, static_cast<uint32_t>(type));
    append_number(head, offset);
    offset += size + padding(size, unit);
    total += size;
  }
  if (!tensors_.empty()) head.append(padding(head.size(), unit), '\0');

  constexpr size_t kPiece = 16 << 20;
  Watch watch(task, stage, static_cast<int64_t>(total), cat("saving was cancelled; '", path, "' is as it was"));
  AtomicFile file(path);
  file.write(head.data(), head.size());
  const std::string zeros(unit, '\0');
  for (const GgufTensor &tensor : tensors_) {
    uint64_t size = 0;
    write(tensor, type_of(tensor), [&](std::span<const std::byte> bytes) {
      for (size_t piece = 0; !bytes.empty(); bytes = bytes.subspan(piece)) {
        piece = std::min(bytes.size(), kPiece);
        file.write(bytes.data(), piece);
        watch.advance(piece);
        size += piece;
      }
    });
    release(tensor.data);
    file.write(zeros.data(), padding(size, unit));  // after the last one too: other readers expect it
  }
  file.commit();
}

}  // namespace infini
