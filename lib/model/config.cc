#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/limits.h"
#include "base/log.h"
#include "base/number.h"
#include "base/schema.h"
#include "model/keys.h"
#include "model/memory_config.h"

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

Config read_config(const Gguf &gguf, const ModelOptions &options, bool with_tensors) {
  if (with_tensors && gguf.tensors().empty()) fail(Status::STATE, kTokenizerAlone);
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
