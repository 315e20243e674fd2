// Training: steps over batches of sequences, evaluation, checkpoints, and the model that comes out.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/task.h"
#include "train/backward.h"
#include "train/lora.h"
#include "train/ranks.h"
#include "train/sequence.h"
#include "train/supervisor.h"
#include "train/train_config.h"

namespace infini {

// How long sequences are, which may change as recall allows.
class Lessons {
 public:
  virtual ~Lessons() = default;
  virtual int segment() const = 0;              // tokens
  virtual int segments() const = 0;             // of a sequence
  virtual void observe(const Tally &seen) = 0;  // after every step
  virtual std::string save() const = 0;
  virtual void restore(const std::string &state) = 0;
};

class FixedLessons : public Lessons {
 public:
  FixedLessons(int segment, int segments) : segment_(segment), segments_(segments) {}
  int segment() const override { return segment_; }
  int segments() const override { return segments_; }
  void observe(const Tally &) override {}
  std::string save() const override { return ""; }
  void restore(const std::string &) override {}

 private:
  int segment_, segments_;
};

struct StepReport {
  int64_t step = 0;    // done so far, this one included
  int64_t tokens = 0;  // of this step
  Tally tally;
  double gradient_norm = 0;  // before clipping; not finite: nothing was changed
  double seconds = 0;
  double rate_factor = 0;  // of the schedule
};

class Trainer {
 public:
  // `lessons` may be null: sequences of config.segment and config.segments. Errors: INVALID_ARGUMENT for a configuration
  // that does not fit the model.
  Trainer(std::shared_ptr<const Model> model, const TrainConfig &config, std::unique_ptr<SequenceSource> source,
          std::unique_ptr<Lessons> lessons, int threads);
  ~Trainer();

  // Shares steps and evaluations with other processes, which do the same with trainers made alike: see trainer_ranks.cc.
  void set_ranks(const Ranks &ranks) {
    ranks_ = ranks;
    backward_->forget_passes();  // which are of other shares
  }
  const Ranks &ranks() const { return ranks_; }

  // One step: gradients(), then apply(). `task` may be null; cancelling throws CANCELLED, and the step has not happened.
  StepReport step(Task *task = nullptr);
  // Draws sequences and computes their gradients, summed over all ranks. Errors: the step has not happened, on any rank.
  void gradients(Task *task = nullptr);
  // Of what is trained: these stretches of memory are what ranks sum.
  std::vector<std::span<float>> trained_gradients();
  StepReport apply();

  // Forward passes over sequences of another source. `open` is called once; an error of it ends every rank's evaluation,
  // as any other error does.
  Tally evaluate(const std::function<SequenceSource &()> &open, int sequences, int segment, int segments,
                 Task *task = nullptr);
  Tally evaluate(SequenceSource &source, int sequences, int segment, int segments, Task *task = nullptr);

  // A forward pass with other rules than those of training, whose layers `watch` sees.
  Tally forward(const Layout &layout, const AttentionRules &rules, const Watch &watch);

  // What a hook that initialises parameters is given: all that is drawn, as steps will read it.
  class Drawn;
  // Lets `hook` change parameters, which it should do last, before the first step. STATE after it. `task`: `stage`, in steps
  // that read all. Errors of the hook or the source, and CANCELLED: if the hook changed nothing, nothing has changed.
  void initialise(const char *stage, Task *task, const std::function<void(Drawn &, Parameters &)> &hook);

  int64_t steps() const;
  int64_t tokens() const;  // read by all steps
  const TrainConfig &config() const { return config_; }
  const Lessons &lessons() const { return *lessons_; }
  std::vector<float> gates() const;  // beta [layers][heads]
  int64_t trained_parameters() const;
  int64_t bytes() const;  // of weights, gradients, optimizer and activations
  NumberType compute() const { return compute_; }
  const Model &model() const { return *model_; }
  const Supervisor &supervisor() const { return supervisor_; }
  int threads() const { return threads_; }

