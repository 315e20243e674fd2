// What each stage of an adaptation trains, and on what.
#pragma once

#include <memory>
#include <vector>

#include "adapt/head_search.h"
#include "adapt/settings.h"
#include "adapt/tasks.h"
#include "train/train_config.h"

namespace infini {

// Which heads learn what.
struct AdaptHeads {
  std::vector<AttentionHead> carriers;  // of one layer, attend from a digit to its name
  std::vector<SupervisedHead> memory;   // of layers above it, ascending: find the digit of their offset
  int first = 0, last = -1;             // layers that are trained end to end
};
// Carriers stand below the heads above the share of the heaviest. As no_heads() where the model has too few layers for every
// digit of a value.
AdaptHeads choose_heads(const HeadSearch &found, const Config &model, const AdaptSettings &settings);
// Where there is none: the layers' upper half, and no heads.
AdaptHeads no_heads(const Config &model, const AdaptSettings &settings);

struct StagePlan {
  TrainConfig config;
  std::unique_ptr<SequenceSource> source;
};

// `settings` have a window (segment, carry) and names by now; the tokenizer and the shelf must outlive the plan. `compute`: as
// in TrainConfig.
class AdaptPlan {
 public:
  AdaptPlan(const Tokenizer &tokenizer, const AdaptSettings &settings, std::string compute, ProseShelf &shelf)
      : tokenizer_(tokenizer), settings_(settings), compute_(std::move(compute)), shelf_(shelf) {}
  // INVALID_ARGUMENT where sequences have no room for a fact and a question.
  void check_room() const;
  StagePlan finding() const;
  // Nothing is predicted: local attention alone is supervised.
  StagePlan carrying(const AdaptHeads &heads) const;
  // Dense sequences: with as many names as there is room for, whose values stand anywhere or at the very start; and with few.
  StagePlan teaching(const AdaptHeads &heads, int layer) const;
  StagePlan training(const AdaptHeads &heads, const Config &model) const;
  // A trainer that only reads: facts at the beginning, questions at the end, so many borders at least between them.
  TrainConfig reading() const;
  std::unique_ptr<SequenceSource> asking(int64_t borders, int64_t names) const;
  int64_t segments_of_asking(int64_t borders, int64_t names) const;

 private:
  using Source = std::unique_ptr<SequenceSource>;
  TrainConfig window(int64_t segments) const;
  TrainConfig common(int64_t segments, int64_t sequences) const;
  TaskSettings recall(double least, double greatest) const;
  TaskSettings asked(int64_t names, int64_t questions, double deepest) const;
  TaskSettings one_asked() const;
  Source task(TaskSettings task, int64_t number) const;
  Source mixture(std::vector<std::pair<double, Source>> parts, int64_t number) const;
  uint64_t seed(int64_t number) const { return static_cast<uint64_t>(settings_.seed + number); }
  int64_t teaching_segments() const { return std::max<int64_t>(2, settings_.segments * 7 / 12); }

  const Tokenizer &tokenizer_;
  const AdaptSettings settings_;
  const std::string compute_;
  ProseShelf &shelf_;
};

}  // namespace infini
