// GGUF model files: keys and tensors, read from a mapped file that may be an enemy's, or built in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/status.h"
#include "base/task.h"
#include "format/quant.h"

namespace infini {

class MappedFile;

// An array value. Numbers are kept as their little-endian bytes, strings as strings.
struct GgufArray {
  uint32_t type = 0;  // GGUF value type of an element (see GgufValue)
  uint64_t count = 0;
  std::vector<std::byte> numbers;    // count * size of the type; empty for strings
  std::vector<std::string> strings;  // count; empty for numbers

  bool operator==(const GgufArray &) const = default;
};

// The alternative's index is the GGUF type number:
// u8 0, i8 1, u16 2, i16 3, u32 4, i32 5, f32 6, bool 7, string 8, array 9, u64 10, i64 11, f64 12.
using GgufValue = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool, std::string,
                               GgufArray, uint64_t, int64_t, double>;

struct GgufTensor {
  std::string name;
  TensorType type;
  std::vector<int64_t> shape;       // 1 to 4 extents, fastest first: shape[0] is the length of a row
  std::span<const std::byte> data;  // may be unaligned

  int64_t rows() const;      // product of shape[1..]
  int64_t elements() const;  // product of all
};

class Gguf {
 public:
  Gguf() = default;
  // Maps the file and checks everything that can be checked without a model. The mapping lives as long as
  // this object and its copies. Throws IO; FORMAT; TRUNCATED wherever contents would reach past the end, so that
  // every prefix of a good file gets it; VERSION for a newer format; UNSUPPORTED for version 1, arrays of
  // arrays and other tensor types. Memory taken is a small multiple of the file's size, whatever it claims.
  static Gguf open(const std::string &path);
  // The same over bytes in memory, which must outlive the result.
  static Gguf parse(std::span<const std::byte> bytes, const std::string &name);

  // Keys, in file order.
  const std::vector<std::pair<std::string, GgufValue>> &entries() const { return entries_; }
  const GgufValue *find(std::string_view key) const;
  // A key that must be there, in the type asked for. Integers convert where the value fits, f64 and f32
  // into each other; anything else is a FORMAT error that names the key, not the file: see of_file().
  int64_t get_int(std::string_view key) const;
  double get_double(std::string_view key) const;
  const std::string &get_string(std::string_view key) const;
  const std::vector<std::string> &get_strings(std::string_view key) const;
  std::vector<double> get_doubles(std::string_view key) const;  // an array of any number type
  std::vector<int64_t> get_ints(std::string_view key) const;    // an array of any integer type
  // The same with a value for an absent key.
  int64_t get_int(std::string_view key, int64_t absent) const;
  double get_double(std::string_view key, double absent) const;
  std::string get_string(std::string_view key, const std::string &absent) const;
  bool get_bool(std::string_view key, bool absent) const;

  // Replaces the key in place, or appends it. INVALID_ARGUMENT for an empty key, one longer than 65535
  // bytes, or an array whose parts contradict each other.
  void set(const std::string &key, GgufValue value);
  void set_doubles(const std::string &key, std::span<const float> values);  // an f32 array
  void erase(std::string_view key);

  const std::string &name() const { return name_; }  // path of the file; empty: made in memory
  const std::vector<GgufTensor> &tensors() const { return tensors_; }
  const GgufTensor *find_tensor(std::string_view name) const;
  // Gives the memory of a part of a tensor that has been read back to the system. Reading it again reads the file.
  void release(std::span<const std::byte> part) const noexcept;
  // Appends a tensor that owns its bytes. INVALID_ARGUMENT for a duplicate name, or for a shape that does
  // not make whole blocks or another number of bytes.
  void add_tensor(const std::string &name, TensorType type, std::vector<int64_t> shape, std::vector<std::byte> data);

  // Writes a version-3 file through a temporary one, so that `path` holds the old file or the new. Stage "save", in
  // bytes of tensors.
  void save(const std::string &path, Task *task = nullptr) const;
  // The same with each tensor as type_of says; write(tensor, that type, put) gives its bytes, in order, to put.
  using Put = std::function<void(std::span<const std::byte>)>;
  void save(const std::string &path, const std::function<TensorType(const GgufTensor &)> &type_of,
            const std::function<void(const GgufTensor &, TensorType, const Put &)> &write, Task *task,
            const char *stage = "save") const;

 private:
  // A tree, not a hash table: a hostile file could fill one bucket.
  using Index = std::map<std::string, size_t, std::less<>>;

  const GgufValue &require(std::string_view key) const;
  [[noreturn]] void refuse(std::string_view key, const GgufValue &value, const char *expected) const;

  std::string name_;
  std::vector<std::pair<std::string, GgufValue>> entries_;
  Index key_index_;
  std::vector<GgufTensor> tensors_;
  Index tensor_index_;
  std::shared_ptr<const MappedFile> file_;
  std::vector<std::shared_ptr<const void>> storage_;  // the bytes of tensors that were added
};

// f(), whose errors then name the file, where there is one.
template <class Function>
decltype(auto) of_file(const std::string &path, const Function &f) {
  try {
    return f();
  } catch (const Error &error) {
    throw Error(error.status(), cat(path, path.empty() ? "" : ": ", error.what()), error.os_error());
  }
}

}  // namespace infini