  // All that a trainer made from the same model, configuration and source needs to go on as if nothing had happened.
  void save(const std::string &path) const;
  // MODEL_MISMATCH where model or configuration differ; FORMAT, CHECKSUM, VERSION, TRUNCATED. Then nothing has changed.
  void restore(const std::string &path);
  // A GGUF that the engine and other programs open; `type` is that of matrices that were trained. LoRA is merged.
  void write(const std::string &path, TensorType type) const;
  Gguf gguf(TensorType type) const;  // the same in memory
  // LoRA alone, to be kept beside the model. STATE if none is trained.
  void write_adapter(const std::string &path) const;

 private:
  std::vector<bool> choose_trained() const;
  std::vector<Variable> choose_variables() const;
  void change_at_start();
  AttentionRules rules_for(int segment) const;
  // What this step reads of drawn_.
  std::span<const Sequence> sequences() const {
    return std::span(drawn_).subspan(read_, drawn_.size() / static_cast<size_t>(parts_));
  }
  // Over layout_, as the part that is trained needs it. `pass`: a cache key, see Backward::run.
  static constexpr size_t kNoPass = Backward::kNoPass;
  Tally run(const Threads &threads, int segment, const Purpose &purpose, size_t pass);
  void weights_changed(const Threads &threads);
  void draw(Task *task);
  void draw_sequences(Task *task);
  void draw_again();  // before the next step, in place of what is drawn now
  uint64_t checksum_of_read() const;
  void add_gradients(const Threads &threads, Task *task);  // of this rank's share of what was drawn
  // f(pass), with layout_ holding sequences `first` .. `end` of what this step reads, as many at once as `rows` allows.
  void each_pass(int64_t first, int64_t end, const std::function<void(size_t pass)> &f);

  // trainer_ranks.cc
  enum class Joint : uint64_t { STEP, EVALUATION };
  uint64_t weights_checksum() const;
  Tally agree(Joint call, uint64_t place, const Tally &own, const std::exception_ptr &failure) const;

  const std::shared_ptr<const Model> model_;
  const TrainConfig config_;
  const int threads_;
  const NumberType compute_;
  Parameters parameters_;
  Supervisor supervisor_;
  std::vector<bool> trained_;  // by parameter: gets gradients
  std::unique_ptr<Lora> lora_;
  std::unique_ptr<Backward> backward_;
  std::unique_ptr<Optimizer> optimizer_, adapter_optimizer_;  // of parameters_ and of lora_
  Buffer<float> gradients_;                                   // like parameters_
  std::unique_ptr<SequenceSource> source_;
  std::unique_ptr<Lessons> lessons_;
  int64_t tokens_ = 0;
  Ranks ranks_;

  // The step at hand.
  std::vector<Sequence> drawn_;
  struct Place {
    std::string source, lessons;
  } before_;              // where drawn_ came from
  bool again_ = false;    // drawn_ is empty, and will be what came from there
  int64_t parts_ = 1;     // steps that read all that is drawn once
  int64_t repeated_ = 0;  // steps that have read it
  size_t read_ = 0;       // the first of drawn_ that this step reads
  int drawn_segment_ = 0;
  double total_weight_ = 0;
  Layout layout_;
  StepReport report_;
};

class Trainer::Drawn {
 public:
  const Threads &threads() const { return threads_; }  // of the hook
  std::span<const Sequence> sequences() const { return trainer_.drawn_; }
  // f for batches of all of them. Cancelled by the task.
  void each_layout(const std::function<void(const Layout &)> &f);
  // Within f: a forward pass over the layout at hand, which `watch` sees; and what each layer is fed that is trained by
  // supervision alone, normed (as Backward::feed_taught).
  void forward(const Watch &watch);
  void feed_supervised(const Backward::Fed &f);

 private:
  friend class Trainer;
  Drawn(const Threads &threads, Trainer &trainer, const char *stage, Task *task)
      : threads_(threads), trainer_(trainer), stage_(stage), task_(task) {}
  const Threads &threads_;
  Trainer &trainer_;
  const char *const stage_;
  Task *const task_;
  size_t key_ = kNoPass;  // cache key of the layout at hand
};

// "f32", "f16" or "bf16", of matrices in a file. INVALID_ARGUMENT for others.
TensorType tensor_type(const std::string &name);

// bf16 where it was asked for, or where nothing was and the processor multiplies faster in it.
NumberType choose_training_compute(const std::string &asked, const Gemm &gemm);

}  // namespace infini
