// What the trainer shows of a model, and of what is drawn, to whoever searches it or begins its parameters.
#include "train/trainer.h"

namespace infini {

Tally Trainer::forward(const Layout &layout, const AttentionRules &rules, const Watch &watch) {
  const ThreadScope threads(model_->threads(), threads_);
  Purpose purpose;
  purpose.watch = &watch;
  backward_->set_rules(rules);
  return backward_->run(threads, layout, purpose);
}

void Trainer::initialise(const char *stage, Task *task, const std::function<void(Drawn &, Parameters &)> &hook) {
  if (steps() > 0) fail(Status::STATE, "parameters are initialised before the first step, but there were ", steps());
  const ThreadScope threads(model_->threads(), threads_);
  draw(task);
  Drawn drawn(threads, *this, stage, task);
  hook(drawn, parameters_);
  weights_changed(threads);
}

void Trainer::Drawn::each_layout(const std::function<void(const Layout &)> &f) {
  Trainer &t = trainer_;
  // Of several ranks each reads all, where its steps read a share.
  const bool keeps = t.config_.repeat > 1 && t.ranks_.count() == 1;
  const auto each = static_cast<int64_t>(t.sequences().size());
  if (task_) task_->begin(stage_, t.parts_);
  for (int64_t part = 0; part < t.parts_; ++part) {
    t.read_ = static_cast<size_t>(part * each);
    t.each_pass(0, each, [&](size_t pass) {
      if (task_ && task_->take_cancel())
        fail(Status::CANCELLED, "cancelled (", stage_, "); the parameters are as they were");
      t.backward_->set_rules(t.rules_for(t.drawn_segment_));
      key_ = keeps ? pass : kNoPass;
      f(t.layout_);
    });
    if (task_) task_->advance_to(part + 1);
  }
}

void Trainer::Drawn::forward(const Watch &watch) {
  Purpose purpose;
  purpose.watch = &watch;
  trainer_.backward_->run(threads_, trainer_.layout_, purpose);
}

void Trainer::Drawn::feed_supervised(const Backward::Fed &f) {
  trainer_.backward_->feed_taught(threads_, trainer_.layout_, key_, f);
}

}  // namespace infini
