#include "format/gguf.h"

#include <cstring>
#include <optional>
#include <type_traits>

#include "format/gguf_types.h"

namespace infini {
namespace {

// Calls use(T{}) with the C++ type of a number; false for the other types.
template <class Use>
bool with_number_type(uint32_t type, const Use &use) {
  switch (type) {
    case 0: use(uint8_t{}); return true;
    case 1: use(int8_t{}); return true;
    case 2: use(uint16_t{}); return true;
    case 3: use(int16_t{}); return true;
    case 4: use(uint32_t{}); return true;
    case 5: use(int32_t{}); return true;
    case 6: use(float{}); return true;
    case 10: use(uint64_t{}); return true;
    case 11: use(int64_t{}); return true;
    case 12: use(double{}); return true;
    default: return false;
  }
}

template <class T>
constexpr bool is_integer = std::is_integral_v<T> && !std::is_same_v<T, bool>;

std::optional<int64_t> as_integer(const GgufValue &value) {
  return std::visit(
      [](const auto &number) -> std::optional<int64_t> {
        if constexpr (is_integer<std::decay_t<decltype(number)>>) {
          if (std::in_range<int64_t>(number)) return static_cast<int64_t>(number);
        }
        return std::nullopt;
      },
      value);
}

// An array's numbers as Out; nothing where one of them cannot be, or where they are no numbers.
template <class Out>
std::optional<std::vector<Out>> numbers_of(const GgufValue &value) {
  const GgufArray *array = std::get_if<GgufArray>(&value);
  std::vector<Out> out;
  bool fits = true;
  const auto convert = [&]<class T>(T) {
    if (std::is_integral_v<Out> && !is_integer<T>) {
      fits = false;
      return;
    }
    out.reserve(array->count);
    for (uint64_t i = 0; i < array->count; ++i) {
      T number;
      std::memcpy(&number, array->numbers.data() + i * sizeof(T), sizeof(T));
      if constexpr (is_integer<T> && std::is_integral_v<Out>) fits = fits && std::in_range<Out>(number);
      out.push_back(static_cast<Out>(number));
    }
  };
  if (!array || !with_number_type(array->type, convert) || !fits) return std::nullopt;
  return out;
}

}  // namespace

int64_t GgufTensor::elements() const { return shape[0] * rows(); }

int64_t GgufTensor::rows() const {
  int64_t product = 1;
  for (size_t i = 1; i < shape.size(); ++i) product *= shape[i];
  return product;
}

const GgufValue *Gguf::find(std::string_view key) const {
  const auto found = key_index_.find(key);
  return found == key_index_.end() ? nullptr : &entries_[found->second].second;
}

const GgufTensor *Gguf::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

const GgufValue &Gguf::require(std::string_view key) const {
  if (const GgufValue *value = find(key)) return *value;
  fail(Status::FORMAT, "key ", gguf::quoted(key), " is missing");
}

void Gguf::refuse(std::string_view key, const GgufValue &value, const char *expected) const {
  fail(Status::FORMAT, "key ", gguf::quoted(key), " is ", gguf::describe(value), ", but must be ", expected);
}

int64_t Gguf::get_int(std::string_view key) const {
  const GgufValue &value = require(key);
  if (const auto integer = as_integer(value)) return *integer;
  refuse(key, value, "an integer of at most 63 bits");
}

double Gguf::get_double(std::string_view key) const {
  const GgufValue &value = require(key);
  if (const float *number = std::get_if<float>(&value)) return *number;
  if (const double *number = std::get_if<double>(&value)) return *number;
  refuse(key, value, "f32 or f64");
}

const std::string &Gguf::get_string(std::string_view key) const {
  const GgufValue &value = require(key);
  if (const std::string *text = std::get_if<std::string>(&value)) return *text;
  refuse(key, value, "a string");
}

const std::vector<std::string> &Gguf::get_strings(std::string_view key) const {
  const GgufValue &value = require(key);
  const GgufArray *array = std::get_if<GgufArray>(&value);
  if (array && array->type == gguf::kString) return array->strings;
  refuse(key, value, "an array of strings");
}

std::vector<double> Gguf::get_doubles(std::string_view key) const {
  const GgufValue &value = require(key);
  if (auto numbers = numbers_of<double>(value)) return *std::move(numbers);
  refuse(key, value, "an array of numbers");
}

std::vector<int64_t> Gguf::get_ints(std::string_view key) const {
  const GgufValue &value = require(key);
  if (auto numbers = numbers_of<int64_t>(value)) return *std::move(numbers);
  refuse(key, value, "an array of integers of at most 63 bits");
}

int64_t Gguf::get_int(std::string_view key, int64_t absent) const { return find(key) ? get_int(key) : absent; }
double Gguf::get_double(std::string_view key, double absent) const { return find(key) ? get_double(key) : absent; }

std::string Gguf::get_string(std::string_view key, const std::string &absent) const {
  return find(key) ? get_string(key) : absent;
}

bool Gguf::get_bool(std::string_view key, bool absent) const {
  const GgufValue *value = find(key);
  if (!value) return absent;
  if (const bool *truth = std::get_if<bool>(value)) return *truth;
  refuse(key, *value, "a bool");
}

void Gguf::set(const std::string &key, GgufValue value) {
  if (key.empty() || key.size() > gguf::kLongestKey)
    fail(Status::INVALID_ARGUMENT, "a key of ", key.size(), " bytes; it must have 1 to ", gguf::kLongestKey);
  if (const GgufArray *array = std::get_if<GgufArray>(&value)) {
    const bool strings = array->type == gguf::kString;
    const bool known = array->type < std::size(gguf::kValueTypes) && array->type != gguf::kArray;
    if (!known || array->strings.size() != (strings ? array->count : 0) ||
        array->numbers.size() != array->count * gguf::kValueTypes[array->type].bytes)
      fail(Status::INVALID_ARGUMENT, "the array for key ", gguf::quoted(key), " has type ", array->type, " and count ",
           array->count, ", but holds ", array->strings.size(), " strings and ", array->numbers.size(), " bytes");
  }
  const auto [found, is_new] = key_index_.emplace(key, entries_.size());
  if (is_new) entries_.emplace_back(key, std::move(value));
  else entries_[found->second].second = std::move(value);
}

void Gguf::set_doubles(const std::string &key, std::span<const float> values) {
  const auto bytes = std::as_bytes(values);
  set(key, GgufArray{gguf::kF32, values.size(), {bytes.begin(), bytes.end()}, {}});
}

void Gguf::erase(std::string_view key) {
  const auto found = key_index_.find(key);
  if (found == key_index_.end()) return;
  const size_t position = found->second;
  key_index_.erase(found);
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(position));
  for (auto &[name, index] : key_index_) index -= index > position;
}

