// How hard the tasks are: first where the local window cannot help, then farther, longer and sparser, as recall allows.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace infini {

// What a task looks at when it makes a sequence.
struct Difficulty {
  double distance = 0;  // tokens from a value to the question, at most; 0: the whole sequence
  double density_least = 0.7, density_greatest = 12;  // facts a thousand tokens, drawn log-uniformly for each sequence
  double fold = 0;                                    // a segment of filler counts exp(U(0, fold)) times
};

class Curriculum {
 public:
  struct Stage {
    int segment, segments;
    double density_least, density_greatest;
  };
  struct Settings {
    std::vector<Stage> stages = {{32, 4, 12, 24}, {32, 8, 12, 24}, {64, 16, 0.7, 12}};
    // Recall across segments from which the next step is taken: of digits, or of whole answers. Digits are learned sooner,
    // but deceive where values have names: most are given away by those before them, whatever name was asked for.
    double threshold = 0.8;
    bool whole_answers = false;
    double distance = 48;    // at first
    double stretch = 1.35;   // its growth a step, until it is the whole sequence
    double fold = 3000;      // the greatest virtual length of a segment, reached in the last stage
    double fold_step = 0.5;  // of its logarithm
  };
  explicit Curriculum(const Settings &settings);
  // From {"threshold", "recall": "digits|answers", "distance", "stretch", "fold", "fold_step", "stages": [{"segment",
  // "segments", "density": [least, greatest]}]}, where what is absent is as above. INVALID_ARGUMENT names a field that is wrong.
  static Curriculum parse(const nlohmann::json &description, const std::string &where);

  // Says, after a training step with answers across segments, which share of their digits, or of them whole, was right.
  // Not a number, or outside of [0, 1]: INVALID_ARGUMENT.
  void observe(double recall);
  bool whole_answers() const { return settings_.whole_answers; }  // what the share is of

  int segment() const { return settings_.stages[stage_].segment; }
  int segments() const { return settings_.stages[stage_].segments; }
  Difficulty difficulty() const;
  size_t stage() const { return stage_; }
  double recall() const { return recall_; }  // smoothed; lowered by each step, so that the next one waits for its proof
  bool complete() const;                     // nothing is left to make harder

  // The state as JSON. restore() throws FORMAT for one that is damaged or does not fit the settings; nothing has changed then.
  std::string save() const;
  void restore(const std::string &state);

 private:
  double whole() const { return static_cast<double>(segment()) * segments(); }

  Settings settings_;
  size_t stage_ = 0;
  double distance_, fold_ = 0, recall_ = 0;
  int64_t observed_ = 0;
};

}  // namespace infini
