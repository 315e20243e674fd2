#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "base/log.h"
#include "train/trained_parameters.h"

namespace infini {
namespace {

std::shared_ptr<SequenceLengths> fixed_lengths(const TrainConfig &config, const Config &model) {
  const int segment = config.segment > 0 ? config.segment : model.memory.segment;
  return std::make_shared<FixedLengths>(segment, config.segments);
}

// The library is the model's.
ProductChoice choose_products(const TrainConfig &config, const Rules &rules) {
  Asked asked = read_asked("file", config.compute, "auto");
  asked.library = rules.choice.library;
  return choose(asked, Cpu::here());
}

}  // namespace

Trainer::Trainer(std::shared_ptr<const Model> model, const TrainConfig &config, std::string description,
                 std::unique_ptr<Supervisor> supervisor, std::unique_ptr<SequenceSource> source,
                 std::shared_ptr<SequenceLengths> lengths, int threads, Task *task)
    : model_(model->for_training()), config_(config), description_(std::move(description)),
      supervisor_(std::move(supervisor)), layers_(trained_layers(config_, model_->config())),
      threads_(threads > 0 ? threads : default_threads()), gemm_(choose_products(config, model_->rules())),
      compute_(gemm_.choice().training),
      parameters_(
          ThreadScope(model_->threads(), threads_), *model_,
          [this](const TensorSpec &spec) { return is_frozen(config_, *supervisor_, spec); }, task),
      pool_(std::move(source), lengths ? std::move(lengths) : fixed_lengths(config_, model_->config()), config_.tokens,
            config_.drawn, config_.repeat) {
  const ThreadScope team(model_->threads(), threads_);
  if (config_.compute == "bf16" && gemm_.choice().no_bf16)
    log(LogLevel::WARNING, cat("training computes in f32: ", gemm_.choice().no_bf16));
  change_at_start();
  trained_ = choose_trained(config_, layers_, *supervisor_, parameters_);
  optimizer_ =
      std::make_unique<Optimizer>(choose_variables(config_, parameters_, trained_), config_.optimizer, gemm_, compute_);
  if (config_.part == TrainedPart::LORA) {
    lora_ = std::make_unique<Lora>(parameters_, choose_adapted(config_, layers_, parameters_), config_.lora, compute_,
                                   config_.seed);
    lora_->pack(team);
    adapter_optimizer_ = std::make_unique<Optimizer>(lora_->variables(), config_.optimizer, gemm_, compute_);
  }
  graph_ = std::make_unique<TrainingGraph>(team, *model_, gemm_, parameters_, trained_, compute_,
                                           config_.activations_mb << 20, config_.part, lora_.get());
  gradients_ = Buffer<float>(parameters_.size());
}

Trainer::~Trainer() = default;

// What the configuration changes before the first step.
void Trainer::change_at_start() {
  std::ranges::copy(gates_at_start(config_, model_->config()), parameters_.of(parameters_.gates()));
  if (config_.feature_scale == 1) return;
  for (const Parameters::Layer &w : parameters_.layers()) {
    for (const size_t index : {w[Field::Q], w[Field::K]}) {
      float *values = parameters_.of(index);
      for (int64_t i = 0; i < parameters_[index].size(); ++i) values[i] *= static_cast<float>(config_.feature_scale);
    }
  }
}

AttentionRules Trainer::rules_for(int segment) const {
  AttentionRules rules = model_->rules().attention;
  rules.shape.segment = segment;
  if (config_.carry >= 0) rules.shape.carry = config_.carry;
  if (config_.sinks >= 0) rules.shape.sinks = config_.sinks;
  if (config_.epsilon >= 0) rules.epsilon = static_cast<float>(config_.epsilon);
  if (config_.first_segment != FirstSegment::MODEL) rules.first_gated = config_.first_segment == FirstSegment::GATED;
  return rules;
}

void Trainer::add_to_layout(const Sequence &sequence, int segment) {
  layout_.add(sequence, segment, model_->config().vocabulary);
  supervisor_->choose_silent(sequence, layout_);
}

// Draws what the step reads, and counts what it weighs.
void Trainer::begin_step(Task *task) {
  if (pool_.begin_step(task)) graph_->clear_cache();
  total_weight_ = 0;
  supervisor_->begin_step();
  for (const Sequence &sequence : sequences()) {
    layout_.clear();
    add_to_layout(sequence, pool_.segment());
    for (const float w : layout_.weight) total_weight_ += w;
    supervisor_->count(layout_);
    report_.tokens += layout_.rows();
  }
  supervisor_->end_count();
}

void Trainer::each_batch(int64_t step, int64_t first, int64_t end, const std::function<void(size_t cache_key)> &f) {
  const std::span<const Sequence> read = pool_.of_step(step);
  layout_.clear();
  for (auto i = static_cast<size_t>(first); i < static_cast<size_t>(end); ++i) {
    add_to_layout(read[i], pool_.segment());
    if (i + 1 < static_cast<size_t>(end) &&
        layout_.rows() + static_cast<int64_t>(read[i + 1].tokens.size()) <= config_.rows)
      continue;
    f(pool_.first_of_step(step) + i);
    layout_.clear();
  }
}

Tally Trainer::run(const Threads &threads, int segment, const RunRequest &request, size_t cache_key) {
  graph_->set_rules(rules_for(segment));
  return graph_->run(threads, layout_, request, config_.repeat == 1 ? kUncached : cache_key);
}

void Trainer::add_gradients(const Threads &threads, Task *task) {
  for (size_t i = 0; i < trained_.size(); ++i)
    if (trained_[i])
      std::memset(gradients_.data() + parameters_[i].offset, 0,
                  static_cast<size_t>(parameters_[i].size()) * sizeof(float));
  if (lora_) std::fill_n(lora_->gradients(), lora_->size(), 0.0f);
  RunRequest request;
  request.gradients = gradients_.data();
  request.loss_scale = total_weight_ > 0 ? 1 / total_weight_ : 0;
  request.supervision = supervisor_->step_weights();
  const auto check_cancel = [task] {
    if (task) task->advance_to(task->done());  // no farther, but whoever watches may cancel
    if (task && task->take_cancel()) fail(Status::CANCELLED, "training was cancelled; its last step has not happened");
  };
  check_cancel();
  for (const Sequence &sequence : sequences()) report_.unknown_bytes += sequence.unknown_bytes;
  const auto [first, end] = ranks_.share(static_cast<int64_t>(sequences().size()));
  each_batch(pool_.step(), first, end, [&](size_t cache_key) {
    check_cancel();
    report_.tally.add(run(threads, pool_.segment(), request, cache_key));
  });
  layout_.clear();
  // Gates of layers that are not trained stay as they are.
  const int heads = model_->config().heads;
  float *gates = gradients_.data() + parameters_[parameters_.gates()].offset;
  for (int l = 0; l < model_->config().layers; ++l)
    if (!layers_.holds(l)) std::fill_n(gates + l * heads, heads, 0.0f);
}

void Trainer::gradients(Task *task) {
  check_whole();
  const ThreadScope threads(model_->threads(), threads_);
  report_ = {};
  uint64_t read = 0;
  std::exception_ptr failure;
  try {
    begin_step(task);
    read = checksum_of_read();
    add_gradients(threads, task);
  } catch (...) {
    failure = std::current_exception();  // the other ranks have to hear of it
  }
  try {
    report_.tally = agree(JointCall::STEP, read, report_.tally, failure);
    for (const std::span<float> piece : trained_gradients()) ranks_.sum(piece);
  } catch (...) {
    pool_.forget();
    throw;
  }
}

// Gives the norm of the gradients. Where it is not finite, nothing is changed.
double Trainer::change_weights() {
  const ThreadScope threads(model_->threads(), threads_);
  const Change change(*this);
  double adapters = 0;
  if (lora_)
    adapters = optimizer_->norm(threads, gradients_.data());  // of the gates: where it is not finite, adapters stay too
  if (lora_ && std::isfinite(adapters))
    adapters = adapter_optimizer_->step(threads, lora_->gradients(), lora_->values());
  const double others =
      std::isfinite(adapters) ? optimizer_->step(threads, gradients_.data(), parameters_.values()) : 0;
  const double norm = std::sqrt(adapters * adapters + others * others);
  if (std::isfinite(norm)) weights_changed(threads);
  return norm;
}

StepReport Trainer::apply() {
  report_.rate_factor = config_.optimizer.schedule.at(optimizer_->steps());
  report_.gradient_norm = change_weights();
  refused_ = std::isfinite(report_.gradient_norm) ? 0 : refused_ + 1;
  if (refused_ > 0)
    log(LogLevel::WARNING,
        cat("step ", optimizer_->steps() + 1, ": the gradients are not finite; nothing was changed"));
  tokens_ += report_.tokens;
  report_.step = optimizer_->steps();
  pool_.end_step(report_.tally);
  constexpr int kMostRefused = 20;
  if (refused_ >= kMostRefused)
    fail(Status::STATE, "the gradients of ", refused_,
         " batches in a row were not finite, and none changed the weights: begin again, with lower rates");
  return report_;
}

void Trainer::weights_changed(const Threads &threads) {
  if (lora_) lora_->pack(threads);
  graph_->refresh(threads);
}

StepReport Trainer::step(Task *task) {
  const auto start = std::chrono::steady_clock::now();
  gradients(task);
  apply();
  report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report_;
}

Tally Trainer::evaluate(const std::function<SequenceSource &()> &open, int sequences, int segment, int segments,
                        Task *task) {
  check_whole();
  Tally tally;
  uint64_t data = 0;
  std::exception_ptr failure;
  if (task) task->begin("evaluate", sequences);
  try {
    data = evaluate_share(open(), sequences, segment, segments, task, tally);
  } catch (...) { failure = std::current_exception(); }  // the other ranks have to hear of it
  layout_.clear();
  return agree(JointCall::EVALUATION, data, tally, failure);
}

// Reads all sequences, as every rank does, and runs those of this one. Gives a checksum of what was read.
uint64_t Trainer::evaluate_share(SequenceSource &source, int sequences, int segment, int segments, Task *task,
                                 Tally &tally) {
  const ThreadScope threads(model_->threads(), threads_);
  RunRequest request;
  request.supervision = supervisor_->evaluation_weights();
  ReadChecksum read(ranks_, segment);
  const auto [first, end] = ranks_.share(sequences);
  for (int i = 0; i < sequences; ++i) {
    if (task && task->take_cancel())
      fail(Status::CANCELLED, "evaluating was cancelled after ", i, " of ", sequences, " sequences");
    const Sequence sequence = source.next(segment, segments);
    read.add(sequence);
    if (i >= first && i < end) {
      layout_.clear();
      add_to_layout(sequence, segment);
      tally.add(run(threads, segment, request, kUncached));
    }
    if (task) task->advance_to(i + 1);
  }
  return read.value();
}

Tally Trainer::evaluate(SequenceSource &source, int sequences, int segment, int segments, Task *task) {
  return evaluate([&]() -> SequenceSource & { return source; }, sequences, segment, segments, task);
}

std::vector<float> Trainer::gates() const {
  const float *gates = parameters_.of(parameters_.gates());
  return {gates, gates + parameters_[parameters_.gates()].size()};
}

int64_t Trainer::trained_parameters() const {
  int64_t total = 0;
  for (const Variable &v : choose_variables(config_, parameters_, trained_)) total += v.rows * v.columns;
  if (lora_)
    for (const Variable &v : lora_->variables()) total += v.rows * v.columns;
  return total;
}

int64_t Trainer::bytes() const {
  int64_t total = 4 * (parameters_.size() + gradients_.size() + optimizer_->state().size()) + graph_->bytes();
  if (lora_) total += lora_->bytes() + 4 * adapter_optimizer_->state().size();
  return total;
}

}  // namespace infini
