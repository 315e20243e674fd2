#include "model/model.h"

#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/hash.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/random.h"
#include "base/schema.h"
#include "model/memory_config.h"

namespace infini {
namespace {

// Adds one random F32 tensor, normal with the given deviation; deviation 0: all ones.
void add_random(Gguf &gguf, const std::string &name, std::vector<int64_t> shape, double deviation, Random &random) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  std::vector<std::byte> bytes(static_cast<size_t>(count) * sizeof(float));
  for (int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<float>(deviation == 0 ? 1.0 : deviation * random.normal());
    std::memcpy(bytes.data() + i * static_cast<int64_t>(sizeof value), &value, sizeof value);
  }
  gguf.add_tensor(name, TensorType::F32, std::move(shape), std::move(bytes));
}

void set_keys(Gguf &gguf, const CreateConfig &c, int64_t head_size) {
  const std::string prefix = c.architecture + ".";
  const auto number = [&](const std::string &key, int64_t value) { gguf.set(key, static_cast<uint32_t>(value)); };
  gguf.set("general.architecture", c.architecture);
  gguf.set("general.name", c.name);
  number(prefix + "block_count", c.layers);
  number(prefix + "embedding_length", c.width);
  number(prefix + "feed_forward_length", c.hidden);
  number(prefix + "attention.head_count", c.heads);
  number(prefix + "attention.head_count_kv", c.kv_heads);
  number(prefix + "attention.key_length", head_size);
  number(prefix + "attention.value_length", head_size);
  number(prefix + "rope.dimension_count", head_size);
  number(prefix + "vocab_size", c.vocabulary);
  number(prefix + "context_length", c.context);
  if (c.window > 0) number(prefix + "attention.sliding_window", c.window);
  if (const char *const scale = find_architecture(c.architecture).scale) gguf.set(prefix + scale, 1.0f);
  gguf.set(prefix + "rope.freq_base", static_cast<float>(c.rope_base));
  gguf.set(prefix + "attention.layer_norm_rms_epsilon", static_cast<float>(c.norm_epsilon));
  MemoryConfig memory;
  memory.segment = static_cast<int>(c.segment);
  memory.kind = find_memory_kind(c.update);
  memory.first_segment_gated = c.first_segment == first_segment_name(true);
  memory.epsilon = static_cast<float>(c.epsilon);
  memory.carry = static_cast<int>(c.carry);
  memory.sinks = static_cast<int>(c.sinks);
  memory.gate.assign(static_cast<size_t>(c.layers * c.heads), static_cast<float>(c.gate));
  write_memory(memory, gguf);
}

// `impossible`: the status for keys that no model can have.
Config config_of(const Gguf &gguf, const ModelOptions &options, Status impossible, bool with_tensors) {
  try {
    return read_config(gguf, options, with_tensors);
  } catch (const Error &error) {
    throw Error(error.status() == Status::FORMAT ? impossible : error.status(), error.what());
  }
}

// Random numbers for every tensor that a model of these keys has.
void add_tensors(Gguf &gguf, const CreateConfig &c, const ModelOptions &options, Task *task) {
  Random random(static_cast<uint64_t>(c.seed));
  const std::vector<TensorSpec> table = tensor_table(config_of(gguf, options, Status::INVALID_ARGUMENT, false));
  const Architecture &architecture = find_architecture(c.architecture);
  const bool tied = c.tied || architecture.tied;
  Watch watch(task, "create", static_cast<int64_t>(table.size()), "creating the model was cancelled");
  for (const TensorSpec &spec : table) {
    watch.advance(1);
    if (spec.optional && !(spec.field == Field::OUTPUT && !tied)) continue;
    const double deviation = spec.field == Field::EMBEDDING ? c.embedding_deviation : spec.deviation;
    const bool vector = spec.role == Role::NORM || spec.role == Role::BIAS;
    if (architecture.fused && !vector && !spec.fused.empty()) {  // with the rows of all, in place of the first
      if (spec.fused_first == 0) add_random(gguf, spec.fused, {spec.columns, spec.fused_rows}, deviation, random);
    } else {
      add_random(gguf, spec.name, vector ? std::vector{spec.columns} : std::vector{spec.columns, spec.rows}, deviation,
                 random);
    }
  }
}

void check_create(const CreateConfig &c) {
  parse_settings<CreateConfig>(settings_json(c).text(), "configuration");  // ranges
  if (c.kv_heads > c.heads)
    fail(Status::INVALID_ARGUMENT, "configuration.kv_heads is ", c.kv_heads, ", but must be at most heads, ", c.heads);
  const int head_size = c.head_size ? c.head_size : c.width / c.heads;
  if (head_size < 2 || head_size % 2 != 0 || head_size > kMostHeadSize)
    fail(Status::INVALID_ARGUMENT, "configuration: the head size is ", head_size,
         ", but must be even and between 2 and ", kMostHeadSize);
  // Each weight is a float in memory; an absurd product must not reach the allocator.
  const double weights =
      4.0 * c.width * c.layers * (double{4} * c.heads * head_size + 3.0 * c.hidden) + 8.0 * c.width * c.vocabulary;
  if (weights > 0x1p40)
    fail(Status::INVALID_ARGUMENT, "configuration: the model would take ", weights / 0x1p30, " GiB");
}

void hash_value(Hash &hash, const GgufValue &value) {
  hash.add_number<uint64_t>(value.index());
  std::visit(
      [&](const auto &v) {
    using T = std::decay_t<decltype(v)>;
    if constexpr (std::is_same_v<T, std::string>) {
      hash.add(v);
    } else if constexpr (std::is_same_v<T, GgufArray>) {
      hash.add_number(v.type);
      hash.add_number(v.count);
      hash.add(v.numbers.data(), v.numbers.size());
      for (const std::string &text : v.strings) hash.add(text);
    } else {
      hash.add_number(v);
    }
      },
      value);
}

// Over the file, and not the table of tensors: snapshots of released versions hold this number.
void hash_file(Hash &hash, const Gguf &gguf) {
  for (const auto &[key, value] : gguf.entries()) {
    hash.add(key);
    hash_value(hash, value);
  }
  for (const GgufTensor &tensor : gguf.tensors()) {
    hash.add(tensor.name);
    hash.add_number(static_cast<uint32_t>(tensor.type));
    for (const int64_t extent : tensor.shape) hash.add_number(extent);
    hash.add(tensor.data.data(), tensor.data.size());
    gguf.release(tensor.data);
  }
}

// What both files say of the memory: where they differ, the adapter, which was trained with it.
MemoryConfig adapted_memory(const Gguf &base, const Gguf &adapter, const Config &config, const ModelOptions &options) {
  Gguf keys;
  for (const Gguf *const file : {&base, &adapter})
    for (const auto &[key, value] : file->entries())
      if (key.starts_with("infini.")) keys.set(key, value);
  return read_memory(keys, config, options);
}

}  // namespace

