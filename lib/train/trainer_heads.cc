// What the trainer does with full attention: finds the heads that retrieve.
#include <algorithm>

#include "base/parallel.h"
#include "train/trainer.h"

namespace infini {

// One segment that is the whole sequence, whose empty memory no gate reads: the plain model.
AttentionRules Trainer::full_attention(int64_t tokens) const {
  AttentionRules rules = model_->weights().attention;
  rules.shape.segment = static_cast<int>(tokens);
  rules.shape.carry = rules.shape.sinks = 0;
  rules.first_gated = false;
  return rules;
}

HeadSearch Trainer::find_heads(SequenceSource &source, int sequences, int segment, int segments, Task *task) {
  const ThreadScope scope(model_->threads(), threads_);
  const Config &config = model_->config();
  const std::vector<double> none(static_cast<size_t>(config.layers * config.heads));
  HeadSearch found{config.layers, config.heads, none, none};
  size_t names = 0;
  if (task) task->begin("find heads", sequences);
  for (int i = 0; i < sequences; ++i) {
    if (task && task->take_cancel())
      fail(Status::CANCELLED, "finding heads was cancelled after ", i, " of ", sequences, " sequences");
    Sequence sequence = source.next(segment, segments);
    const std::vector<Lookup> values = value_lookups(sequence), subjects = name_lookups(sequence);
    for (size_t t = 0; t < sequence.weight.size(); ++t) sequence.weight[t] = sequence.answer[t] == 1 ? 1.0f : 0.0f;
    layout_.clear();
    layout_.add(sequence, segment, config.vocabulary);
    const Layout whole = layout_.whole();
    const Watch watch = [&](const LayerView &view) {
      const size_t first = view.layer * static_cast<size_t>(config.heads);
      add_lookup_weights(view.pass, values, found.value_weight.data() + first);
      add_lookup_weights(view.pass, subjects, found.name_weight.data() + first);
    };
    Purpose purpose;
    purpose.watch = &watch;
    backward_->set_rules(full_attention(whole.rows()));
    found.right += backward_->run(whole, purpose).across_right;
    found.lookups += static_cast<int64_t>(values.size());
    names += subjects.size();
    found.tokens += whole.rows();
    if (task) task->advance_to(i + 1);
  }
  layout_.clear();
  if (found.lookups == 0)
    fail(Status::INVALID_ARGUMENT,
         "the sequences hold no answer whose value stands in an earlier segment: heads cannot be found with them");
  for (double &weight : found.value_weight) weight /= static_cast<double>(found.lookups);
  for (double &weight : found.name_weight) weight /= static_cast<double>(std::max<size_t>(1, names));
  return found;
}

}  // namespace infini
