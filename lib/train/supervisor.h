// Supervision of attention: which heads have targets, and what these weigh in the loss.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "train/batch_attention.h"
#include "train/batch_layout.h"
#include "train/train_config.h"

namespace infini {

// The targets themselves stand in the layout of a batch: source rows of each supervised retrieval
// (BatchLayout::retrievals), and one target a row for local attention (BatchLayout::local_target). This class says how
// much each counts, for each head. A head that has an offset retrieves that one token of a value alone; in other rows
// it should find nothing.
class Supervisor {
 public:
  // `gates`: beta [layers][heads] of the model that is trained, which must outlive it: without a list of heads, those
  // whose gates are open are supervised. INVALID_ARGUMENT for heads that the model does not have.
  Supervisor(const TrainConfig &config, const Config &model, const float *gates);

  bool trains(int layer) const { return config_.first_layer <= layer && layer <= last_layer_; }
  int last_layer() const { return last_layer_; }
  bool supervises(int layer, int head) const;
  bool supervises_locally(int layer, int head) const;
  // Of a supervised head of a trained layer; -1: it has none, and retrieves any token.
  int32_t offset(int layer, int head) const { return offsets_[layer * model_.heads + head]; }
  // Whether v and o of the head are set before the first step (Trainer::initialise), and are written with the model.
  bool fits(int layer, int head) const;

  // Loss weights of a step. Each kind of loss is a mean over its queries and heads, so all layouts of the step are
  // counted first: begin_step(), count() of each, end_count(); then weights().
  void begin_step() { retrievals_ = silent_ = local_ = 0, asked_.clear(); }
  void count(const BatchLayout &layout);
  void end_count();
  SupervisionWeights weights() const;
  // For evaluations: every supervised head's queries, each with a weight of 1.
  SupervisionWeights equal_weights();

 private:
  void check_heads() const;
  template <class Chosen>
  std::vector<float> each_head(const Chosen &chosen) const;  // [layers][heads]: 1 where chosen(layer, head), else 0
  const SupervisedHead *find(int layer, int head) const;     // nullptr: it is not in the list

  const TrainConfig &config_;
  const Config &model_;
  const float *const gates_;
  const int last_layer_;
  std::vector<int32_t> offsets_;
  // Of the step: retrievals by weight, all and by offset; silent rows; rows with a local target.
  double retrievals_ = 0, silent_ = 0, local_ = 0;
  std::map<int32_t, double> asked_;
  std::vector<float> retrieval_weights_, silence_weights_, local_weights_, equal_;  // [layers][heads]; empty: none
};

}  // namespace infini
