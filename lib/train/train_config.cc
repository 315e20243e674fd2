#include "train/train_config.h"

#include "base/json.h"
#include "base/schema.h"

namespace infini {

void LoraConfig::complete(const Fields &given) {
  if (targets.empty()) given.refuse("targets", "a projection at least");
}

void TrainConfig::complete(const Fields &given) {
  if (first_layer < 0) given.refuse("layers", "[first, last]");
  if (epsilon < 0 && epsilon != -1) given.refuse("epsilon", "0 or more, or -1: as the model says");
  if (local_supervision > 0 && local_supervised.empty())
    given.refuse("local_supervised", "[[layer, head], ...], which local_supervision needs");
  if (fitted_norm > 0 && (part != TrainedPart::FEATURES || local_supervised.empty()))
    given.refuse("hand_on", "0 unless \"features\" are trained and local_supervised holds heads");
  if (part != TrainedPart::RETRIEVAL) return;
  if (supervision == 0) supervision = 1;
  if (feature_scale != 1)
    given.refuse("feature_scale", "1 where retrieval is trained: the model feeds its layers as it was");
}

std::string describe(const TrainConfig &config) { return settings_json(config).text(); }

}  // namespace infini
