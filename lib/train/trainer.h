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
#include "train/retrieval_heads.h"
#include "train/sequence.h"
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

  // Over sequences that are read with full attention, whatever window and gates are.
  HeadSearch find_heads(SequenceSource &source, int sequences, int segment, int segments, Task *task = nullptr);

  // Heads that are supervised with a place begin anew, by ridge regression over all that is drawn: see trainer_fit.cc.
  // `nats`: what the memory of such heads is to say for the digit that it finds. With config.hand_on, instead: v and o of
  // heads whose local attention is supervised. INVALID_ARGUMENT where there is neither; CANCELLED, and errors of the
  // source: nothing has changed.
  void fit_heads(double nats, Task *task = nullptr);

  int64_t steps() const;
  int64_t tokens() const;  // read by all steps
  const TrainConfig &config() const { return config_; }
  const Lessons &lessons() const { return *lessons_; }
  std::vector<float> gates() const;  // beta [layers][heads]
  int64_t trained_parameters() const;
  int64_t bytes() const;  // of weights, gradients, optimizer and activations
  NumberType compute() const { return compute_; }
  const Model &model() const { return *model_; }

  // All that a trainer made from the same model, configuration and source needs to go on as if nothing had happened.
  void save(const std::string &path) const;
  // MODEL_MISMATCH where model or configuration differ; FORMAT, CHECKSUM, VERSION, TRUNCATED. Then nothing has changed.
  void restore(const std::string &path);
  // A GGUF that the engine and other programs open; `type` is that of matrices that were trained. LoRA is merged.
  void write(const std::string &path, TensorType type) const;
  // LoRA alone, to be kept beside the model. STATE if none is trained.
  void write_adapter(const std::string &path) const;

 private:
  std::vector<bool> choose_trained() const;
  std::vector<Variable> choose_variables() const;
  void change_at_start();
  void check_config() const;
  AttentionRules rules_for(int segment) const;
  const SupervisedHead *supervised_as(int layer, int head) const;  // null: it is not
  bool supervises(int layer, int head) const;
  int place_of(int layer, int head) const;
  int last_layer() const { return config_.last_layer < 0 ? model_->config().layers - 1 : config_.last_layer; }
  bool trains(int layer) const { return config_.first_layer <= layer && layer <= last_layer(); }
  template <class Told>
  std::vector<float> each_head(const Told &told) const;  // [layers][heads]: 1 where told(layer, head)
  std::vector<float> supervised() const;                 // [layers][heads]: 1 where it does, else 0
  std::vector<float> locally_supervised() const;
  AttentionRules full_attention(int64_t tokens) const;  // trainer_heads.cc
  // trainer_fit.cc
  void check_fitting() const;
  void fit_carriers(Task *task);
  void fit_retrieval(double nats, Task *task);
  // f(pass) for all that is drawn, of every rank.
  void each_drawn(Task *task, const std::function<void(size_t pass)> &f);
  double size_before_output();
  std::vector<int32_t> digits_drawn() const;
  std::vector<float> what_digits_say(const std::vector<int32_t> &digits, double amount) const;
  void make_heads(int layer, int kv_head, const std::vector<double> &keys, const std::vector<double> &queries,
                  const std::vector<float> &said);
  // What this step reads of drawn_.
  std::span<const Sequence> sequences() const {
    return std::span(drawn_).subspan(read_, drawn_.size() / static_cast<size_t>(parts_));
  }
  // Over layout_, as the part that is trained needs it. `pass`: of the step, or kNoPass.
  static constexpr size_t kNoPass = Backward::kNoPass;
  Tally run(int segment, const Purpose &purpose, size_t pass);
  void weights_changed();
  void draw(Task *task);
  void draw_sequences(Task *task);
  void draw_again();  // before the next step, in place of what is drawn now
  uint64_t checksum_of_read() const;
  void add_gradients(Task *task);  // of this rank's share of what was drawn
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
  std::vector<bool> trained_;  // by parameter: gets gradients
  std::unique_ptr<Lora> lora_;
  std::unique_ptr<Backward> backward_;
  std::unique_ptr<Optimizer> optimizer_, adapter_optimizer_;      // of parameters_ and of lora_
  Buffer<float> gradients_;                                       // like parameters_
  std::vector<float> supervision_, local_supervision_, silence_;  // [layers][heads], scaled for this step; empty: none
  std::vector<int32_t> places_;  // [layers][heads]: of supervised heads of layers that are trained, -1: all
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

// bf16 where it was asked for, or where nothing was and the processor multiplies faster in it.
NumberType choose_training_compute(const std::string &asked, const Gemm &gemm);

}  // namespace infini
