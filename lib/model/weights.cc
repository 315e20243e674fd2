#include "model/weights.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <optional>
#include <set>
#include <tuple>

#include "gemm/choose.h"
#include "model/packing.h"

namespace infini {
namespace {

bool any_blocks(const Weights &weights) {
  const auto has = [](const WeightMatrix &matrix) {
    return std::any_of(matrix.pieces.begin(), matrix.pieces.end(), [](const auto &piece) { return piece.in_blocks(); });
  };
  return has(weights.output) || std::any_of(weights.layers.begin(), weights.layers.end(), [&](const LayerWeights &l) {
           return has(l.qkv) || has(l.attention_output) || has(l.gate_up) || has(l.down);
         });
}

// Tensors of the file, remembering which were asked for.
class Tensors {
 public:
  explicit Tensors(const Gguf &gguf) : gguf_(gguf) {}

  TensorPart find(const TensorSpec &spec) {
    const TensorPart part = find_part(gguf_, spec);
    if (part) used_.insert(part.tensor->name);
    return part;
  }
  // Factors of the rotation, [pairs].
  TensorPart factors(const std::string &name, int64_t pairs) {
    return find({Field::EMBEDDING, Role::NORM, -1, name, 1, pairs, true, 0, ""});
  }
  void refuse_others(const char *architecture) const {
    for (const GgufTensor &tensor : gguf_.tensors())
      if (!used_.count(tensor.name))
        fail(Status::UNSUPPORTED, "tensor '", tensor.name, "' is not part of architecture '", architecture,
             "' as this version knows it");
  }

