// Supervision of attention: which heads have targets, and what these weigh in the loss.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "train/attend_streams.h"
#include "train/layout.h"
#include "train/train_config.h"

namespace infini {

// For every query row of a layout: its source rows (Layout::retrievals), and a head at a time the query's weight. A head
// with a digit index retrieves one token of a value alone; in other rows it should find nothing. Local attention has one
// target a row.
class Supervisor {
 public:
  // `gates`: beta [layers][heads] of the model that is trained, which must outlive it: without a list of heads, those whose
  // gates are open are supervised. INVALID_ARGUMENT for heads that the model does not have.
  Supervisor(const TrainConfig &config, const Config &model, const float *gates);

  bool trains(int layer) const { return config_.first_layer <= layer && layer <= last_layer_; }
  int last_layer() const { return last_layer_; }
  bool supervises(int layer, int head) const;
  bool supervises_locally(int layer, int head) const;
  // [layers][heads]: the digit index of a supervised head of a trained layer; -1: all.
  const std::vector<int32_t> &offsets() const { return offsets_; }

  // Loss weights of a step: each kind of loss is a mean over its queries and heads, so all layouts of the step are counted
  // first.
  void begin_step() { retrievals_ = quiet_ = local_ = 0, asked_.clear(); }
  void count(const Layout &layout);
  void end_count();
  HeadTargets targets() const;
  // Where nothing is trained: every supervised head's queries, each with a weight of 1.
  HeadTargets equal_targets();

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
  // Of the step: retrievals by weight, all and by digit index; quiet rows; rows with a local target.
  double retrievals_ = 0, quiet_ = 0, local_ = 0;
  std::map<int32_t, double> asked_;
  std::vector<float> retrieval_weights_, silence_weights_, local_weights_, equal_;  // [layers][heads]; empty: none
};

}  // namespace infini
