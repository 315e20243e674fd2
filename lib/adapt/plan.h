// The phases of an adaptation: what each trains, and on which sequences.
#pragma once

#include <memory>
#include <vector>

#include "adapt/head_search.h"
#include "adapt/recall_config.h"
#include "adapt/settings.h"
#include "adapt/recall_source.h"

namespace infini {

// Which heads learn what.
struct AdaptHeads {
  // Of one layer: they attend from the digits of a value to its name, and copy the name there.
  std::vector<AttentionHead> carriers;
  std::vector<SupervisedHead> memory;  // of layers above it, ascending: each retrieves the digit of its offset
  int first = 0, last = -1;            // layers that are trained end to end
};
// Carriers are in the layer below the lowest retrieval head (settings.share). no_heads() where the model has too few
// layers for a group of heads for every digit of a value, or its heads can't be fitted.
AdaptHeads choose_heads(const HeadSearch &found, const Config &model, const AdaptSettings &settings);
// Where there are no retrieval heads: the upper half of the layers is trained, and no head is supervised.
AdaptHeads no_heads(const Config &model, const AdaptSettings &settings);

struct PhasePlan {
  RecallConfig config;
  std::unique_ptr<SequenceSource> source;
};

// segment, carry and names of `settings` must be numbers, not the values that stand for a default. The tokenizer and
// the cache must outlive the plan. `compute`: as in RecallConfig.
class AdaptPlan {
 public:
  AdaptPlan(const Tokenizer &tokenizer, const AdaptSettings &settings, std::string compute, TokenCache &cache)
      : tokenizer_(tokenizer), settings_(settings), compute_(std::move(compute)), cache_(cache) {}
  // INVALID_ARGUMENT where sequences have no room for a fact and a question.
  void check_room() const;
  // The search for retrieval heads.
  PhasePlan finding() const;
  // The carriers. No token has a loss weight: local attention alone is supervised.
  PhasePlan carriers(const AdaptHeads &heads) const;
  // The heads of the memory in one layer. Sequences with as many facts as there is room for, anywhere or at the very
  // start, and sequences with few facts.
  PhasePlan teaching(const AdaptHeads &heads, int layer) const;
  // Gates and projections, end to end.
  PhasePlan training(const AdaptHeads &heads, const Config &model) const;
  // To measure recall: the configuration of a trainer that only evaluates, and sequences with facts at the beginning
  // and questions at the end, with at least `borders` borders of segments between them.
  RecallConfig reading() const;
  std::unique_ptr<SequenceSource> asking(int64_t borders, int64_t names) const;
  int64_t segments_of_asking(int64_t borders, int64_t names) const;

 private:
  using Source = std::unique_ptr<SequenceSource>;
  RecallConfig window(int64_t segments) const;
  RecallConfig common(int64_t segments, int64_t sequences) const;
  RecallTask recall(double least, double greatest) const;
  RecallTask asked(int64_t names, int64_t questions, double deepest) const;
  RecallTask one_asked() const;
  Source source(RecallTask task, int64_t number) const;
  uint64_t seed(int64_t number) const { return static_cast<uint64_t>(settings_.seed + number); }
  int64_t teaching_segments() const { return std::max<int64_t>(2, settings_.segments * 7 / 12); }

  const Tokenizer &tokenizer_;
  const AdaptSettings settings_;
  const std::string compute_;
  TokenCache &cache_;
};

}  // namespace infini