 private:
  const Gguf &gguf_;
  std::set<std::string> used_;
};

std::vector<float> unpack_vector(const TensorPart &part, int64_t size) {
  std::vector<float> values(static_cast<size_t>(size));
  unpack_row(part, 0, size, values.data());
  return values;
}

void check_finite(const Threads &threads, const Gguf &gguf, const GgufTensor &tensor) {
  const TensorPart part{&tensor, 0, tensor.rows()};
  parallel_for(threads, part.rows, 64, [&](int64_t begin, int64_t end) {
    std::vector<float> values(static_cast<size_t>(tensor.shape[0]));
    for (int64_t j = begin; j < end; ++j) unpack_row(part, j, tensor.shape[0], values.data());
  });
  gguf.release(tensor.data);
}

// Radians a position of each pair; YaRN (Peng et al., arXiv 2309.00071) blends scaled and plain frequencies.
Rope make_rope(Tensors &tensors, const Config &config, const RopeConfig &c) {
  Rope rope;
  rope.adjacent = config.architecture->rope_pairs_adjacent;
  rope.dimensions = c.dimensions;
  rope.magnitude = c.attention_factor * (c.yarn ? 1 + 0.1 * std::log(c.factor) : 1);
  const int64_t half = c.dimensions / 2;
  std::vector<float> divisor(static_cast<size_t>(half), 1.0f);
  if (c.factors) {
    const TensorPart far = tensors.factors("rope_factors_long.weight", half);
    const TensorPart near = tensors.factors("rope_factors_short.weight", half);
    const bool is_far = config.window() > c.original_context;
    if (const TensorPart always = tensors.factors("rope_freqs.weight", half)) divisor = unpack_vector(always, half);
    else if (const TensorPart chosen = is_far ? far : near) divisor = unpack_vector(chosen, half);
  }

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

AttentionRules make_rules(const Config &config, const LayerPlan &plan, const std::vector<Rope> &ropes,
                          NumberType compute) {
  const MemoryConfig &memory = config.memory;
  AttentionRules rules;
  rules.shape = {config.heads, config.kv_heads, config.key_size, config.value_size, memory.segment,
                 memory.carry, memory.sinks,    compute,         memory.keep};
  rules.shape.keep_least = memory.probe.least;
  if (!memory.probe.bias.empty()) {
    rules.shape.keep_focus = memory.probe.focus;
    rules.shape.keep_standing = memory.probe.standing;
  }
  if (plan.window) {
    rules.shape.carry = plan.window - 1;
    rules.shape.sinks = rules.shape.keep = 0;
    rules.shape.window = plan.window;
  }
  if (plan.rotation != kNoRotation) rules.rope = ropes[static_cast<size_t>(plan.rotation)];
  rules.memory = memory.kind;
  rules.first_gated = memory.first_segment_gated;
  rules.epsilon = memory.epsilon;
  rules.scale = plan.scale;
  rules.soft_cap = plan.soft_cap;
  return rules;
}

// Where a field's numbers go: a matrix, whose fields come one behind the other, or a vector.
WeightMatrix *matrix_of(Weights &weights, const TensorSpec &spec) {
  if (spec.field == Field::OUTPUT) return &weights.output;
  if (spec.layer < 0) return nullptr;
  LayerWeights &layer = weights.layers[static_cast<size_t>(spec.layer)];
  switch (spec.field) {
    case Field::Q:
    case Field::K:
    case Field::V: return &layer.qkv;
    case Field::ATTENTION_OUTPUT: return &layer.attention_output;
    case Field::GATE:
    case Field::UP: return &layer.gate_up;
    case Field::DOWN: return &layer.down;
    default: return nullptr;
  }
}
std::vector<float> &vector_of(Weights &weights, const TensorSpec &spec) {
  if (spec.layer < 0) return weights.output_norm;
  LayerWeights &layer = weights.layers[static_cast<size_t>(spec.layer)];
  switch (spec.field) {
    case Field::Q_BIAS:
    case Field::K_BIAS:
    case Field::V_BIAS: return layer.qkv_bias;
    case Field::Q_NORM: return layer.q_norm;
    case Field::K_NORM: return layer.k_norm;
    case Field::ATTENTION_OUTPUT_BIAS: return layer.attention_output_bias;
    case Field::ATTENTION_POST_NORM: return layer.attention_post_norm;
    case Field::FEED_FORWARD_NORM: return layer.feed_forward_norm;
    case Field::FEED_FORWARD_POST_NORM: return layer.feed_forward_post_norm;
    default: return layer.attention_norm;
  }
}

void step(Task *task, int64_t done) {
  if (!task) return;
  if (task->take_cancel()) fail(Status::CANCELLED, "opening the model was cancelled");
  task->advance_to(done);
}

}  // namespace

Weights::Weights(const Threads &threads, const Gguf &gguf, const Config &config, const Options &options, Task *task)
    : gemm(choose_library(options.get_string("gemm"), Cpu::here())) {
  compute = choose_compute(options.get_string("compute"), options.get_string("weights"), gemm.library(), Cpu::here());
  Tensors tensors(gguf);
  for (const RopeConfig &rope : config.ropes) ropes.push_back(make_rope(tensors, config, rope));
  attention = make_rules(config, LayerPlan{}, ropes, compute);
  std::vector<LayerPlan> plans;  // of each kind
  layers.resize(static_cast<size_t>(config.layers));
  for (int l = 0; l < config.layers; ++l) {
    LayerWeights &layer = layers[static_cast<size_t>(l)];
    const LayerPlan &plan = config.plans[static_cast<size_t>(l)];
    const auto alike = std::find_if(plans.begin(), plans.end(), [&](const LayerPlan &p) {
      return std::tie(p.window, p.rotation, p.scale, p.soft_cap) ==
             std::tie(plan.window, plan.rotation, plan.scale, plan.soft_cap);
    });
    layer.kind = static_cast<size_t>(alike - plans.begin());
    if (alike == plans.end()) plans.push_back(plan), kinds.push_back(make_rules(config, plan, ropes, compute));
    for (int h = 0; h < config.heads; ++h) layer.gate_weight.push_back(config.gate_weight(l, h));
    if (const auto &bias = config.memory.probe.bias; !bias.empty() && config.memory.keep > 0)
      layer.keep_bias.assign(bias.begin() + l * config.heads, bias.begin() + (l + 1) * config.heads);
  }
  std::vector<Packing> packings;
  tied = true;
  for (const TensorSpec &spec : tensor_table(config)) {
    const TensorPart part = tensors.find(spec);
    if (spec.field == Field::EMBEDDING) {
      embedding = part.tensor;
    } else if (WeightMatrix *const matrix = matrix_of(*this, spec)) {
      if (spec.field == Field::OUTPUT) tied = !part;
      const TensorPart rows = part ? part : TensorPart{embedding, 0, spec.rows};  // the output, tied to the embedding
      if (packings.empty() || packings.back().matrix != matrix) packings.push_back({matrix, matrix == &output, {}});
      packings.back().parts.push_back(rows);
    } else {
      // An optional bias that a file has for q alone, say, is zero for the others.
      std::vector<float> &vector = vector_of(*this, spec);
      const std::vector<float> values =
          part ? unpack_vector(part, spec.columns) : std::vector<float>(static_cast<size_t>(spec.columns));
      vector.insert(vector.end(), values.begin(), values.end());
    }
  }
  // Every matrix is laid out before the first one is filled: they then lie side by side, and the system's large pages
  // span them, which makes reading them a fifth faster.
  for (Packing &packing : packings) lay_out(packing, options, compute);
  products = choose_block_compute(options.get_string("compute"), any_blocks(*this), compute);
  for (LayerWeights &layer : layers)
    for (std::vector<float> *bias : {&layer.qkv_bias, &layer.attention_output_bias})
      if (std::all_of(bias->begin(), bias->end(), [](float x) { return x == 0; })) bias->clear();
  if (!tied) check_finite(threads, gguf, *embedding);  // else it is when it is packed
  tensors.refuse_others(config.architecture->name);

  if (task) task->begin("open", static_cast<int64_t>(packings.size()));
  for (size_t i = 0; i < packings.size(); ++i) {
    fill(threads, packings[i], gguf);
    step(task, static_cast<int64_t>(i + 1));
  }
}

void Weights::embed(int32_t token, float *x) const {
  // From the output where that is the same: the file's own numbers would take memory once more.
  if (tied && unpack_column(output, *embedding, token, x)) return;
  const int64_t n = embedding->shape[0];
  const TensorLayout *layout = tensor_layout(embedding->type);
  unpack(embedding->type, embedding->data.data() + token * layout->bytes(n), n, x);
}

int64_t Weights::bytes() const {
  int64_t total = output.bytes();
  int64_t floats = static_cast<int64_t>(output_norm.size());
  for (const LayerWeights &layer : layers) {
    for (const WeightMatrix *matrix : {&layer.qkv, &layer.attention_output, &layer.gate_up, &layer.down})
      total += matrix->bytes();
    for (const std::vector<float> *vector :
         {&layer.attention_norm, &layer.qkv_bias, &layer.q_norm, &layer.k_norm, &layer.attention_output_bias,
          &layer.attention_post_norm, &layer.feed_forward_norm, &layer.feed_forward_post_norm})
      floats += static_cast<int64_t>(vector->size());
  }
  return total + floats * static_cast<int64_t>(sizeof(float));
}

}  // namespace infini
