#include "model/weights.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

#include "base/log.h"
#include "base/parallel.h"

namespace infini {
namespace {

GemmLibrary choose_library(const Options &options) {
  const std::string &asked = options.get_string("gemm");
  if (asked == "openblas") return GemmLibrary::OPENBLAS;
  if (asked == "native") return GemmLibrary::NATIVE;
#ifdef INFINI_OPENMP
  // Below AVX-512 oneDNN has no kernel for packed weights; ours is as fast as its plain product there.
  if (asked == "onednn" || has_avx512()) return GemmLibrary::ONEDNN;
#else
  if (asked == "onednn") return GemmLibrary::ONEDNN;
#endif
  return GemmLibrary::NATIVE;
}

NumberType choose_compute(const Options &options, GemmLibrary library) {
  const std::string &asked = options.get_string("compute");
  if (asked == "f32") return NumberType::F32;
  const char *reason = nullptr;
  if (library == GemmLibrary::OPENBLAS) reason = "OpenBLAS multiplies f32 only";
  else if (library != GemmLibrary::NATIVE && !has_avx512_bf16())
    reason = "the processor has no bf16 products (AVX512_BF16)";
  else if (asked == "auto" && !has_avx512_bf16()) return NumberType::F32;
  if (!reason) return NumberType::BF16;
  if (asked == "bf16") log(LogLevel::WARNING, cat("compute falls back from bf16 to f32: ", reason));
  return NumberType::F32;
}

// Tensors by name, each with the shape it must have; remembers which were asked for.
class Tensors {
 public:
  explicit Tensors(const Gguf &gguf) : gguf_(gguf) {}

  const GgufTensor *find(const std::string &name, const std::vector<int64_t> &shape) {
    const GgufTensor *tensor = gguf_.find_tensor(name);
    if (!tensor) return nullptr;
    used_.insert(name);
    std::vector<int64_t> actual = tensor->shape;
    while (actual.size() > shape.size() && actual.back() == 1) actual.pop_back();
    if (actual != shape)
      fail(Status::FORMAT, "tensor '", name, "' has shape ", text(tensor->shape), ", but the model's keys ask for ",
           text(shape));
    return tensor;
  }
  const GgufTensor &get(const std::string &name, const std::vector<int64_t> &shape) {
    const GgufTensor *tensor = find(name, shape);
    if (!tensor) fail(Status::FORMAT, "tensor '", name, "' is missing");
    return *tensor;
  }
  void refuse_others(const char *architecture) const {
    for (const GgufTensor &tensor : gguf_.tensors())
      if (!used_.count(tensor.name))
        fail(Status::UNSUPPORTED, "tensor '", tensor.name, "' is not part of architecture '", architecture,
             "' as this version knows it");
  }

 private:
  static std::string text(const std::vector<int64_t> &shape) {
    std::string out = "[";
    for (const int64_t extent : shape) out += cat(out.size() > 1 ? ", " : "", extent);
    return out + "]";
  }
  const Gguf &gguf_;
  std::set<std::string> used_;
};

// Row `row` of a tensor as finite floats.
void unpack_row(const GgufTensor &tensor, int64_t row, float *values) {
  const int64_t n = tensor.shape[0];
  const TensorLayout *layout = tensor_layout(tensor.type);
  unpack(tensor.type, tensor.data.data() + row * (n / layout->block_elements * layout->block_bytes), n, values);
  // Adding zeros catches every infinity and NaN in one pass that vectorises.
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += values[i] * 0.0f;
  if (sum != 0) {
    const float *bad = std::find_if(values, values + n, [](float x) { return !std::isfinite(x); });
    fail(Status::FORMAT, "tensor '", tensor.name, "' holds ", *bad, " at row ", row, ", column ", bad - values);
  }
}

std::vector<float> unpack_vector(const GgufTensor &tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.shape[0]));
  unpack_row(tensor, 0, values.data());
  return values;
}