int threads_of(const ThreadOptions &options) { return options.threads > 0 ? options.threads : default_threads(); }

std::shared_ptr<const Model> Model::build(Gguf gguf, const Options &given, Task *task, Use use, Status impossible) {
  const auto options = given.as<ModelOptions>();
  const auto opened = std::make_shared<Opened>();
  Opened &o = *opened;
  std::shared_ptr<Model> model(new Model(opened));
  const ThreadScope threads(o.threads, threads_of(options));
  o.gguf = std::move(gguf);
  if (o.gguf.find("tokenizer.ggml.model")) o.tokenizer = std::make_unique<const Tokenizer>(o.gguf);
  if (o.gguf.tensors().empty()) {
    if (!o.tokenizer) fail(Status::FORMAT, "the file holds neither tensors nor a tokenizer");
    if (!options.adapter.empty()) fail(Status::STATE, kTokenizerAlone);
    return model;
  }
  auto config = std::make_unique<Config>(config_of(o.gguf, options, impossible, true));
  if (!options.adapter.empty()) {
    Gguf file = Gguf::open(options.adapter);
    of_file(options.adapter, [&] {
      config->memory = adapted_memory(o.gguf, file, *config, options);
      o.adapter = std::make_unique<const Adapter>(std::move(file), options.adapter_weight, *config);
    });
    if (use == Use::TRAINING) model->base();
  }
  o.config = std::move(config);
  if (o.tokenizer && o.tokenizer->size() > o.config->vocabulary)
    fail(Status::FORMAT, "the tokenizer has ", o.tokenizer->size(), " tokens, but the model's vocabulary only ",
         o.config->vocabulary);
  check_tensors(o.gguf, *o.config);
  o.rules = std::make_unique<const Rules>(o.gguf, *o.config, options);
  if (use == Use::STREAMS) {
    model->gemm_ = std::make_unique<const Gemm>(o.rules->choice);
    model->weights_ = std::make_unique<const Weights>(threads, o.gguf, *o.config, *o.rules, o.adapter.get(), task);
  } else if (task && task->take_cancel()) {
    fail(Status::CANCELLED, "opening the model was cancelled");
  }
  if (o.tokenizer && o.config->memory.keep > 0) o.ends_sentence = sentence_ends(*o.tokenizer);
  if (!o.config->memory.trained)
    log(LogLevel::WARNING,
        "the file has no trained memory (key infini.version): the model runs as a sliding window with sinks");
  return model;
}

