// What a trainer offers to a search for heads and to hooks that initialise parameters.
#include "train/trainer.h"

namespace infini {

Tally Trainer::forward(const BatchLayout &layout, const AttentionRules &rules, const LayerObserver &observer) {
  check_whole();
  const ThreadScope threads(model_->threads(), threads_);
  graph_->set_rules(rules);
  return graph_->observe(threads, layout, observer);
}

void Trainer::initialise(const char *stage, Task *task, const std::function<void(Drawn &, Parameters &)> &hook) {
  check_whole();
  if (steps() > 0) fail(Status::STATE, "parameters are initialised before the first step, but there were ", steps());
  const ThreadScope threads(model_->threads(), threads_);
  begin_step(task);
  Drawn drawn(threads, *this, stage, task);
  hook(drawn, parameters_);
  const Change change(*this);
  weights_changed(threads);
}

void Trainer::Drawn::each_layout(const std::function<void(const BatchLayout &)> &f) {
  Trainer &t = trainer_;
  // On several ranks each reads all sequences here, and in its steps only a share of them.
  const bool keeps = t.config_.repeat > 1 && t.ranks_.count() == 1;
  const auto each = static_cast<int64_t>(t.sequences().size());
  if (task_) task_->begin(stage_, t.pool_.steps());
  for (int64_t step = 0; step < t.pool_.steps(); ++step) {
    t.each_batch(step, 0, each, [&](size_t cache_key) {
      if (task_ && task_->take_cancel())
        fail(Status::CANCELLED, "cancelled (", stage_, "); the parameters are as they were");
      t.graph_->set_rules(t.rules_for(t.pool_.segment()));
      key_ = keeps ? cache_key : kUncached;
      f(t.layout_);
    });
    if (task_) task_->advance_to(step + 1);
  }
}

void Trainer::Drawn::forward(const LayerObserver &observer) {
  trainer_.graph_->observe(threads_, trainer_.layout_, observer);
}

void Trainer::Drawn::each_retrieval_input(const TrainingGraph::NormedInput &f) {
  trainer_.graph_->each_retrieval_input(threads_, trainer_.layout_, key_, f);
}

}  // namespace infini
