#include "adapt/recall_config.h"

#include "base/json.h"
#include "base/schema.h"

namespace infini {

void RecallConfig::complete(const Fields &given) {
  TrainConfig::complete(given);
  if (local_supervision > 0 && local_supervised.empty())
    given.refuse("local_supervised", "[[layer, head], ...], which local_supervision needs");
  if (fitted_norm > 0 && (part != TrainedPart::FEATURES || local_supervised.empty()))
    given.refuse("hand_on", "0 unless \"features\" are trained and local_supervised holds heads");
  if (part == TrainedPart::RETRIEVAL && supervision == 0) supervision = 1;
}

std::string describe(const RecallConfig &config) { return settings_json(config).text(); }

}  // namespace infini