std::shared_ptr<const Model> Model::open(const std::string &path, const Options &options, Task *task, Use use) {
  Gguf gguf = Gguf::open(path);
  return of_file(path, [&] { return build(std::move(gguf), options, task, use); });
}

std::shared_ptr<const Model> Model::create(const CreateConfig &asked, const Options &options, Task *task) {
  CreateConfig config = asked;
  Gguf gguf;
  Gguf tokenizer;
  if (!config.tokenizer.empty()) {
    tokenizer = Gguf::open(config.tokenizer);
    const auto &tokens = of_file(
        config.tokenizer, [&]() -> auto & { return tokenizer.get_strings("tokenizer.ggml.tokens"); });
    config.vocabulary = static_cast<int>(tokens.size());
  }
  check_create(config);
  const int64_t head_size = config.head_size ? config.head_size : config.width / config.heads;
  set_keys(gguf, config, head_size);
  for (const auto &[key, value] : tokenizer.entries())
    if (key.rfind("tokenizer.", 0) == 0) gguf.set(key, value);
  add_tensors(gguf, config, options.as<ModelOptions>(), task);
  return build(std::move(gguf), options, task, Use::STREAMS, Status::INVALID_ARGUMENT);
}

const Tokenizer &Model::tokenizer() const {
  if (!opened_->tokenizer) fail(Status::STATE, "the model has no tokenizer: it takes tokens only");
  return *opened_->tokenizer;
}

const Gguf &Model::base() const {
  if (adapter())
    fail(Status::STATE,
         "the model was opened with an adapter, which is a file of its own and neither saved nor trained "
         "with it: open the model without one");
  return gguf();
}

const Config &Model::config() const {
  if (!opened_->config) fail(Status::STATE, kTokenizerAlone);
  return *opened_->config;
}

const Weights &Model::weights() const {
  config();
  if (!weights_) fail(Status::STATE, "the model was opened for training: it has no weights to run");
  return *weights_;
}

const std::string &Model::fingerprint() const {
  std::call_once(opened_->fingerprint_once, [&] {
    Hash hash;
    hash_file(hash, gguf());
    if (adapter()) {
      hash_file(hash, adapter()->gguf());
      hash.add_number(adapter()->weight());
    }
    opened_->fingerprint = hash.hex();
  });
  return opened_->fingerprint;
}

int64_t Model::parameters() const {
  int64_t total = 0;
  for (const GgufTensor &tensor : gguf().tensors()) total += tensor.elements();
  return total;
}

}  // namespace infini
