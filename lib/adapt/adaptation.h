// A plain model learns to use its memory, in phases. First, retrieval heads are searched for (head_search.h). Heads of
// the layer below the lowest of them become carriers: they are supervised to attend from the digits of a value to its
// name, and copy the name there. Then, layer by layer, groups of heads are initialised by regression and supervised,
// each group to retrieve the digit at one offset of a value by the value's name, and to raise the logit of that digit.
// Last, gates and projections are trained end to end.
#pragma once

#include <array>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "adapt/plan.h"
#include "adapt/recall_trainer.h"
#include "adapt/settings.h"
#include "base/schema.h"

namespace infini {

class Adaptation {
 public:
  // `path`: the GGUF file of the plain model. Continues from the files that settings.checkpoint names, if they are
  // there. Options: those of a model. Errors: of opening it; INVALID_ARGUMENT for settings that do not fit it or each
  // other; MODEL_MISMATCH where the adaptation was begun with others; FORMAT where its files are damaged.
  Adaptation(std::string path, const AdaptSettings &settings, const Options &options, Task *task = nullptr);
  ~Adaptation();

  // One step, whatever comes next: the search for heads, the measurement before, the fitting of the heads of a phase, a
  // training step, or the measurement after. False where nothing is left. CANCELLED, and errors of files: the step has
  // not happened, and may be made again.
  bool step(Task *task);
  // All steps that are left.
  void run(Task *task);
  // Writes the files of settings.checkpoint, from which it can be continued; without that setting does nothing.
  void save(Task *task = nullptr);
  // Removes these files.
  void discard();
  // The adapted model, once all phases are trained; else STATE.
  void write(const std::string &path, Task *task = nullptr) const;

  // What the last step did, {} before the first, as infini_adaptation_report_json says.
  const JsonText &report() const { return report_; }
  // How far it has come, and what was found and measured, as infini_adaptation_info_json says.
  JsonObject info() const;

 private:
  static constexpr const char *kKinds[] = {"find", "carriers", "teach", "train"};
  struct Phase {  // all but the search train something
    enum class Kind { FIND, CARRIERS, TEACH, TRAIN } kind;
    int layer;                 // whose heads are supervised; -1: of TRAIN
    std::string name() const;  // as in its files and reports, such as "teach3"
  };
  struct Measured {
    std::optional<double> nll;
    std::vector<std::optional<double>> recall;

    template <class Visitor>
    void fields(Visitor &v) {
      v("nll", nll);
      v("recall", recall);
    }
    JsonText json() const { return settings_json(*this).json(); }
  };
  template <class Number>
  struct ByKind {  // of phase
    std::array<Number, std::size(kKinds)> sums{};
    Number &operator[](Phase::Kind kind) { return sums[static_cast<size_t>(kind)]; }

    template <class Visitor>
    void fields(Visitor &v) {
      for (size_t kind = 0; kind < sums.size(); ++kind) v(kKinds[kind], sums[kind], 0, 1e18, "");
    }
  };

  std::string state_file() const { return settings_.checkpoint + ".json"; }
  std::string phase_file(const Phase &phase, const char *kind) const {
    return settings_.checkpoint + "." + phase.name() + kind;
  }
  bool saves() const { return !settings_.checkpoint.empty(); }
  Options options(bool plain) const;
  int threads() const { return static_cast<int>(options_.get_int("threads")); }
  std::vector<Phase> phases() const;  // in order
  const AdaptPlan &plan();
  JsonObject asked() const;
  // What is kept, and the part of it that info() tells too: see base/schema.h.
  template <class Self, class Visitor>
  static void visit_state(Self &self, Visitor &v);
  template <class Self, class Visitor>
  static void visit_findings(Self &self, Visitor &v);
  void resume();
  void restore(const nlohmann::json &state);
  void write_state() const;
  int64_t names_of_task(std::string &why);
  void find(Task *task);
  Measured measure(std::shared_ptr<const Model> model, Task *task);
  std::optional<double> held_out_nll(const std::shared_ptr<const Model> &model, Task *task) const;
  bool begin_phase(const Phase &phase, Task *task);  // true: heads were fitted, which is a step
  void train_step(const Phase &phase, int64_t steps, Task *task);
  void end_phase(const Phase &phase);

  const std::string path_;
  AdaptSettings settings_;
  const Options options_;
  TokenCache cache_;
  // Models without packed weights, for training.
  std::shared_ptr<const Model> model_;        // the plain one
  std::shared_ptr<const Model> phase_model_;  // with which the phase at hand begins
  std::optional<AdaptPlan> plan_;
  std::unique_ptr<RecallTrainer> trainer_;  // of the phase at hand
  JsonText report_{"{}"};

  // The state that is written to settings.checkpoint.
  AdaptHeads heads_;
  bool found_heads_ = false;
  std::optional<std::string> no_task_;  // why it learns from text alone, without recall tasks, where it does
  // What is not there is not known yet.
  std::optional<std::vector<FoundHead>> found_;  // the ten with the greatest weight
  std::optional<double> full_attention_recall_, share_;
  std::optional<std::vector<std::vector<double>>> gates_;
  std::optional<Measured> before_, after_;
  ByKind<double> seconds_;
  ByKind<int64_t> tokens_;
  std::string phase_;  // name of the phase whose trainer was saved
  size_t done_ = 0;    // phases that are complete
};

}  // namespace infini
