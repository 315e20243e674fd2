#include "adapt/adaptation.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "adapt/fit_heads.h"
#include "base/schema.h"
#include "train/report.h"

namespace infini {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

std::string Adaptation::Phase::name() const {
  const char *const of_kind = kKinds[static_cast<size_t>(kind)];
  return kind == Kind::TEACH ? cat(of_kind, layer) : of_kind;
}

Adaptation::Adaptation(std::string path, const AdaptSettings &settings, const Options &options, Task *task)
    : path_(std::move(path)), settings_(settings), options_(options) {
  AdaptSettings &s = settings_;
  if (!s.layers.empty() && s.layers.size() != 2)
    fail(Status::INVALID_ARGUMENT, "adapt.layers takes the first and the last");
  Gguf gguf = Gguf::open(path_);
  of_file(path_, [&] {
    // Segments of 128 tokens behind three that are carried, if the context holds so many.
    const int64_t context = read_config(gguf, options_.as<ModelOptions>()).context;
    if (s.segment == 0) s.segment = std::max<int64_t>(1, std::min<int64_t>(128, (context - s.sinks) / 4));
    if (s.carry < 0) s.carry = std::clamp<int64_t>(context - s.sinks - s.segment, 0, 3 * s.segment);
    model_ = Model::build(std::move(gguf), this->options(true), task, Model::Use::TRAINING);
  });
  if (saves()) resume();
}

Adaptation::~Adaptation() = default;

// The memory of a plain model is opened as the adapted one will have it.
Options Adaptation::options(bool plain) const {
  Options options = options_;
  if (!plain) return options;
  options.set("update", std::string("linear"));  // which does not depend on how the past was cut
  options.set("segment", settings_.segment);
  options.set("carry", settings_.carry);
  options.set("sinks", settings_.sinks);
  return options;
}

// Heads of the memory are supervised layer by layer.
std::vector<Adaptation::Phase> Adaptation::phases() const {
  std::vector<Phase> phases;
  if (!heads_.carriers.empty()) phases.push_back({Phase::Kind::CARRIERS, heads_.carriers.front().layer});
  for (const SupervisedHead &head : heads_.memory)
    if (phases.back().kind != Phase::Kind::TEACH || phases.back().layer != head.layer)
      phases.push_back({Phase::Kind::TEACH, head.layer});
  phases.push_back({Phase::Kind::TRAIN, -1});
  return phases;
}

const AdaptPlan &Adaptation::plan() {
  if (!plan_) plan_.emplace(model_->tokenizer(), settings_, options_.get_string("compute"), cache_);
  return *plan_;
}

// The greatest number of names, up to that of the settings, of which the tokenizer can make recall tasks; 0, and why,
// where it can make none.
int64_t Adaptation::names_of_task(std::string &why) {
  try {
    const auto most = static_cast<int64_t>(RecallSource(model_->tokenizer(), {}, nullptr).names());
    int64_t names = settings_.names;
    while (names > most) names = names * 3 / 4;
    return names;
  } catch (const Error &error) {
    if (error.status() != Status::INVALID_ARGUMENT) throw;
    why = error.what();
    return 0;
  }
}

void Adaptation::find(Task *task) {
  const auto start = Clock::now();
  const Config &config = model_->config();
  std::optional<HeadSearch> found;
  std::string no_task;
  // Where the tokenizer can make no recall tasks, as when digits are no tokens of their own, there is text alone.
  if (const int64_t names = names_of_task(no_task); names > 0) {
    no_task.clear();
    settings_.names = names;
    plan_.reset();
    plan().check_room();
    PhasePlan finding = plan().finding(), again = plan().finding();
    RecallTrainer trainer(model_, finding.config, std::move(finding.source), nullptr, threads());
    found = find_heads(trainer, *again.source, static_cast<int>(settings_.find_sequences),
                       static_cast<int>(settings_.segment), static_cast<int>(settings_.segments), task);
    if (std::ranges::max(found->value_weight) < settings_.least)
      no_task = cat("no head looks at what is asked for with ", settings_.least, " or more");
  }
  AdaptHeads heads = no_task.empty() ? choose_heads(*found, config, settings_) : no_heads(config, settings_);
  if (heads.memory.empty() && no_task.empty())
    no_task = heads_can_be_fitted(config)
                  ? "the model has too few layers for heads that find each digit of a value"
                  : "no head can be fitted where heads share norms, or layers have windows of their own";
  JsonObject report;
  report.add("phase", "find").add("found", found ? std::optional(found->best()) : std::nullopt);
  if (found) {
    found_ = found->best(10);
    full_attention_recall_ = share_of(found->right, found->lookups);
    tokens_[Phase::Kind::FIND] = found->tokens;
  }
  heads_ = std::move(heads);
  if (!no_task.empty()) no_task_ = std::move(no_task);
  found_heads_ = true;
  seconds_[Phase::Kind::FIND] = seconds_since(start);
  report_ = report.add("carriers", WriteFields::written(heads_.carriers))
                .add("heads", WriteFields::written(heads_.memory))
                .add("layers", std::array{heads_.first, heads_.last})
                .json();
}

bool Adaptation::step(Task *task) {
  if (!found_heads_) {
    find(task);
    return true;
  }
  if (!before_) {
    before_ = measure(Model::open(path_, options(true), task), task);
    report_ = JsonObject().add("phase", "before").add("measured", before_).json();
    write_state();
    return true;
  }
  const std::vector<Phase> all = phases();
  // What comes out of the last phase is its trainer's.
  const Phase &phase = all[std::min(done_, all.size() - 1)];
  if (done_ < all.size() || !trainer_) {
    if (!trainer_ && begin_phase(phase, task)) return true;
    const int64_t steps = trainer_->config().optimizer.schedule.total;
    if (trainer_->steps() < steps) train_step(phase, steps, task);
    if (trainer_->steps() >= steps && done_ < all.size()) end_phase(phase);
    return !after_ || trainer_->steps() < steps;  // else its trainer alone was missing, of one that was complete
  }
  if (after_) return false;
  Gguf adapted = trainer_->gguf(tensor_type(settings_.type));
  after_ = measure(Model::build(std::move(adapted), options(false), task), task);
  report_ = JsonObject().add("phase", "after").add("measured", after_).json();
  write_state();
  return true;
}

void Adaptation::run(Task *task) {
  while (step(task)) {}
}

// From the model that the phase before made.
bool Adaptation::begin_phase(const Phase &phase, Task *task) {
  const std::vector<Phase> all = phases();
  const size_t at = std::min(done_, all.size() - 1);
  if (at == 0) phase_model_ = model_;
  else if (!phase_model_ || saves())
    phase_model_ = Model::open(phase_file(all[at - 1], ".gguf"), options(true), task, Model::Use::TRAINING);
  PhasePlan what = phase.kind == Phase::Kind::CARRIERS ? plan().carriers(heads_)
                   : phase.kind == Phase::Kind::TEACH  ? plan().teaching(heads_, phase.layer)
                                                       : plan().training(heads_, phase_model_->config());
  auto trainer = std::make_unique<RecallTrainer>(phase_model_, what.config, std::move(what.source), nullptr, threads());
  report_ = JsonObject().add("phase", "open").json();
  if (saves() && phase_ == phase.name() && std::filesystem::exists(phase_file(phase, ".trainer"))) {
    trainer->restore(phase_file(phase, ".trainer"));
    trainer_ = std::move(trainer);
  } else if (phase.kind == Phase::Kind::TEACH || (phase.kind == Phase::Kind::CARRIERS && settings_.carrier_size > 0)) {
    const auto start = Clock::now();
    fit_heads(*trainer, settings_.nats, task);
    seconds_[phase.kind] += seconds_since(start);
    trainer_ = std::move(trainer);
    report_ = JsonObject().add("phase", phase.name()).add("fitted", true).add("layer", phase.layer).json();
    save();
    return true;
  } else {
    trainer_ = std::move(trainer);
  }
  return false;
}

void Adaptation::train_step(const Phase &phase, int64_t steps, Task *task) {
  const int64_t before = tokens_[phase.kind] - trainer_->tokens(),
                done = trainer_->steps();  // of the phases before
  if (task) task->begin("train", steps, done);
  const StepReport seen = trainer_->step(task);
  report_ = describe(*trainer_, seen).add("phase", phase.name()).add("steps", steps).json();
  seconds_[phase.kind] += seen.seconds;
  tokens_[phase.kind] = before + trainer_->tokens();
  if (const auto share = source_share(seen.tally)) share_ = share;
  if (task) task->advance_to(trainer_->steps());
  if (trainer_->steps() != done && trainer_->steps() % settings_.checkpoint_every == 0) save();
}

void Adaptation::end_phase(const Phase &phase) {
  if (phase.kind == Phase::Kind::TRAIN) {
    gates_ = gate_weights(*trainer_);
    save();
  } else if (saves()) {
    trainer_->write(phase_file(phase, ".gguf"), TensorType::F32);
  } else {
    phase_model_ = Model::build(trainer_->gguf(TensorType::F32), options(true), nullptr, Model::Use::TRAINING);
  }
  ++done_;
  write_state();
  if (phase.kind != Phase::Kind::TRAIN) trainer_.reset();
}

void Adaptation::write(const std::string &path, Task *task) const {
  if (!trainer_ || !found_heads_ || done_ < phases().size())
    fail(Status::STATE, "the model is not adapted yet: run the adaptation to its end");
  trainer_->write(path, tensor_type(settings_.type), task);
}

}  // namespace infini
