// A training as it runs: steps, evaluations, checkpoints, the log, what is shown, and the model that comes out.
#pragma once

#include <optional>

#include "ranks.h"
#include "train_log.h"
#include "train_plan.h"

namespace cli {

struct TrainFiles {
  std::string out, type = "f32", adapter, checkpoint, log;
  int64_t checkpoint_every = 100, evaluate_every = 0, log_every = 1;  // steps

  void add(CLI::App &command);
  // Before anything is read in vain. `model`: what is trained, which must outlive it; may be "".
  void check_early(const std::string &model) const;
};

// The weights have grown beyond what can be trained: their state is not worth keeping.
struct Diverged : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// On several ranks only the first one shows, logs and writes.
class TrainRun {
 public:
  TrainRun(const TrainPlan &plan, const TrainFiles &files, bool json, const Ranks &ranks)
      : plan_(plan), files_(files), json_(json), ranks_(ranks) {}
  // Goes on from the checkpoint, if there is one. After an interrupt of any rank, returns what says how to go on; else
  // "".
  std::string run(Model model, const Options &options);  // the model goes when the trainer is made

 private:
  bool loop();  // false: it was cancelled
  void step();
  void evaluate();
  bool evaluation_is_due() const;
  void show(const Json &report);
  void save(const std::string &checkpoint);
  std::string checkpoint() const;  // where what an interrupt or an error leaves is saved
  std::string kept();
  void write();
  Json summary() const;
  void print_summary() const;
  std::string stop();
  Json info() const { return json_of(infini_trainer_info_json, trainer_.get()); }

  const TrainPlan &plan_;
  const TrainFiles &files_;
  const bool json_;
  const Ranks &ranks_;
  Trainer trainer_;
  std::optional<TrainLog> log_;
  std::optional<LiveLine> line_;
  Progress progress_;  // shows nothing: interrupts cancel
  int64_t start_ = 0, step_ = 0, saved_ = -1, evaluated_ = -1;
  int64_t read_ = 0, unknown_ = 0;  // tokens, and bytes without one, by this run
  double seconds_ = 0, pace_ = 0;   // of its steps; a step, of the last ones
  Json report_ = Json::object(), evaluation_ = Json::array();
};

}  // namespace cli
