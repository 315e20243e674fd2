// infini train MODEL --adapt: a plain model learns to use its memory. Heads that retrieve are found. Heads of the layer
// below them learn to carry a value's name to its digits; then, layer by layer, groups of heads are made anew, each to find
// one digit of a value by its name and to say it, by regression and attention supervision; last, gates and projections are
// trained end to end.
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
  double share = 0.5, least = 0.05;  // of the greatest weight, and weight: heads above both retrieve
  std::vector<int64_t> layers;       // first and last that are trained; empty: from the heads
  int64_t find_sequences = 8, carry_steps = 60, teach_sequences = 800, teach_steps = 300, steps = 250;
  int64_t names = 16;  // of the task, at most; fewer where the vocabulary has fewer
  double carry_rate = 0.03, carry_size = 0.25, teach_rate = 0.1, nats = 8, rate = 0.003, gate_rate = 0.01,
         text_ratio = 0.5, fold = 3000;
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

// Which heads learn what.
struct AdaptHeads {
  Json carriers = Json::array();  // [layer, head]: heads of one layer that look from a digit to its name
  Json memory = Json::array();    // [layer, head, place]: heads above it, by layer, that find the digit of that place
  int64_t first = 0, last = -1;   // layers that are trained end to end
};
// Carriers stand below the heads above the share of the heaviest. `found`: of infini_trainer_heads. As no_heads() where the
// model has too few for every digit of a value.
AdaptHeads choose_heads(const Json &found, const Json &info, const AdaptSettings &settings);
// Where there is none: the layers' upper half, and no heads.
AdaptHeads no_heads(const Json &info, const AdaptSettings &settings);

// Throws where sequences have no room for a fact and a question.
void check_room(const AdaptSettings &settings);

Json finding(const AdaptSettings &settings);
Json carrying(const AdaptSettings &settings, const AdaptHeads &heads);
Json teaching(const AdaptSettings &settings, const AdaptHeads &heads, int64_t layer);
Json training(const AdaptSettings &settings, const AdaptHeads &heads, const Json &info);

// --- adapt_measure.cc: what a model can do

// {"nll": mean over the held-out text, "recall": [share over so many borders, ...], "pass": ...}; null where nothing is
// measured. `with_recall`: the tokenizer has the task.
Json measure_adapted(const infini_model *model, const OptionFlags &flags, const AdaptSettings &settings,
                     bool with_recall);

}  // namespace cli
