// What is measured before and after an adaptation: the mean loss over a held-out text, and recall across borders of
// segments.
#include "adapt/adaptation.h"
#include "stream/session.h"
#include "train/report.h"
#include "train/text_file.h"

namespace infini {

// Mean -ln p over the beginning of the held-out text, read as one stream.
std::optional<double> Adaptation::held_out_nll(const std::shared_ptr<const Model> &model, Task *task) const {
  if (settings_.held_out.empty()) return std::nullopt;
  Options options;
  if (options_.is_set("threads")) options.set("threads", options_.get_int("threads"));
  Session session(model, options);
  TextFile file(settings_.held_out);
  double total = 0;
  int64_t scored = 0;
  while (scored + 1 < settings_.held_out_tokens) {
    std::vector<int32_t> tokens;
    if (!file.next(model->tokenizer(), {.start = session.position() == 0, .unknown = UnknownText::SKIP}, tokens)) break;
    tokens.resize(std::min(tokens.size(), static_cast<size_t>(settings_.held_out_tokens - scored)));
    std::vector<float> nll(tokens.size());
    const size_t begin = session.position() == 0;  // the first has nothing before it
    session.score(tokens, nll.data(), task);
    for (size_t i = begin; i < nll.size(); ++i) total += static_cast<double>(nll[i]), ++scored;
  }
  if (scored == 0) fail(Status::INVALID_ARGUMENT, settings_.held_out, " holds no token that has another before it");
  return total / static_cast<double>(scored);
}

Adaptation::Measured Adaptation::measure(std::shared_ptr<const Model> model, Task *task) {
  Measured measured{held_out_nll(model, task), {}};
  if (no_task_) return measured;
  model = model->for_training();
  RecallTrainer trainer(model, plan().reading(), plan().asking(1, 1), nullptr, threads());
  for (const int64_t borders : settings_.borders) {
    int64_t right = 0, answers = 0;
    for (const int64_t names : {1, 4, 12}) {
      std::unique_ptr<SequenceSource> source;
      try {
        source = plan().asking(borders, names);
      } catch (const Error &error) {
        if (error.status() == Status::INVALID_ARGUMENT && names > 1) break;  // the vocabulary has fewer names
        throw;
      }
      const Tally seen =
          trainer.evaluate(*source, static_cast<int>(settings_.evaluate_sequences), static_cast<int>(settings_.segment),
                           static_cast<int>(plan().segments_of_asking(borders, names)), task);
      right += seen.across_right;
      answers += seen.across;
    }
    measured.recall.push_back(share_of(right, answers));
  }
  return measured;
}

}  // namespace infini
