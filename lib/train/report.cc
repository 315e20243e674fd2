#include "train/report.h"

#include <cmath>

namespace infini {
namespace {

using Json = nlohmann::ordered_json;

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(); }
Json mean(const Supervised &s) { return s.count > 0 ? Json(s.share / static_cast<double>(s.count)) : Json(); }

}  // namespace

Json share_of(int64_t right, int64_t all) {
  return all > 0 ? Json(static_cast<double>(right) / static_cast<double>(all)) : Json();
}

Json describe(const Tally &tally) {
  return {{"loss", tally.weight > 0 ? number(tally.loss / tally.weight) : Json()},
          {"predictions", tally.predictions},
          {"recall_across", share_of(tally.across_right, tally.across)},
          {"answers_across", tally.across},
          {"exact_across", share_of(tally.exact_across, tally.answers_across)},
          {"recall_inside", share_of(tally.inside_right, tally.inside)},
          {"answers_inside", tally.inside},
          {"exact_inside", share_of(tally.exact_inside, tally.answers_inside)},
          {"source_share", mean(tally.supervision.retrieval)},
          {"subject_share", mean(tally.supervision.local)}};
}

Json describe(const Trainer &trainer, const StepReport &report) {
  Json json = {{"step", report.step}, {"tokens", trainer.tokens()}};
  json.update(describe(report.tally));
  json.update({{"supervision", report.tally.supervision.retrieval.loss + report.tally.supervision.local.loss},
               {"gradient_norm", number(report.gradient_norm)},
               {"rate_factor", report.rate_factor},
               {"segment", trainer.lessons().segment()},
               {"segments", trainer.lessons().segments()},
               {"seconds", report.seconds},
               {"tokens_per_second", static_cast<double>(report.tokens) / report.seconds}});
  return json;
}

Json describe_gates(const Trainer &trainer) {
  const Config &config = trainer.model().config();
  const std::vector<float> beta = trainer.gates();
  Json gates = Json::array();
  for (int l = 0; l < config.layers; ++l) {
    gates.push_back(Json::array());
    for (int h = 0; h < config.heads; ++h)
      gates.back().push_back(1 / (1 + std::exp(-static_cast<double>(beta[static_cast<size_t>(l * config.heads + h)]))));
  }
  return gates;
}

}  // namespace infini
