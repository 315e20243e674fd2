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
#include "train/graph.h"
#include "train/lora.h"
#include "train/ranks.h"
#include "train/sequence_pool.h"
#include "train/supervisor.h"
#include "train/train_config.h"

namespace infini {

struct StepReport {
  int64_t step = 0;           // done so far, this one included
  int64_t tokens = 0;         // of this step
  int64_t unknown_bytes = 0;  // of its sequences
  Tally tally;
  double gradient_norm = 0;  // before clipping; not finite: nothing was changed
  double seconds = 0;
  double rate_factor = 0;  // of the schedule
};

class Trainer {
 public:
  // Reads the weights from the model's file, and the frozen ones whenever they are used; those that the model packed
  // are not needed, and not kept alive.
  // `description`: all settings as JSON, those of the supervisor too: equal texts mean equal training. `lengths` may be
  // null: sequences are as long as config.segment and config.segments say. INVALID_ARGUMENT for a configuration that
  // does not fit the model.
  Trainer(std::shared_ptr<const Model> model, const TrainConfig &config, std::string description,
          std::unique_ptr<Supervisor> supervisor, std::unique_ptr<SequenceSource> source,
          std::shared_ptr<SequenceLengths> lengths, int threads, Task *task = nullptr);
  ~Trainer();

  // Shares the sequences of steps and evaluations with other processes, which make the same calls of trainers made
  // alike: see trainer_ranks.cc.
  void set_ranks(const Ranks &ranks) {
    ranks_ = ranks;
    graph_->clear_cache();  // of sequences that this process now may have no share of
  }
  const Ranks &ranks() const { return ranks_; }

  // One step: gradients(), then apply(). `task` may be null; a cancel throws CANCELLED, and the step has not happened.
  StepReport step(Task *task = nullptr);
  // Draws sequences and computes their gradients, summed over all ranks. Errors: the step has not happened, on any
  // rank.
  void gradients(Task *task = nullptr);
  // The gradients of all that is trained, as the contiguous pieces that are summed over ranks.
  std::vector<std::span<float>> trained_gradients();
  // Changes the weights by these gradients. After an error in the middle of it, such as bad_alloc, the weights are
  // neither the old nor the new ones: all other calls throw STATE until restore() has set them.
  StepReport apply();

  // Forward passes over sequences of another source; nothing changes. `open` makes the source and is called once,
  // within the call, so that with several ranks its error ends the evaluation on all, as any other does.
  Tally evaluate(const std::function<SequenceSource &()> &open, int sequences, int segment, int segments,
                 Task *task = nullptr);
  Tally evaluate(SequenceSource &source, int sequences, int segment, int segments, Task *task = nullptr);

  // A forward pass with other attention rules than those of training. `observer` sees every layer.
  Tally forward(const BatchLayout &layout, const AttentionRules &rules, const LayerObserver &observer);

  // The sequences that the first steps will read (config.drawn), for a hook that initialises parameters from them.
  class Drawn;
  // Calls `hook`, which may change parameters, and should do so last. To be called before the first step; STATE after
  // it. `task`: progress in the stage `stage`, in steps that read the pool once. Errors: of the hook and the source,
  // and CANCELLED; then nothing has changed but what the hook changed.
  void initialise(const char *stage, Task *task, const std::function<void(Drawn &, Parameters &)> &hook);

  int64_t steps() const { return optimizer_->steps(); }
  int64_t tokens() const { return tokens_; }  // read by all steps
  const TrainConfig &config() const { return config_; }
  const std::string &description() const { return description_; }
  const SequenceLengths &lengths() const { return pool_.lengths(); }
  std::vector<float> gates() const;  // beta [layers][heads]
  int64_t trained_parameters() const;
  int64_t bytes() const;  // of weights but frozen ones, gradients, optimizer and activations
  NumberType compute() const { return compute_; }
  const Gemm &gemm() const { return gemm_; }  // of its own products
  const Model &model() const { return *model_; }
  const Supervisor &supervisor() const { return *supervisor_; }
  int threads() const { return threads_; }

  // A checkpoint: all that a trainer of the same model, configuration and source needs to go on without a difference.
  void save(const std::string &path, Task *task = nullptr) const;
  // MODEL_MISMATCH where model or configuration differ; FORMAT, CHECKSUM, VERSION, TRUNCATED. Then nothing has changed.
  void restore(const std::string &path, Task *task = nullptr);
  // The trained model as a GGUF file, with LoRA merged; trained matrices are written as `type`.
  void write(const std::string &path, TensorType type, Task *task = nullptr) const;
  Gguf gguf(TensorType type) const;  // the same in memory
  // The LoRA adapters alone, as a GGUF file to be opened beside the model. STATE if none are trained.
  void write_adapter(const std::string &path, Task *task = nullptr) const;

