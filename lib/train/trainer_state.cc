// Checkpoints of training, in the container of snapshots. The header's JSON holds the numbers of steps and tokens and
// the state of the source; the sections are f32 arrays: `values` (trained parameters), `optimizer`, and with LoRA
// `adapters` and `adapter_optimizer`.

#include "base/file.h"
#include "base/json.h"
#include "base/schema.h"
#include "format/snapshot.h"
#include "train/trainer.h"

namespace infini {
namespace {

using nlohmann::json;

std::span<const std::byte> bytes_of(const float *values, int64_t count) {
  return {reinterpret_cast<const std::byte *>(values), static_cast<size_t>(count) * 4};
}

// Fails unless the checkpoint is one of this model, trained like this.
void check_same_training(const json &header, const std::string &path, const Model &model,
                         const std::string &description) {
  if (!header.is_object() || member<std::string>(header, "kind", path) != "training")
    fail(Status::FORMAT, path, ": not a checkpoint of training");
  if (member<std::string>(header, "model", path) != model.fingerprint())
    fail(Status::MODEL_MISMATCH, path, ": the checkpoint belongs to another model than the one that is trained");
  const auto then = member<std::string>(header, "config", path);
  if (then == description) return;
  const auto before = parse_json(then, Status::FORMAT, path + ": the configuration"),
             now = parse_json(description, Status::INTERNAL, "the configuration");
  rename_member(*before, "keep_mb", "activations_mb");  // as it was called before version 0.1 came out
  if (*before != *now)
    fail(Status::MODEL_MISMATCH, path, ": the checkpoint was trained otherwise:", differences(*before, *now),
         " train as then, or name another checkpoint");
}

}  // namespace

void Trainer::check_whole() const {
  if (unfinished_)
    fail(Status::STATE,
         "an error ended a step while it changed the weights; restore a checkpoint, or make another trainer");
}

void Trainer::save(const std::string &path, Task *task) const {
  check_whole();
  const SequencePool::State pool = pool_.save();
  JsonObject header;
  header.add("kind", "training")
      .add("model", model_->fingerprint())
      .add("config", description_)
      .add("threads", threads_)
      .add("compute", name_of(compute_))
      .add("steps", optimizer_->steps())
      .add("tokens", tokens_)
      .add("source", pool.source)
      .add("lessons_before", pool.lengths_before)
      .add("repeated", pool.steps_done)
      .add("lessons", pool.lengths);
  SnapshotSection values{"values", {}};
  for (size_t i = 0; i < trained_.size(); ++i)
    if (trained_[i]) values.parts.push_back(bytes_of(parameters_.of(i), parameters_[i].size()));
  std::vector<SnapshotSection> sections{
      values, {"optimizer", {bytes_of(optimizer_->state().data(), optimizer_->state().size())}}};
  if (lora_) {
    sections.push_back({"adapters", {bytes_of(lora_->values(), lora_->size())}});
    sections.push_back(
        {"adapter_optimizer", {bytes_of(adapter_optimizer_->state().data(), adapter_optimizer_->state().size())}});
  }
  const SnapshotImage image(header.text(), std::move(sections), 0);
  Watch watch(task, "save", static_cast<int64_t>(image.size()), cat("saving was cancelled; '", path, "' is as it was"));
  AtomicFile file(path);
  file.rewrite(image.write([&](const void *data, size_t size) {
    file.write(data, size);
    watch.advance(size);
  }));
  file.commit();
}

void Trainer::restore(const std::string &path, Task *task) {
  check_cancel(task, "restoring was cancelled; the trainer is as it was");
  const MappedFile mapped(path);
  const SnapshotView file(mapped.bytes(), path);
  const auto owned = parse_json(file.json(), Status::FORMAT, path + ": the header");
  const json &header = *owned;
  check_same_training(header, path, *model_, description_);
  const auto steps = member<int64_t>(header, "steps", path), tokens = member<int64_t>(header, "tokens", path);
  const auto repeated = member<int64_t>(header, "repeated", path);
  constexpr int64_t kMost = int64_t{1} << 50;
  if (steps < 0 || steps > kMost || tokens < 0 || tokens > kMost || repeated < 0 ||
      repeated >= config_.repeat * std::max<int64_t>(1, config_.drawn))
    fail(Status::FORMAT, path, ": impossible number of steps or tokens");
  SequencePool::State pool{member<std::string>(header, "source", path),
                           member<std::string>(header, "lessons_before", path),
                           member<std::string>(header, "lessons", path), repeated};

  // Everything is read before anything is changed.
  const auto read = [&](const char *section, int64_t floats) {
    Buffer<float> values(floats);
    file.read(section, {std::span(reinterpret_cast<std::byte *>(values.data()), static_cast<size_t>(floats) * 4)});
    return values;
  };
  // Before version 0.1 came out, checkpoints also held the weights that adapters had changed.
  int64_t count = 0, with_adapted = 0;
  for (size_t i = 0; i < trained_.size(); ++i) {
    if (trained_[i]) count += parameters_[i].size();
    if (trained_[i] || (lora_ && lora_->adapts(i))) with_adapted += parameters_[i].size();
  }
  const bool holds_adapted = file.entry("values").size == static_cast<uint64_t>(with_adapted) * sizeof(float);
  const Buffer<float> values = read("values", holds_adapted ? with_adapted : count);
  Buffer<float> state = read("optimizer", optimizer_->state().size());
  Buffer<float> adapters, adapter_state;
  if (lora_) {
    adapters = read("adapters", lora_->size());
    adapter_state = read("adapter_optimizer", adapter_optimizer_->state().size());
  }
  pool_.restore(std::move(pool));

  const Change change(*this);
  const float *next = values.data();
  for (size_t i = 0; i < trained_.size(); ++i) {
    if (trained_[i]) std::copy_n(next, parameters_[i].size(), parameters_.of(i));
    if (trained_[i] || (holds_adapted && lora_ && lora_->adapts(i))) next += parameters_[i].size();
  }
  std::swap(optimizer_->state(), state);
  optimizer_->set_steps(steps);
  if (lora_) {
    std::copy_n(adapters.data(), lora_->size(), lora_->values());
    std::swap(adapter_optimizer_->state(), adapter_state);
    adapter_optimizer_->set_steps(steps);
  }
  tokens_ = tokens;
  refused_ = 0;
  weights_changed(ThreadScope(model_->threads(), threads_));
}

MemoryConfig Trainer::file_memory() const {
  MemoryConfig memory = model_->config().memory;
  const AttentionRules rules = rules_for(lengths().segment());
  memory.segment = rules.shape.segment;
  memory.carry = rules.shape.carry;
  memory.sinks = rules.shape.sinks;
  memory.epsilon = rules.epsilon;
  memory.first_segment_gated = rules.first_gated;
  const float *const gates = parameters_.of(parameters_.gates());
  memory.gate.assign(gates, gates + parameters_[parameters_.gates()].size());
  return memory;
}

Parameters::FileForm Trainer::file_form(TensorType type) const {
  check_whole();
  std::vector<bool> changed = trained_;
  if (config_.feature_scale != 1)
    for (const Parameters::Layer &w : parameters_.layers()) changed[w[Field::Q]] = changed[w[Field::K]] = true;
  if (!lora_) return {std::move(changed), type, file_memory()};
  for (size_t i = 0; i < changed.size(); ++i) changed[i] = changed[i] || lora_->adapts(i);
  return {std::move(changed), type, file_memory(),
          [this](size_t index, int64_t row, int64_t rows, float *values) { lora_->merge(index, row, rows, values); }};
}

Gguf Trainer::gguf(TensorType type) const { return parameters_.gguf(*model_, file_form(type)); }

void Trainer::write(const std::string &path, TensorType type, Task *task) const {
  parameters_.write(*model_, file_form(type), path, task);
}

TensorType tensor_type(const std::string &name) {
  if (name == "f32") return TensorType::F32;
  if (name == "f16") return TensorType::F16;
  if (name == "bf16") return TensorType::BF16;
  fail(Status::INVALID_ARGUMENT, "type is '", name, "', but must be one of f32, f16, bf16");
}

void Trainer::write_adapter(const std::string &path, Task *task) const {
  if (!lora_) fail(Status::STATE, "no LoRA is trained: there are no adapters to write");
  check_whole();
  if (config_.feature_scale != 1)
    fail(Status::STATE, "train.feature_scale has changed q and k, which adapters do not hold: write the whole model");
  lora_->gguf(*model_, parameters_, file_memory()).save(path, task);
}

}  // namespace infini
