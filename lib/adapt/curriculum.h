// How hard recall tasks are. At first segments are short, and facts dense and near, but mostly out of the window's
// reach. As recall grows, distances grow, then sequences (stage by stage), then the virtual length of filler: the
// greatest factor by which a segment of filler counts in the memory (Sequence::repeat_weight).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "train/trainer.h"

namespace infini {

// What a recall task draws a sequence by.
struct Difficulty {
  double distance = 0;  // tokens from a value to the question, at most; 0: the whole sequence
  double density_least = 0.7, density_greatest = 12;  // facts a thousand tokens, drawn log-uniformly for each sequence
  double log_repeat = 0;                              // a segment of filler has the repeat weight exp(U(0, log_repeat))
};

class Curriculum : public SequenceLengths {
 public:
  struct Stage {
    int segment = 64, segments = 16;
    double density_least = 0.7, density_greatest = 12;

    template <class Visitor>
    void fields(Visitor &v) {
      v("segment", segment, 1, 1 << 20, "tokens of a segment");
      v("segments", segments, 1, 1 << 20, "segments of a sequence");
      v("density", std::tie(density_least, density_greatest), 1e-6, 1000,
        "facts in 1,000 tokens, at least and at most");
    }
    void complete(const Fields &given);
  };
  // The accuracy of digits rises before that of whole answers, but overstates recall where there are several names:
  // most digits can be predicted from those before them, whatever name was asked for.
  enum class Recall { DIGITS, ANSWERS };
  struct Settings {
    std::vector<Stage> stages = {{32, 4, 12, 24}, {32, 8, 12, 24}, {64, 16, 0.7, 12}};
    double threshold = 0.8;
    Recall recall = Recall::DIGITS;
    double distance = 48, stretch = 1.35, virtual_length = 3000, virtual_length_step = 0.5;

    template <class Visitor>
    void fields(Visitor &v) {
      v("threshold", threshold, 0, 1, "recall across segments above which sequences become harder");
      v("recall", recall, "digits|answers", "what recall counts: digits, or whole answers");
      v("distance", distance, 1, 1e9, "tokens from a value to its question, at most, in the beginning");
      v("stretch", stretch, 1.001, 1e9, "factor on distance each time, until it is the whole sequence");
      v("virtual_length", virtual_length, 1, 1e12,
        "greatest virtual length of a segment of filler, reached in the last stage");
      v("virtual_length_step", virtual_length_step, 1e-3, 1e3, "growth of its logarithm each time");
      v("stages", stages, "stages, one after the other");
    }
    void complete(const Fields &given);
  };
  explicit Curriculum(const Settings &settings);

  // To be called after a training step that had answers across segments, with the share of their digits, or of the
  // whole answers, that was right. INVALID_ARGUMENT outside of [0, 1].
  void observe(double recall);
  void observe(const Tally &seen) override;
  bool whole_answers() const { return settings_.recall == Recall::ANSWERS; }  // of which observe() takes the share

  int segment() const override { return settings_.stages[state_.stage].segment; }
  int segments() const override { return settings_.stages[state_.stage].segments; }
  Difficulty difficulty() const;
  size_t stage() const { return state_.stage; }
  bool complete() const;  // nothing is left to make harder

  // The state as JSON. restore() throws FORMAT for one that is damaged or does not fit the settings; nothing has
  // changed then.
  std::string save() const override;
  void restore(const std::string &state) override;

 private:
  double whole() const { return static_cast<double>(segment()) * segments(); }

  struct State {
    size_t stage = 0;
    double distance = 1, log_repeat = 0;
    double recall = 0;  // smoothed; each step lowers it, so that the next one must be earned
    int64_t observed = 0;

    template <class Visitor>
    void fields(Visitor &v) {
      v.required("stage", stage, 0, 0x1p50, "");
      v.required("distance", distance, 1, 1e300, "");
      v.required("fold", log_repeat, 0, 1e300, "");  // as checkpoints have always called it
      v.required("recall", recall, -1, 1, "");
      v.required("observed", observed, 0, 0x1p50, "");
    }
  };
  Settings settings_;
  State state_;
};

}  // namespace infini