 private:
  // Marks weights and optimizers as unfinished until the end of its scope, and for good where an exception leaves that.
  class Change {
   public:
    explicit Change(Trainer &trainer) : unfinished_(trainer.unfinished_) { unfinished_ = true; }
    Change(const Change &) = delete;
    Change &operator=(const Change &) = delete;
    ~Change() { unfinished_ = std::uncaught_exceptions() > errors_; }

   private:
    bool &unfinished_;
    const int errors_ = std::uncaught_exceptions();
  };
  void check_whole() const;  // STATE where weights were left unfinished
  Parameters::FileForm file_form(TensorType type) const;
  MemoryConfig file_memory() const;  // the memory's settings and gates in training, for the written model
  void change_at_start();
  void add_to_layout(const Sequence &sequence, int segment);
  AttentionRules rules_for(int segment) const;
  std::span<const Sequence> sequences() const { return pool_.of_step(pool_.step()); }  // of the step at hand
  static constexpr size_t kUncached = TrainingGraph::kUncached;
  // TrainingGraph::run, over layout_.
  Tally run(const Threads &threads, int segment, const RunRequest &request, size_t cache_key);
  double change_weights();
  void weights_changed(const Threads &threads);
  void begin_step(Task *task);
  uint64_t evaluate_share(SequenceSource &source, int sequences, int segment, int segments, Task *task, Tally &tally);
  void add_gradients(const Threads &threads, Task *task);  // of this rank's share of what was drawn
  // f(cache key) for each batch of the sequences first .. end - 1 of a step of the pool; layout_ holds the batch, of up
  // to config.rows rows.
  void each_batch(int64_t step, int64_t first, int64_t end, const std::function<void(size_t cache_key)> &f);

  // trainer_ranks.cc
  enum class JointCall : uint64_t { STEP, EVALUATION };
  uint64_t checksum_of_read() const;  // in the step at hand
  uint64_t weights_checksum() const;
  Tally agree(JointCall call, uint64_t data, const Tally &own, const std::exception_ptr &failure) const;

  const std::shared_ptr<const Model> model_;  // without packed weights
  const TrainConfig config_;
  const std::string description_;
  const std::unique_ptr<Supervisor> supervisor_;
  const LayerRange layers_;  // that are trained
  const int threads_;
  const Gemm gemm_;
  const NumberType compute_;
  Parameters parameters_;
  std::vector<bool> trained_;  // by parameter: gets gradients, beside those of adapters
  std::unique_ptr<Lora> lora_;
  std::unique_ptr<TrainingGraph> graph_;
  std::unique_ptr<Optimizer> optimizer_, adapter_optimizer_;  // of parameters_ and of lora_
  Buffer<float> gradients_;                                   // like parameters_
  SequencePool pool_;
  int64_t tokens_ = 0;
  bool unfinished_ = false;  // weights and optimizers are being changed, or an error came in the middle of it
  Ranks ranks_;

  // The step at hand.
  double total_weight_ = 0;  // sum of the loss weights of its rows
  int refused_ = 0;          // steps in a row that changed nothing, because gradients were not finite
  BatchLayout layout_;
  StepReport report_;
};

class Trainer::Drawn {
 public:
  const Threads &threads() const { return threads_; }  // on which the hook may compute
  std::span<const Sequence> sequences() const { return trainer_.pool_.all(); }
  // f for each batch of these sequences. A cancel of the task throws CANCELLED between batches.
  void each_layout(const std::function<void(const BatchLayout &)> &f);
  // To be called by f, over its batch: a forward pass, of which `observer` sees every layer; and
  // TrainingGraph::each_retrieval_input, where retrieval is trained.
  void forward(const LayerObserver &observer);
  void each_retrieval_input(const TrainingGraph::NormedInput &f);

 private:
  friend class Trainer;
  Drawn(const Threads &threads, Trainer &trainer, const char *stage, Task *task)
      : threads_(threads), trainer_(trainer), stage_(stage), task_(task) {}
  const Threads &threads_;
  Trainer &trainer_;
  const char *const stage_;
  Task *const task_;
  size_t key_ = kUncached;  // cache key of the batch at hand
};

// "f32", "f16" or "bf16", of matrices in a file. INVALID_ARGUMENT for others.
TensorType tensor_type(const std::string &name);

}  // namespace infini
