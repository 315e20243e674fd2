#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/limits.h"
#include "base/log.h"
#include "base/number.h"
#include "base/schema.h"
#include "model/keys.h"

namespace infini {
namespace {

RopeConfig read_rope(const Keys &keys, const Config &config) {
  RopeConfig rope;
  rope.dimensions = keys.get_or("rope.dimension_count", config.key_size);
  if (rope.dimensions % 2 != 0 || rope.dimensions > config.key_size)
    fail(Status::FORMAT, "key '", keys.prefix, "rope.dimension_count' is ", rope.dimensions,
         ", but must be even and at most the head size ", config.key_size);
  rope.base = keys.real("rope.freq_base", 10000);
  const std::string type = keys.gguf.get_string(keys.prefix + "rope.scaling.type", "none");
  if (type == "linear" || type == "yarn") {
    rope.factor = keys.real("rope.scaling.factor", 1);
  } else if (type != "none" && type != "longrope") {
    fail(Status::UNSUPPORTED, "key '", keys.prefix, "rope.scaling.type' is '", type,
         "'; known are none, linear, yarn, longrope");
  } else if (type == "none") {
    rope.factor = keys.real("rope.scale_linear", 1);  // how old files write linear scaling
  }
  rope.yarn = type == "yarn";
  rope.original_context = keys.get_or("rope.scaling.original_context_length", config.context);
  rope.attention_factor = keys.real("rope.scaling.attn_factor", 1);
  rope.beta_fast = keys.real("rope.scaling.yarn_beta_fast", 32);
  rope.beta_slow = keys.real("rope.scaling.yarn_beta_slow", 1);
  return rope;
}

const MemoryKind *memory_kind(const std::string &name) {
  if (const MemoryKind *kind = find_memory_kind(name)) return kind;
  fail(Status::FORMAT, "key 'infini.memory.update' is '", name, "', but must be ",
       listed(memory_kind_choices().c_str()));
}

std::vector<float> read_gates(const Gguf &gguf, const Config &config, const std::string &asked) {
  const size_t count = static_cast<size_t>(config.layers) * static_cast<size_t>(config.heads);
  std::vector<float> gates(count, -std::numeric_limits<float>::infinity());
  const auto has_memory = [&](size_t i) { return config.plans[i / static_cast<size_t>(config.heads)].has_memory(); };
  for (size_t i = 0; i < count && asked == "open"; ++i)
    if (has_memory(i)) gates[i] = 0;
  if (asked != "file" || !gguf.find("infini.memory.gate")) return gates;
  const std::vector<double> values = gguf.get_doubles("infini.memory.gate");
  if (values.size() != count)
    fail(Status::FORMAT, "key 'infini.memory.gate' holds ", values.size(), " values, but the model has ", config.layers,
         " layers of ", config.heads, " heads");
  for (size_t i = 0; i < count; ++i) {
    const bool shut = values[i] == -std::numeric_limits<double>::infinity();
    if (!shut && !(std::abs(values[i]) <= 1e30))
      fail(Status::FORMAT, "key 'infini.memory.gate' holds ", values[i], " at ", i,
           "; a gate is a number or minus infinity");
    if (has_memory(i)) gates[i] = static_cast<float>(values[i]);
  }
  return gates;
}

// Numbers of at most this size, as many as there must be; none where the key is absent.
std::vector<float> read_learned(const Gguf &gguf, const char *key, int64_t count, double largest) {
  std::vector<float> numbers;
  if (!gguf.find(key)) return numbers;
  for (const double value : gguf.get_doubles(key)) {
    if (!(std::abs(value) <= largest)) fail(Status::FORMAT, "key '", key, "' holds ", value);
    numbers.push_back(static_cast<float>(value));
  }
  if (static_cast<int64_t>(numbers.size()) != count)
    fail(Status::FORMAT, "key '", key, "' holds ", numbers.size(), " numbers, but must hold ", count);
  return numbers;
}

KeepProbe read_probe(const Gguf &gguf, const Config &config) {
  KeepProbe probe;
  probe.weight = read_learned(gguf, "infini.keep.probe", config.width, 1e6);
  if (!probe.weight.empty())
    probe.layer =
        static_cast<int>(in_range("key 'infini.keep.layer'", gguf.get_int("infini.keep.layer"), 0, config.layers - 1));
  probe.least = static_cast<float>(gguf.get_double("infini.keep.least", probe.least));
  if (!(std::abs(probe.least) <= kMarked))
    fail(Status::FORMAT, "key 'infini.keep.least' is ", probe.least, ", but must be a number of at most ", kMarked);
  probe.bias = read_learned(gguf, "infini.keep.bias", int64_t{config.layers} * config.heads, 100);
  probe.focus = static_cast<float>(gguf.get_double("infini.keep.focus", 0));
  if (!(probe.focus >= 0 && probe.focus <= 100))
    fail(Status::FORMAT, "key 'infini.keep.focus' is ", probe.focus, ", but must be a number from 0 to 100");
  probe.standing =
      static_cast<int>(in_range("key 'infini.keep.standing'", gguf.get_int("infini.keep.standing", 0), 0, kLargestKey));
  return probe;
}

MemoryConfig read_memory(const Gguf &gguf, const Config &config, const Options &options) {
  MemoryConfig memory;
  const int64_t version = gguf.get_int("infini.version", 0);
  if (version < 0 || version > 1)
    fail(Status::VERSION, "key 'infini.version' is ", version, "; this library knows version 1");
  memory.trained = version == 1;
  const auto number = [&](const char *key, const char *option, int64_t unset, int64_t absent, int64_t least) {
    const int64_t asked = options.get_int(option);
    if (asked != unset) return in_range(cat("option '", option, "'"), asked, least, kLargestKey);
    return in_range(cat("key '", key, "'"), gguf.get_int(key, absent), least, kLargestKey);
  };
  const int64_t plain_segment = std::max<int64_t>(1, std::min<int64_t>(2048, (config.context - 4) / 2));
  memory.segment = number("infini.segment_length", "segment", 0, plain_segment, 1);
  memory.carry = number("infini.local.carry", "carry", -1, memory.trained ? 0 : memory.segment, 0);
  memory.sinks = number("infini.local.sinks", "sinks", -1, memory.trained ? 0 : 4, 0);
  memory.keep = number("infini.local.keep", "keep", -1, 0, 0);
  memory.probe = read_probe(gguf, config);
  const std::string &update = options.get_string("update");
  memory.kind = memory_kind(update == "file" ? gguf.get_string("infini.memory.update", "delta") : update);
  const std::string first = gguf.get_string("infini.memory.first_segment", "gated");
  if (first != "gated" && first != "ungated")
    fail(Status::FORMAT, "key 'infini.memory.first_segment' is '", first, "'; known are gated, ungated");
  memory.first_segment_gated = first == "gated";
  memory.epsilon = static_cast<float>(gguf.get_double("infini.memory.epsilon", 1e-6));
  if (!(memory.epsilon >= 0) || !std::isfinite(memory.epsilon))
    fail(Status::FORMAT, "key 'infini.memory.epsilon' is ", memory.epsilon, ", but must be finite and not negative");
  memory.gate = read_gates(gguf, config, options.get_string("memory"));

  const int64_t window = int64_t{memory.sinks} + memory.keep + memory.carry + memory.segment;
  const bool by_option = options.get_int("segment") != 0 || options.get_int("carry") != -1 ||
                         options.get_int("sinks") != -1 || options.get_int("keep") != -1;
  if (memory.keep > 0 && memory.carry < memory.segment)
    fail(by_option ? Status::INVALID_ARGUMENT : Status::FORMAT, "to keep sentences (keep ", memory.keep,
         ") the carry must be at least a segment, but carry is ", memory.carry, " and segment ", memory.segment);
  if (window > kMostWindow)
    fail(by_option ? Status::INVALID_ARGUMENT : Status::FORMAT, "the window (sinks + keep + carry + segment) is ",
         window, " tokens, but can be at most ", kMostWindow);
  if (window > config.context) {
    const std::string what = cat("the window of ", window, " tokens (sinks ", memory.sinks, " + keep ", memory.keep,
                                 " + carry ", memory.carry, " + segment ", memory.segment,
                                 ") is longer than the context of ", config.context, " that the model was trained for");
    if (by_option) fail(Status::INVALID_ARGUMENT, what);
    log(LogLevel::WARNING, what);
  }
  return memory;
}

// Files that are no model by themselves say what they are.
void refuse_other_files(const Gguf &gguf) {
  const std::string type = gguf.get_string("general.type", "model");
  const std::string architecture = gguf.get_string("general.architecture", "");
  if (type == "adapter" || gguf.find("adapter.type"))
    fail(Status::UNSUPPORTED, "the file is an adapter, which changes a model but is none; open its base model");
  if (type == "mmproj" || architecture == "clip")
    fail(Status::UNSUPPORTED, "the file is a projector of images or sounds, which belongs to a model but is none");
  if (const int64_t parts = gguf.get_int("split.count", 1); parts > 1)
    fail(Status::UNSUPPORTED, "the file is part ", gguf.get_int("split.no", 0) + 1, " of ", parts,
         " of a model; join the parts first, as `llama-gguf-split --merge` does");
}

}  // namespace

float Config::gate_weight(int layer, int head) const { return static_cast<float>(sigmoid(gate(layer, head))); }

bool Config::has_memory(int layer, int kv_head) const {
  for (int h = kv_head * group(); h < (kv_head + 1) * group(); ++h)
    if (gate_weight(layer, h) != 0) return true;
  return false;
}

Config read_config(const Gguf &gguf, const Options &options, bool with_tensors) {
  refuse_other_files(gguf);
  Config config;
  config.architecture = &find_architecture(gguf.get_string("general.architecture"));
  config.name = gguf.get_string("general.name", "");
  const Keys keys{gguf, std::string(config.architecture->name) + "."};
  if (keys.has("expert_count") && keys.number(keys.prefix + "expert_count") > 0)
    fail(Status::UNSUPPORTED, "the file is a mixture of experts (key '", keys.prefix,
         "expert_count'), which this version does not run");
  config.layers = in_range("key '" + keys.prefix + "block_count'", keys.get("block_count"), 1, kMostLayers);
  config.width = keys.get("embedding_length");
  config.hidden = keys.get("feed_forward_length");
  config.heads = keys.get("attention.head_count");
  config.kv_heads = keys.get_or("attention.head_count_kv", config.heads);
  if (config.kv_heads > config.heads || config.heads % config.kv_heads != 0)
    fail(Status::FORMAT, "head_count ", config.heads, " is not a multiple of head_count_kv ", config.kv_heads);
  config.key_size = keys.get_or("attention.key_length", config.width / config.heads);
  config.value_size = keys.get_or("attention.value_length", config.width / config.heads);
  in_range("the head size (attention.key_length)", config.key_size, 1, kMostHeadSize);
  in_range("the head size (attention.value_length)", config.value_size, 1, kMostHeadSize);
  config.context = keys.get("context_length");
  config.norm_epsilon = static_cast<float>(gguf.get_double(keys.prefix + "attention.layer_norm_rms_epsilon", 1e-5));
  if (!(config.norm_epsilon >= 0) || !std::isfinite(config.norm_epsilon))
    fail(Status::FORMAT, "key '", keys.prefix, "attention.layer_norm_rms_epsilon' is ", config.norm_epsilon,
         ", but must be finite and not negative");
  const GgufTensor *embedding = gguf.find_tensor("token_embd.weight");
  // Rows of the embedding behind the tokenizer's last token are padding.
  const int64_t tokens = embedding ? embedding->rows()
                         : gguf.find("tokenizer.ggml.tokens")
                             ? static_cast<int64_t>(gguf.get_strings("tokenizer.ggml.tokens").size())
                             : 0;
  config.vocabulary = keys.get_or("vocab_size", tokens);
  config.ropes = {read_rope(keys, config)};
  config.plans.resize(static_cast<size_t>(config.layers));
  config.architecture->plan(keys, config);
  // The number of gates follows from the keys: they must not promise more heads than the tensors have.
  if (with_tensors)
    for (const TensorSpec &spec : tensor_table(config))
      if (spec.field == Field::Q && spec.layer == config.layers - 1) find_part(gguf, spec);
  config.memory = read_memory(gguf, config, options);
  return config;
}

}  // namespace infini
