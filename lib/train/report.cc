#include "train/report.h"

#include "base/number.h"

namespace infini {
namespace {

std::optional<double> mean(const Supervised &s) {
  return s.count > 0 ? std::optional(s.share / static_cast<double>(s.count)) : std::nullopt;
}

}  // namespace

std::optional<double> share_of(int64_t right, int64_t all) {
  return all > 0 ? std::optional(static_cast<double>(right) / static_cast<double>(all)) : std::nullopt;
}

std::optional<double> source_share(const Tally &tally) { return mean(tally.supervision.retrieval); }

JsonObject describe(const Trainer &trainer) {
  return JsonObject()
      .add("steps", trainer.steps())
      .add("tokens", trainer.tokens())
      .add("parameters", trainer.model().parameters())
      .add("trained_parameters", trainer.trained_parameters())
      .add("compute", name_of(trainer.compute()))
      .add("bytes", trainer.bytes())
      .add("segment", trainer.lengths().segment())
      .add("segments", trainer.lengths().segments())
      .add("rank", trainer.ranks().rank())
      .add("ranks", trainer.ranks().count())
      .add("gates", gate_weights(trainer))
      .add("training", JsonText{trainer.description()});
}

void train(Trainer &trainer, int64_t steps, Task *task, std::string &report) {
  if (steps < 0) fail(Status::INVALID_ARGUMENT, "steps is ", steps);
  if (task) task->begin("train", steps);
  for (int64_t i = 0; i < steps; ++i) {
    report = describe(trainer, trainer.step(task)).text();
    if (task) task->advance_to(i + 1);
  }
}

Reading::Reading(const Trainer &trainer, int sequences_, int segments_)
    : sequences(sequences_), segment(trainer.lengths().segment()),
      segments(segments_ > 0 ? segments_ : trainer.lengths().segments()) {
  if (sequences < 1 || segments_ < 0)
    fail(Status::INVALID_ARGUMENT, "sequences is ", sequences, ", segments is ", segments_);
}

JsonObject Reading::json() const {
  return JsonObject().add("segment", segment).add("segments", segments).add("sequences", sequences);
}

JsonObject describe(const Tally &tally) {
  return JsonObject()
      .add("loss", tally.weight > 0 ? std::optional(tally.loss / tally.weight) : std::nullopt)
      .add("predictions", tally.predictions)
      .add("recall_across", share_of(tally.across_right, tally.across))
      .add("answers_across", tally.across)
      .add("exact_across", share_of(tally.exact_across, tally.answers_across))
      .add("recall_inside", share_of(tally.inside_right, tally.inside))
      .add("answers_inside", tally.inside)
      .add("exact_inside", share_of(tally.exact_inside, tally.answers_inside))
      .add("source_share", source_share(tally))
      .add("subject_share", mean(tally.supervision.local));
}

JsonObject describe(const Trainer &trainer, const StepReport &report) {
  return JsonObject()
      .add("step", report.step)
      .add("tokens", trainer.tokens())
      .add("unknown_bytes", report.unknown_bytes)
      .add(describe(report.tally))
      .add("supervision", report.tally.supervision.retrieval.loss + report.tally.supervision.local.loss)
      .add("gradient_norm", report.gradient_norm)
      .add("rate_factor", report.rate_factor)
      .add("segment", trainer.lengths().segment())
      .add("segments", trainer.lengths().segments())
      .add("seconds", report.seconds)
      .add("tokens_per_second", static_cast<double>(report.tokens) / report.seconds);
}

std::vector<std::vector<double>> gate_weights(const Trainer &trainer) {
  const auto heads = static_cast<size_t>(trainer.model().config().heads);
  const std::vector<float> beta = trainer.gates();
  std::vector<std::vector<double>> weights(beta.size() / heads);
  for (size_t i = 0; i < beta.size(); ++i) weights[i / heads].push_back(sigmoid(beta[i]));
  return weights;
}

}  // namespace infini
