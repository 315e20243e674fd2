// infini train MODEL --adapt: a plain model learns to use its memory, in three steps: the heads that retrieve are found,
// their memory features are taught by attention supervision, and then gates and projections are trained end to end.
#pragma once

#include <string>
#include <vector>

#include "common.h"

namespace cli {

struct AdaptSettings {
  std::string model, out, type = "f16", log, state;  // state: files that it begins with this name; "": out + ".adapt"
  std::vector<std::string> texts;
  std::string held_out;
  std::string part = "attention";
  int64_t segment = 0, segments = 12, carry = -1, sinks = 4;  // 0, -1: from the model's context
  double share = 0.25, least = 0.05;      // of the greatest weight, and weight: heads above both are taught
  std::vector<int64_t> layers;            // first and last that are trained; empty: from the heads
  int64_t find_sequences = 8, teach_steps = 1900, steps = 900;
  int64_t teach_sequences = 2, teach_repeat = 8;  // of a step; steps that read the same ones
  double teach_rate = 0.03, rate = 0.003, gate_rate = 0.03, text_ratio = 0.25, teach_until = 0.8, supervision = 0.3;
  int64_t seed = 1, checkpoint_every = 25, evaluate_sequences = 2, held_out_tokens = 8192;
  std::vector<int64_t> borders = {1, 2, 4, 8, 16, 32, 64};
};

class AdaptFlags {
 public:
  // Adds --adapt and what goes with it; flags that the command has already are shared. `arguments`: of the same command.
  void add(CLI::App &command, const ModelArguments &arguments);
  bool wanted() const { return wanted_; }
  void run() const;

 private:
  const CLI::App *command_ = nullptr;
  const ModelArguments *arguments_ = nullptr;
  AdaptSettings settings_;
  bool wanted_ = false;
};

// --- adapt_plan.cc: what the trainer is told

// A model's heads that are taught, [layer, head], and the layers that are trained.
struct AdaptHeads {
  Json heads = Json::array();
  int64_t first = 0, last = -1;
};
// Heads above the share of the heaviest, with all that read the same keys. `found`: of infini_trainer_heads.
AdaptHeads choose_heads(const Json &found, const Json &info, const AdaptSettings &settings);
// Where there is none: the layers' upper half, and no heads.
AdaptHeads no_heads(const Json &info, const AdaptSettings &settings);

Json recall_data(const AdaptSettings &settings, uint64_t seed);
Json finding(const AdaptSettings &settings);
Json teaching(const AdaptSettings &settings, const AdaptHeads &heads);
Json training(const AdaptSettings &settings, const AdaptHeads &heads, const Json &info);

// --- adapt_measure.cc: what a model can do

// {"nll": mean over the held-out text, "recall": [share over so many borders, ...], "pass": ...}; null where nothing is
// measured. `with_recall`: the tokenizer has the task.
Json measure_adapted(const infini_model *model, const infini_options *options, const AdaptSettings &settings, bool with_recall);

}  // namespace cli