void Gguf::add_tensor(const std::string &name, TensorType type, std::vector<int64_t> shape,
                      std::vector<std::byte> data) {
  const std::string where = cat("tensor ", gguf::quoted(name));
  if (name.empty() || find_tensor(name))
    fail(Status::INVALID_ARGUMENT, where, name.empty() ? " has no name" : " is there already");
  const uint64_t bytes = gguf::tensor_bytes(Status::INVALID_ARGUMENT, where, type, shape);
  if (data.size() != bytes)
    fail(Status::INVALID_ARGUMENT, where, " has ", data.size(), " bytes of data, but its shape makes ", bytes);
  const auto owned = std::make_shared<const std::vector<std::byte>>(std::move(data));
  storage_.push_back(owned);
  tensor_index_.emplace(name, tensors_.size());
  tensors_.push_back({name, type, std::move(shape), *owned});
}

namespace gguf {

std::string quoted(std::string_view name) {
  constexpr size_t kLongest = 80;
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "'";
  for (const char letter : name.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(letter);
    if (byte >= 0x20 && byte < 0x7f) out += letter;
    else out += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return out + (name.size() > kLongest ? "...'" : "'");
}

std::string describe(const GgufValue &value) {
  const std::string type = kValueTypes[value.index()].name;
  return std::visit(
      [&](const auto &content) -> std::string {
        using T = std::decay_t<decltype(content)>;
        if constexpr (std::is_same_v<T, GgufArray>)
          return cat("an array of ", content.count, " ", kValueTypes[content.type].name);
        else if constexpr (std::is_same_v<T, std::string>) return cat(type, " ", quoted(content));
        else if constexpr (std::is_same_v<T, bool>) return cat(type, content ? " true" : " false");
        else return cat(type, " ", +content);  // a sum, so that a byte prints as a number
      },
      value);
}

uint64_t alignment(const Gguf &gguf, const std::string &name) {
  const int64_t bytes = of_file(name, [&] { return gguf.get_int(kAlignmentKey, kAlignmentIfAbsent); });
  if (bytes <= 0 || bytes > kLargestAlignment || !std::has_single_bit(static_cast<uint64_t>(bytes)))
    fail(Status::FORMAT, name, ": key '", kAlignmentKey, "' is ", bytes, ", but must be a power of two up to ",
         kLargestAlignment);
  return static_cast<uint64_t>(bytes);
}

uint64_t tensor_bytes(Status status, const std::string &where, TensorType type, std::span<const int64_t> shape) {
  const TensorLayout *layout = tensor_layout(type);
  if (!layout)
    fail(Status::UNSUPPORTED, where, " has type ", tensor_type_name(type), ", which is none of ", tensor_type_names());
  if (shape.empty() || shape.size() > kMostDimensions)
    fail(status, where, " has ", shape.size(), " dimensions, but must have 1 to ", kMostDimensions);
  int64_t elements = 1, bytes = 0;
  for (const int64_t extent : shape) {
    if (extent <= 0) fail(status, where, " has an extent of ", extent, ", but all must be positive");
    if (__builtin_mul_overflow(elements, extent, &elements))
      fail(status, where, " has more elements than fit in 63 bits");
  }
  if (shape[0] % layout->block_elements != 0)
    fail(status, where, " has rows of ", shape[0], " elements, but type ", layout->name, " needs whole blocks of ",
         layout->block_elements);
  if (__builtin_mul_overflow(elements / layout->block_elements, int64_t{layout->block_bytes}, &bytes))
    fail(status, where, " has more bytes than fit in 63 bits");
  return static_cast<uint64_t>(bytes);
}

}  // namespace gguf
}  // namespace infini