// A matrix and the tensors whose rows, one below the other, are its columns.
struct Packing {
  PackedMatrix *matrix;
  std::vector<const GgufTensor *> tensors;
};

void pack(const Packing &packing) {
  PackedMatrix &matrix = *packing.matrix;
  parallel_for(round_up(matrix.n(), kPanel) / kPanel, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> values(static_cast<size_t>(matrix.k()));
    int64_t first = 0;
    for (const GgufTensor *tensor : packing.tensors) {
      for (int64_t j = std::max(begin * kPanel, first); j < std::min(end * kPanel, first + tensor->rows()); ++j) {
        unpack_row(*tensor, j - first, values.data());
        matrix.set_column(j, values.data());
      }
      first += tensor->rows();
    }
  });
}

void check_finite(const GgufTensor &tensor) {
  parallel_for(tensor.rows(), 64, [&](int64_t begin, int64_t end) {
    std::vector<float> values(static_cast<size_t>(tensor.shape[0]));
    for (int64_t j = begin; j < end; ++j) unpack_row(tensor, j, values.data());
  });
}

// Radians a position of each pair; YaRN (Peng et al., arXiv 2309.00071) blends scaled and plain frequencies.
Rope make_rope(Tensors &tensors, const Config &config) {
  const RopeConfig &c = config.rope;
  Rope rope;
  rope.adjacent = config.architecture->rope_pairs_adjacent;
  rope.dimensions = c.dimensions;
  rope.magnitude = c.attention_factor * (c.yarn ? 1 + 0.1 * std::log(c.factor) : 1);
  const int64_t half = c.dimensions / 2;
  std::vector<float> divisor(static_cast<size_t>(half), 1.0f);
  const GgufTensor *long_factors = tensors.find("rope_factors_long.weight", {half});
  const GgufTensor *short_factors = tensors.find("rope_factors_short.weight", {half});
  const bool is_long = config.window() > c.original_context;
  if (const GgufTensor *factors = tensors.find("rope_freqs.weight", {half})) divisor = unpack_vector(*factors);
  else if (const GgufTensor *chosen = is_long ? long_factors : short_factors) divisor = unpack_vector(*chosen);

  // The pair whose wave turns `turns` times within the original context.
  const auto pair_of = [&](double turns) {
    return c.dimensions * std::log(c.original_context / (turns * 2 * std::numbers::pi)) / (2 * std::log(c.base));
  };
  const double low = c.yarn ? std::max(0.0, std::floor(pair_of(c.beta_fast))) : 0;
  const double high = c.yarn ? std::min(c.dimensions - 1.0, std::ceil(pair_of(c.beta_slow))) : 0;
  for (int64_t i = 0; i < half; ++i) {
    const float by = divisor[static_cast<size_t>(i)];
    if (!(by > 0)) fail(Status::FORMAT, "rotation factor ", i, " is ", by, ", but must be positive");
    const double plain = std::pow(c.base, -2.0 * static_cast<double>(i) / c.dimensions) / by;
    const double ramp = c.yarn ? std::clamp((static_cast<double>(i) - low) / std::max(0.001, high - low), 0.0, 1.0) : 1;
    rope.frequency.push_back(plain / c.factor * ramp + plain * (1 - ramp));
    if (!std::isfinite(rope.frequency.back()))
      fail(Status::FORMAT, "the rotation of pair ", i, " is ", rope.frequency.back(), " radians a token");
  }
  if (!std::isfinite(rope.magnitude)) fail(Status::FORMAT, "the rotation scales by ", rope.magnitude);
  return rope;
}

AttentionRules make_rules(Tensors &tensors, const Config &config, NumberType compute) {
  const MemoryConfig &memory = config.memory;
  AttentionRules rules;
  rules.shape = {config.heads, config.kv_heads, config.key_size, config.value_size, memory.segment,
                 memory.carry, memory.sinks,    compute,         memory.keep};
  rules.rope = make_rope(tensors, config);
  rules.delta = memory.update == UpdateRule::DELTA;
  rules.first_gated = memory.first_segment_gated;
  rules.epsilon = memory.epsilon;
  return rules;
}

