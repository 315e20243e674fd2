#include "model/plan.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/limits.h"
#include "format/gguf_types.h"
#include "model/config.h"
#include "model/keys.h"
#include "model/weights.h"

namespace infini {
namespace {

// --- architectures. Keys are named as llama.cpp's converter writes them.

void each_layer(Config &config, const auto &f) {
  for (size_t l = 0; l < config.plans.size(); ++l) f(config.plans[l], static_cast<int>(l));
}

void plan_llama(const Keys &keys, Config &config) {
  const float scale = keys.real_or_none("attention.scale", 0);
  each_layer(config, [&](LayerPlan &plan, int) {
    plan.qkv_bias = plan.output_bias = Presence::OPTIONAL;
    plan.scale = scale;
  });
}

void plan_qwen2(const Keys &, Config &config) {
  each_layer(config, [](LayerPlan &plan, int) {
    plan.qkv_bias = Presence::REQUIRED;
    plan.output_bias = Presence::OPTIONAL;
  });
}

void plan_qwen3(const Keys &, Config &config) {
  each_layer(config, [](LayerPlan &plan, int) { plan.head_norm = HeadNorm::HEAD; });
}

// Tensors of norms hold 1 + w already.
void plan_gemma(const Keys &, Config &config) {
  config.embedding_scale = std::sqrt(static_cast<float>(config.width));
  each_layer(config, [](LayerPlan &plan, int) { plan.activation = Activation::GELU; });
}

// The largest model of a family, known by its layers, scales scores as if its heads made up the width.
float gemma_scale(const Config &config, int largest_layers) {
  return config.layers == largest_layers ? 1 / std::sqrt(static_cast<float>(config.width / config.heads)) : 0;
}

// Every `period`-th layer sees all; the others have a window. Which ones, a file may say itself.
void plan_windows(const Keys &keys, Config &config, int window, int period) {
  in_range("key '" + keys.prefix + "attention.sliding_window'", window, 1, kMostWindow);
  const std::string name = keys.prefix + "attention.sliding_window_pattern";
  if (const GgufValue *pattern = keys.gguf.find(name)) {
    if (const auto *array = std::get_if<GgufArray>(pattern)) {
      std::vector<int64_t> windowed;
      if (array->type == gguf::kBool)
        for (const std::byte flag : array->numbers) windowed.push_back(flag != std::byte{0});
      else windowed = keys.gguf.get_ints(name);
      if (windowed.size() != config.plans.size())
        fail(Status::FORMAT, "key '", name, "' holds ", windowed.size(), " values, but the model has ", config.layers,
             " layers");
      each_layer(config, [&](LayerPlan &plan, int l) { plan.window = windowed[l] != 0 ? window : 0; });
      return;
    }
    period = keys.get("attention.sliding_window_pattern");
  }
  each_layer(config, [&](LayerPlan &plan, int l) { plan.window = (l + 1) % period != 0 ? window : 0; });
}

void plan_gemma2(const Keys &keys, Config &config) {
  plan_gemma(keys, config);
  plan_windows(keys, config, keys.get_or("attention.sliding_window", 4096), 2);
  const float soft_cap = keys.real_or_none("attn_logit_softcapping", 50);
  config.logit_soft_cap = keys.real_or_none("final_logit_softcapping", 30);
  each_layer(config, [&](LayerPlan &plan, int) {
    plan.norm_after = true;
    plan.soft_cap = soft_cap;
    plan.scale = gemma_scale(config, 46);
  });
}

void plan_gemma3(const Keys &keys, Config &config) {
  plan_gemma(keys, config);
  if (const int window = keys.get_or("attention.sliding_window", 0, 0)) plan_windows(keys, config, window, 6);
  config.logit_soft_cap = keys.real_or_none("final_logit_softcapping", 0);
  RopeConfig near;
  near.dimensions = config.ropes[0].dimensions;
  near.base = keys.real("rope.freq_base_swa", 10000);
  near.original_context = config.context;
  near.factors = false;
  config.ropes.push_back(near);
  each_layer(config, [&](LayerPlan &plan, int) {
    plan.norm_after = true;
    plan.head_norm = HeadNorm::HEAD;
    plan.scale = gemma_scale(config, 62);
    if (plan.window) plan.rotation = 1;
  });
}

// One published model of this family says a window that is narrower than its context; other programs ignore it too.
void plan_phi3(const Keys &, Config &) {}

void plan_olmo2(const Keys &keys, Config &config) {
  each_layer(config, [](LayerPlan &plan, int) {
    plan.norm_before = false;
    plan.norm_after = true;
    plan.head_norm = HeadNorm::ROW;
  });
  const int window = keys.get_or("attention.sliding_window", 0, 0);
  if (window == 0) return;
  // OLMo 3: layers with a window rotate as they were first trained, before the context was made longer.
  plan_windows(keys, config, window, 4);
  RopeConfig near;
  near.dimensions = config.ropes[0].dimensions;
  near.base = config.ropes[0].base;
  near.original_context = config.context;
  near.factors = false;
  config.ropes.push_back(near);
  each_layer(config, [](LayerPlan &plan, int) {
    if (plan.window) plan.rotation = 1;
  });
}

void plan_smollm3(const Keys &, Config &config) {
  each_layer(config, [](LayerPlan &plan, int l) {
    plan.qkv_bias = plan.output_bias = Presence::OPTIONAL;
    if ((l + 1) % 4 == 0) plan.rotation = kNoRotation;
  });
}

void plan_granite(const Keys &keys, Config &config) {
  plan_llama(keys, config);
  config.embedding_scale = static_cast<float>(keys.real("embedding_scale", 1));
  config.residual_scale = static_cast<float>(keys.real("residual_scale", 1));
  config.logit_scale = static_cast<float>(1 / keys.real("logit_scale", 1));
  if (!keys.gguf.get_bool(keys.prefix + "rope.scaling.finetuned", true))
    each_layer(config, [](LayerPlan &plan, int) { plan.rotation = kNoRotation; });
}

constexpr Architecture kArchitectures[] = {
    {.name = "llama", .rope_pairs_adjacent = true, .plan = plan_llama},
    {.name = "qwen2", .rope_pairs_adjacent = false, .plan = plan_qwen2},
    {.name = "qwen3", .rope_pairs_adjacent = false, .plan = plan_qwen3},
    {.name = "gemma", .rope_pairs_adjacent = false, .plan = plan_gemma, .tied = true},
    {.name = "gemma2", .rope_pairs_adjacent = false, .plan = plan_gemma2, .tied = true},
    {.name = "gemma3", .rope_pairs_adjacent = false, .plan = plan_gemma3, .tied = true},
    {.name = "phi3", .rope_pairs_adjacent = false, .plan = plan_phi3, .fused = true},
    {.name = "olmo2", .rope_pairs_adjacent = false, .plan = plan_olmo2},
    {.name = "smollm3", .rope_pairs_adjacent = true, .plan = plan_smollm3},
    {.name = "granite", .rope_pairs_adjacent = true, .plan = plan_granite, .scale = "logit_scale"},
};

// --- tensors

bool is_vector(const TensorSpec &spec) { return spec.role == Role::NORM || spec.role == Role::BIAS; }

bool has_shape(const GgufTensor &tensor, const std::vector<int64_t> &shape) {
  std::vector<int64_t> actual = tensor.shape;
  while (actual.size() > shape.size() && actual.back() == 1) actual.pop_back();
  return actual == shape;
}

void add_layer(const Config &c, int l, std::vector<TensorSpec> &table) {
  const int64_t q = c.q_columns(), k = c.k_columns(), v = c.v_columns(), qkv = c.qkv_columns(),
                attended = c.attended_columns();
  // Deviations keep the residual stream of a deep model near one: 1 / sqrt(inputs), less by the depth for what adds to
  // it.
  const auto fan_in = [](int64_t inputs) { return 1 / std::sqrt(static_cast<double>(inputs)); };
  const double shallow = 1 / std::sqrt(2.0 * c.layers);
  const LayerPlan &plan = c.plans[l];
  const auto name = [l](const char *tensor) { return cat("blk.", l, ".", tensor); };
  using To = LayerWeights;
  const auto vector = [&](Field field, Role role, std::vector<float> To::*to, const char *tensor, int64_t size,
                          Presence presence, const char *fused = "", int64_t fused_size = 0, int64_t first = 0) {
    if (presence != Presence::NONE)
      table.push_back({field, role, l, name(tensor), 1, size, presence == Presence::OPTIONAL, 0,
                       *fused ? name(fused) : "", fused_size, first, nullptr, to});
  };
  const auto norm = [&](Field field, std::vector<float> To::*to, const char *tensor, int64_t size, bool there) {
    vector(field, Role::NORM, to, tensor, size, there ? Presence::REQUIRED : Presence::NONE);
  };
  const auto matrix = [&](Field field, Role role, WeightMatrix To::*to, const char *projection, const char *tensor,
                          int64_t rows, int64_t columns, double deviation, const char *fused = "",
                          int64_t fused_rows = 0, int64_t first = 0) {
    table.push_back({field, role, l, name(tensor), rows, columns, false, deviation, *fused ? name(fused) : "",
                     fused_rows, first, to, nullptr, projection});
  };
  const auto qkv_matrix = [&](Field field, const char *projection, const char *tensor, int64_t rows, int64_t first) {
    matrix(field, Role::ATTENTION, &To::qkv, projection, tensor, rows, c.width, fan_in(c.width), "attn_qkv.weight", qkv,
           first);
  };
  const auto qkv_bias = [&](Field field, const char *tensor, int64_t size, int64_t first) {
    vector(field, Role::BIAS, &To::qkv_bias, tensor, size, plan.qkv_bias, "attn_qkv.bias", qkv, first);
  };
  const auto gate_up = [&](Field field, const char *projection, const char *tensor, int64_t first) {
    matrix(field, Role::FEED_FORWARD, &To::gate_up, projection, tensor, c.hidden, c.width, fan_in(c.width),
           "ffn_up.weight", 2 * int64_t{c.hidden}, first);
  };
  norm(Field::ATTENTION_NORM, &To::attention_norm, "attn_norm.weight", c.width, plan.norm_before);
  qkv_matrix(Field::Q, "q", "attn_q.weight", q, 0);
  qkv_matrix(Field::K, "k", "attn_k.weight", k, q);
  qkv_matrix(Field::V, "v", "attn_v.weight", v, q + k);
  qkv_bias(Field::Q_BIAS, "attn_q.bias", q, 0);
  qkv_bias(Field::K_BIAS, "attn_k.bias", k, q);
  qkv_bias(Field::V_BIAS, "attn_v.bias", v, q + k);
  const bool heads = plan.head_norm != HeadNorm::NONE, row = plan.head_norm == HeadNorm::ROW;
  norm(Field::Q_NORM, &To::q_norm, "attn_q_norm.weight", row ? q : c.key_size, heads);
  norm(Field::K_NORM, &To::k_norm, "attn_k_norm.weight", row ? k : c.key_size, heads);
  matrix(Field::ATTENTION_OUTPUT, Role::ATTENTION, &To::attention_output, "o", "attn_output.weight", c.width, attended,
         fan_in(attended) * shallow);
  vector(Field::ATTENTION_OUTPUT_BIAS, Role::BIAS, &To::attention_output_bias, "attn_output.bias", c.width,
         plan.output_bias);
  norm(Field::ATTENTION_POST_NORM, &To::attention_post_norm, "post_attention_norm.weight", c.width, plan.norm_after);
  norm(Field::FEED_FORWARD_NORM, &To::feed_forward_norm, "ffn_norm.weight", c.width, plan.norm_before);
  gate_up(Field::FFN_GATE, "gate", "ffn_gate.weight", 0);
  gate_up(Field::UP, "up", "ffn_up.weight", c.hidden);
  matrix(Field::DOWN, Role::FEED_FORWARD, &To::down, "down", "ffn_down.weight", c.width, c.hidden,
         fan_in(c.hidden) * shallow);
  norm(Field::FEED_FORWARD_POST_NORM, &To::feed_forward_post_norm, "post_ffw_norm.weight", c.width, plan.norm_after);
}

}  // namespace

const Architecture &find_architecture(const std::string &name) {
  for (const Architecture &architecture : kArchitectures)
    if (name == architecture.name) return architecture;
  std::string known = architecture_choices();
  for (size_t at = 0; (at = known.find('|', at)) != std::string::npos;) known.replace(at, 1, ", ");
  fail(Status::UNSUPPORTED, "architecture '", name, "' is not known; known are ", known);
}

const std::string &architecture_choices() {
  static const std::string choices = [] {
    std::string names;
    for (const Architecture &architecture : kArchitectures) names += cat(names.empty() ? "" : "|", architecture.name);
    return names;
  }();
  return choices;
}

std::vector<TensorSpec> tensor_table(const Config &c) {
  std::vector<TensorSpec> table;
  table.push_back(
      {Field::EMBEDDING, Role::EMBEDDING, -1, "token_embd.weight", c.vocabulary, c.width, false, kTokenDeviation, ""});
  for (int l = 0; l < c.layers; ++l) add_layer(c, l, table);
  table.push_back({Field::OUTPUT_NORM, Role::NORM, -1, "output_norm.weight", 1, c.width, false, 0, ""});
  table.push_back({Field::OUTPUT, Role::OUTPUT, -1, "output.weight", c.vocabulary, c.width, true, kTokenDeviation, ""});
  return table;
}

const std::string &projection_choices() {
  static const std::string choices = [] {
    Config config{};
    config.layers = 1, config.plans.resize(1);
    std::string names;
    for (const TensorSpec &spec : tensor_table(config))
      if (*spec.projection) names += cat(names.empty() ? "" : "|", spec.projection);
    return names;
  }();
  return choices;
}

std::string shape_text(const std::vector<int64_t> &shape) {
  std::string out = "[";
  for (const int64_t extent : shape) out += cat(out.size() > 1 ? ", " : "", extent);
  return out + "]";
}

TensorPart find_part(const Gguf &gguf, const TensorSpec &spec) {
  const auto shape_of = [&](int64_t rows) {
    return is_vector(spec) ? std::vector<int64_t>{spec.role == Role::NORM ? spec.columns : rows}
                           : std::vector<int64_t>{spec.columns, rows};
  };
  const std::vector<int64_t> own = shape_of(is_vector(spec) ? spec.columns : spec.rows);
  const GgufTensor *tensor = gguf.find_tensor(spec.name);
  if (tensor && has_shape(*tensor, own)) return {tensor, 0, spec.rows};
  const GgufTensor *fused = spec.fused.empty() ? nullptr : gguf.find_tensor(spec.fused);
  if (fused && has_shape(*fused, shape_of(spec.fused_rows))) return {fused, spec.fused_first, spec.rows};
  const GgufTensor *const wrong = tensor ? tensor : fused;
  // An `up` of its own shape is not fused: then the gate is missing.
  if (wrong && !has_shape(*wrong, own))
    fail(Status::FORMAT, "tensor '", wrong->name, "' has shape ", shape_text(wrong->shape),
         ", but the model's keys ask for ", shape_text(wrong == tensor ? own : shape_of(spec.fused_rows)));
  if (!spec.optional) fail(Status::FORMAT, "tensor '", spec.name, "' is missing");
  return {};
}

std::array<TensorSpec, 3> rope_factors(const RopeConfig &rope) {
  const auto factors = [&](const char *name) {
    return TensorSpec{Field::EMBEDDING, Role::NORM, -1, name, 1, rope.dimensions / 2, true, 0, ""};
  };
  return {factors("rope_freqs.weight"), factors("rope_factors_short.weight"), factors("rope_factors_long.weight")};
}

void check_tensors(const Gguf &gguf, const Config &config) {
  std::set<std::string> known;
  const auto find = [&](const TensorSpec &spec) {
    if (const TensorPart part = find_part(gguf, spec)) known.insert(part.tensor->name);
  };
  for (const TensorSpec &spec : tensor_table(config)) find(spec);
  for (const RopeConfig &rope : config.ropes)
    if (rope.factors)
      for (const TensorSpec &spec : rope_factors(rope)) find(spec);
  for (const GgufTensor &tensor : gguf.tensors())
    if (!known.count(tensor.name))
      fail(Status::UNSUPPORTED, "tensor '", tensor.name, "' is not part of architecture '", config.architecture->name,
           "' as this version knows it");
}

void unpack_row(const TensorPart &part, int64_t row, int64_t columns, float *values) {
  const GgufTensor &tensor = *part.tensor;
  const int64_t width = tensor.shape[0];
  const TensorLayout *layout = tensor_layout(tensor.type);
  // A part of a vector begins within its only row.
  const bool within = columns != width;
  const int64_t from = within ? 0 : part.first + row;
  std::vector<float> whole(static_cast<size_t>(within ? width : 0));
  float *const to = within ? whole.data() : values;
  unpack(tensor.type, tensor.data.data() + from * layout->bytes(width), width, to);
  // Adding zeros catches every infinity and NaN in one pass that vectorises.
  float sum = 0;
  for (int64_t i = 0; i < width; ++i) sum += to[i] * 0.0f;
  if (sum != 0) {
    const float *bad = std::find_if(to, to + width, [](float x) { return !std::isfinite(x); });
    fail(Status::FORMAT, "tensor '", tensor.name, "' holds ", *bad, " at row ", from, ", column ", bad - to);
  }
  if (within) std::copy_n(whole.data() + part.first, columns, values);
}

std::vector<float> unpack_vector(const TensorPart &part, int64_t size) {
  std::vector<float> values(static_cast<size_t>(size));
  unpack_row(part, 0, size, values.data());
  return values;
}

}  // namespace infini
