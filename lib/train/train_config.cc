#include "train/train_config.h"

#include "base/schema.h"

namespace infini {

void LoraConfig::complete(const Fields &given) {
  if (targets.empty()) given.refuse("targets", "a projection at least");
}

void TrainConfig::complete(const Fields &given) {
  if (first_layer < 0) given.refuse("layers", "[first, last]");
  if (epsilon < 0 && epsilon != -1) given.refuse("epsilon", "0 or more, or -1: as the model says");
  if (part == TrainedPart::RETRIEVAL && feature_scale != 1)
    given.refuse("feature_scale", "1 where retrieval is trained: the model feeds its layers as it was");
}

void check_head(const char *field, int layer, int head, const Config &model) {
  if (layer >= model.layers || head >= model.heads)
    fail(Status::INVALID_ARGUMENT, "train.", field, " names head ", head, " of layer ", layer, ", but the model has ",
         model.layers, " layers of ", model.heads, " heads");
}

LayerRange trained_layers(const TrainConfig &config, const Config &model) {
  const LayerRange layers{config.first_layer, config.last_layer < 0 ? model.layers - 1 : config.last_layer};
  if (layers.first > layers.last || layers.last >= model.layers)
    fail(Status::INVALID_ARGUMENT, "train.layers is [", layers.first, ", ", layers.last,
         "], but the model has layers 0 to ", model.layers - 1);
  return layers;
}

std::vector<float> gates_at_start(const TrainConfig &config, const Config &model) {
  std::vector<float> beta = model.memory.gate;
  for (const HeadGate &g : config.gates) {
    check_head("gates", g, model);
    for (int l = 0; l < model.layers; ++l)
      for (int h = 0; h < model.heads; ++h)
        if (matches(g, l, h) && model.plans[l].has_memory()) beta[l * model.heads + h] = static_cast<float>(g.beta);
  }
  return beta;
}

}  // namespace infini
