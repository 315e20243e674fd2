// How hard the tasks are: first where the local window cannot help, then farther, longer and sparser, as recall allows.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

namespace infini {

class Fields;

// What a task looks at when it makes a sequence.
struct Difficulty {
  double distance = 0;  // tokens from a value to the question, at most; 0: the whole sequence
  double density_least = 0.7, density_greatest = 12;  // facts a thousand tokens, drawn log-uniformly for each sequence
  double fold = 0;                                    // of filler: its repeat weight is exp(U(0, fold))
};

class Curriculum {
 public:
  struct Stage {
    int segment = 64, segments = 16;
    double density_least = 0.7, density_greatest = 12;

    template <class Visitor>
    void fields(Visitor &v) {
      v("segment", segment, 1, 1 << 20, "tokens of a segment");
      v("segments", segments, 1, 1 << 20, "segments of a sequence");
      v("density", std::tie(density_least, density_greatest), 1e-6, 1000,
        "values in 1,000 tokens, at least and at most");
    }
    void complete(const Fields &given);
  };
  // Digits are learned sooner than whole answers, but deceive where values have names: most are given away by those before
  // them, whatever name was asked for.
  enum class Recall { DIGITS, ANSWERS };
  struct Settings {
    std::vector<Stage> stages = {{32, 4, 12, 24}, {32, 8, 12, 24}, {64, 16, 0.7, 12}};
    double threshold = 0.8;
    Recall recall = Recall::DIGITS;
    double distance = 48, stretch = 1.35, fold = 3000, fold_step = 0.5;

    template <class Visitor>
    void fields(Visitor &v) {
      v("threshold", threshold, 0, 1, "recall across segments from which the next step is taken");
      v("recall", recall, "digits|answers", "what it is of: digits, or whole answers");
      v("distance", distance, 1, 1e9, "tokens from a value to its question, at most, in the beginning");
      v("stretch", stretch, 1.001, 1e9, "its growth a step, until it is the whole sequence");
      v("fold", fold, 1, 1e12, "greatest virtual length of a segment of filler, reached in the last stage");
      v("fold_step", fold_step, 1e-3, 1e3, "growth of its logarithm a step");
      v("stages", stages, "which follow each other");
    }
    void complete(const Fields &given);
  };
  explicit Curriculum(const Settings &settings);
  // INVALID_ARGUMENT names a field that is wrong.
  static Curriculum parse(const nlohmann::json &description, const std::string &where);

  // Says, after a training step with answers across segments, which share of their digits, or of them whole, was right.
  // Not a number, or outside of [0, 1]: INVALID_ARGUMENT.
  void observe(double recall);
  bool whole_answers() const { return settings_.recall == Recall::ANSWERS; }  // what the share is of

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