void step(Task *task, int64_t done) {
  if (!task) return;
  if (task->take_cancel()) fail(Status::CANCELLED, "opening the model was cancelled");
  task->advance_to(done);
}

}  // namespace

Weights::Weights(const Gguf &gguf, const Config &config, const Options &options, Task *task)
    : compute(choose_compute(options, choose_library(options))), gemm(choose_library(options)) {
  Tensors tensors(gguf);
  attention = make_rules(tensors, config, compute);
  const int64_t width = config.width, vocabulary = config.vocabulary, hidden = config.hidden;
  const int64_t q = int64_t{config.heads} * config.key_size, k = int64_t{config.kv_heads} * config.key_size;
  const int64_t v = int64_t{config.kv_heads} * config.value_size, a = int64_t{config.heads} * config.value_size;
  // Every matrix is laid out before the first one is filled: they then lie side by side, and the system's large pages
  // span them, which makes reading them a fifth faster.
  std::vector<Packing> packings;
  const auto lay_out = [&](PackedMatrix &matrix, std::vector<const GgufTensor *> sources) {
    int64_t n = 0;
    for (const GgufTensor *tensor : sources) n += tensor->rows();
    matrix = PackedMatrix(compute, sources[0]->shape[0], n);
    packings.push_back({&matrix, std::move(sources)});
  };
  embedding = &tensors.get("token_embd.weight", {width, vocabulary});
  layers.resize(static_cast<size_t>(config.layers));
  for (int l = 0; l < config.layers; ++l) {
    const auto tensor = [&](const char *name, const std::vector<int64_t> &shape) -> const GgufTensor & {
      return tensors.get(cat("blk.", l, ".", name, ".weight"), shape);
    };
    LayerWeights &layer = layers[static_cast<size_t>(l)];
    layer.attention_norm = unpack_vector(tensor("attn_norm", {width}));
    lay_out(layer.qkv, {&tensor("attn_q", {width, q}), &tensor("attn_k", {width, k}), &tensor("attn_v", {width, v})});
    lay_out(layer.attention_output, {&tensor("attn_output", {a, width})});
    layer.feed_forward_norm = unpack_vector(tensor("ffn_norm", {width}));
    lay_out(layer.gate_up, {&tensor("ffn_gate", {width, hidden}), &tensor("ffn_up", {width, hidden})});
    lay_out(layer.down, {&tensor("ffn_down", {hidden, width})});
    for (int h = 0; h < config.heads; ++h) layer.gate_weight.push_back(config.gate_weight(l, h));
  }
  output_norm = unpack_vector(tensors.get("output_norm.weight", {width}));
  const GgufTensor *head = tensors.find("output.weight", {width, vocabulary});
  lay_out(output, {head ? head : embedding});
  if (head) check_finite(*embedding);  // else it is when it is packed
  tensors.refuse_others(config.architecture->name);

  if (task) task->begin("open", static_cast<int64_t>(packings.size()));
  for (size_t i = 0; i < packings.size(); ++i) {
    pack(packings[i]);
    step(task, static_cast<int64_t>(i + 1));
  }
}

void Weights::embed(int32_t token, float *x) const {
  const int64_t n = embedding->shape[0];
  const TensorLayout *layout = tensor_layout(embedding->type);
  unpack(embedding->type, embedding->data.data() + token * (n / layout->block_elements * layout->block_bytes), n, x);
}

int64_t Weights::bytes() const {
  int64_t total = output.bytes() + static_cast<int64_t>(output_norm.size() * sizeof(float));
  for (const LayerWeights &layer : layers)
    total += layer.qkv.bytes() + layer.attention_output.bytes() + layer.gate_up.bytes() + layer.down.bytes() +
             static_cast<int64_t>((layer.attention_norm.size() + layer.feed_forward_norm.size()) * sizeof(float));
  return total;
}

}  // namespace infini
