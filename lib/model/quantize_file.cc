#include "model/quantize_file.h"

#include <algorithm>
#include <map>

#include "base/log.h"
#include "base/parallel.h"
#include "model/model.h"

namespace infini {
namespace {

// What files say of their type (general.file_type), where all matrices have it.
int64_t file_type(TensorType type) {
  using enum TensorType;
  switch (type) {
    case F32: return 0;
    case F16: return 1;
    case Q4_0: return 2;
    case Q4_1: return 3;
    case Q8_0: return 7;
    case Q5_0: return 8;
    case Q5_1: return 9;
    case Q2_K: return 10;
    case Q3_K: return 11;
    case Q4_K: return 14;
    case Q5_K: return 16;
    case Q6_K: return 18;
    case IQ4_NL: return 25;
    case IQ4_XS: return 30;
    case BF16: return 32;
  }
  return 0;
}

}  // namespace

void quantize_file(const std::string &from, const std::string &to, TensorType type, const Options &given, Task *task) {
  const auto options = given.as<ModelOptions>();
  Gguf gguf = Gguf::open(from);
  const Config config = of_file(from, [&] { return read_config(gguf, options); });
  std::map<std::string, TensorType> types;  // of matrices
  std::map<std::pair<TensorType, int64_t>, int> others;
  for (const TensorSpec &spec : tensor_table(config)) {
    const TensorPart part = find_part(gguf, spec);
    if (!part || spec.role == Role::NORM || spec.role == Role::BIAS) continue;
    const GgufTensor &tensor = *part.tensor;
    const int64_t k = tensor.shape[0];
    const bool output =
        spec.field == Field::OUTPUT || (spec.field == Field::EMBEDDING && !gguf.find_tensor("output.weight"));
    const TensorType made = output ? type_for_output(type, k) : type_for_rows(type, k);
    if (types.emplace(tensor.name, made).second && made != type) ++others[{made, k}];
  }
  for (const auto &[what, count] : others)
    log(LogLevel::INFO, cat(count, " matrices with rows of ", what.second, " become ", tensor_layout(what.first)->name,
                            ", not ", tensor_layout(type)->name));
  gguf.set("general.file_type", static_cast<uint32_t>(file_type(type)));
  gguf.set("general.quantization_version", uint32_t{2});

  ThreadPool pool;
  const ThreadScope threads(pool, threads_of(options));
  const auto type_of = [&](const GgufTensor &tensor) {
    const auto found = types.find(tensor.name);
    return found == types.end() ? tensor.type : found->second;
  };
  gguf.save(
      to, type_of,
      [&](const GgufTensor &tensor, TensorType made, const Gguf::Put &put) {
    if (made == tensor.type) return put(tensor.data);
    constexpr int64_t kNumbers = 1 << 20;  // at a time
    const int64_t k = tensor.shape[0], most = std::max<int64_t>(1, kNumbers / k);
    const int64_t row_bytes = tensor_layout(made)->bytes(k), old_bytes = tensor_layout(tensor.type)->bytes(k);
    const TensorPart part{&tensor, 0, tensor.rows()};
    Buffer<std::byte> blocks(std::min(most, part.rows) * row_bytes);
    for (int64_t row = 0; row < part.rows; row += most) {
      const int64_t rows = std::min(most, part.rows - row);
      of_file(from, [&] {
        parallel_for(threads, rows, 1, [&](int64_t begin, int64_t end) {
          std::vector<float> values(static_cast<size_t>(k));
          for (int64_t r = begin; r < end; ++r) {
            unpack_row(part, row + r, k, values.data());
            quantize(made, values.data(), k, blocks.data() + r * row_bytes);
          }
        });
      });
      put({blocks.data(), static_cast<size_t>(rows * row_bytes)});
      gguf.release(tensor.data.subspan(static_cast<size_t>(row * old_bytes), static_cast<size_t>(rows * old_bytes)));
    }
      },
      task, "quantize");
}

}  // namespace infini
