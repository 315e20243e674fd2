// Supervision of heads that recall values: carriers copy the name of a value to its tokens, heads of the memory
// retrieve these tokens by that name.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "adapt/recall_config.h"
#include "train/supervisor.h"

namespace infini {

// Offset of the token that the row predicts, where that is part of an answer; else -1.
inline int32_t asked_offset(const BatchLayout &layout, int64_t row) {
  return layout.answer[row] > 0 ? layout.tags[static_cast<size_t>(row) + 1].offset : -1;
}

// A head that has an offset retrieves the token at that offset of a value (Tag::offset) alone; in rows that ask for
// another one, or for none, it should retrieve nothing. Each kind of loss is a mean over its queries and heads.
class RecallSupervisor : public Supervisor {
 public:
  // INVALID_ARGUMENT for heads that the model does not have. Without a list of heads, those whose gates are open are
  // supervised. The model's configuration must outlive it.
  RecallSupervisor(const RecallSupervisor &) = delete;
  RecallSupervisor(const RecallConfig &config, const Config &model);

  bool supervises(int layer) const override;
  bool initialises(int layer) const override;
  // Of sequences that have tags, a sample of the rows that predict no answer and have no links.
  void choose_silent(const Sequence &sequence, BatchLayout &layout) const override;
  void begin_step() override { retrievals_ = silent_ = local_ = 0, asked_.clear(); }
  void count(const BatchLayout &layout) override;
  void end_count() override;
  const SupervisionWeights *step_weights() const override { return step_.any() ? &step_ : nullptr; }
  // Where retrieval is trained: 1 for each query of a supervised head.
  const SupervisionWeights *evaluation_weights() const override { return evaluation_.any() ? &evaluation_ : nullptr; }

  bool supervises(int layer, int head) const;
  bool supervises_locally(int layer, int head) const;
  // Of a supervised head of a trained layer; -1: it has none, and retrieves any token.
  int32_t offset(int layer, int head) const { return offsets_[at(layer, head)]; }
  // Whether v and o of the head are fitted before the first step (adapt/fit_heads.h).
  bool fits(int layer, int head) const;
  // As in SupervisionConfig.
  double fitted_norm() const { return config_.fitted_norm; }

 private:
  size_t at(int layer, int head) const { return static_cast<size_t>(layer * model_.heads + head); }
  void check_heads() const;
  template <class Chosen>
  std::vector<float> each_head(const Chosen &chosen) const;  // [layers][heads]: 1 where chosen(layer, head), else 0
  const SupervisedHead *find(int layer, int head) const;     // nullptr: it is not in the list

  class Weights : public SupervisionWeights {
   public:
    explicit Weights(const RecallSupervisor &of) : of_(of) {}
    bool any() const { return !retrievals.empty() || !locals.empty(); }
    bool supervises(int layer, int head) const override { return given(retrievals, layer, head) != 0; }
    bool supervises_locally(int layer, int head) const override { return given(locals, layer, head) != 0; }
    float retrieval(const BatchLayout &layout, const Retrieval &query, int layer, int head) const override;
    float silence(const BatchLayout &, int64_t, int layer, int head) const override {
      return given(silences, layer, head);
    }
    float local(const BatchLayout &, int64_t, int layer, int head) const override { return given(locals, layer, head); }
    std::vector<float> retrievals, silences, locals;  // [layers][heads], for a query whose weight is 1; empty: none

   private:
    float given(const std::vector<float> &weights, int layer, int head) const {
      return weights.empty() ? 0 : weights[of_.at(layer, head)];
    }
    const RecallSupervisor &of_;
  };

  const SupervisionConfig config_;
  const Config &model_;
  const TrainedPart part_;
  const LayerRange layers_;
  const std::vector<float> gates_;  // beta [layers][heads], before the first step
  std::vector<int32_t> offsets_;    // [layers][heads]
  // Of the step: the sum of the weights of retrievals, of all and by offset; silent rows; rows with a local target.
  double retrievals_ = 0, silent_ = 0, local_ = 0;
  std::map<int32_t, double> asked_;
  Weights step_{*this}, evaluation_{*this};
};

}  // namespace infini
