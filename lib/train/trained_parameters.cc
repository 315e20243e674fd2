#include "train/trained_parameters.h"

#include <algorithm>

namespace infini {
namespace {

// Whether `part` trains the parameter, of a layer in which retrievals are supervised, or attention is initialised.
bool trains_parameter(const TrainConfig &config, const Parameter &p, bool feature, bool supervised, bool initialised) {
  const bool attention = p.role == Role::ATTENTION;
  if (initialised && (attention || p.role == Role::BIAS)) return true;
  switch (config.part) {
    case TrainedPart::ALL: return true;
    case TrainedPart::ATTENTION: return attention;
    case TrainedPart::FEATURES: return feature;
    case TrainedPart::RETRIEVAL: return feature && supervised;
    default: return false;
  }
}

}  // namespace

bool is_frozen(const TrainConfig &config, const Supervisor &supervisor, const TensorSpec &spec) {
  if (config.part != TrainedPart::LORA && config.part != TrainedPart::GATES) return false;
  if (spec.role == Role::NORM || spec.role == Role::BIAS) return false;
  if (spec.role != Role::ATTENTION) return true;
  return !supervisor.initialises(spec.layer) && config.feature_scale == 1;
}

std::vector<bool> choose_trained(const TrainConfig &config, const LayerRange &layers, const Supervisor &supervisor,
                                 const Parameters &parameters) {
  std::vector<bool> trained(parameters.list().size(), false);
  for (int l = layers.first; l <= layers.last; ++l) {
    const Parameters::Layer &w = parameters.layers()[l];
    const bool supervised = supervisor.supervises(l), initialised = supervisor.initialises(l);
    for (const size_t index : w.all())
      trained[index] = trains_parameter(config, parameters[index], index == w[Field::Q] || index == w[Field::K],
                                        supervised, initialised);
  }
  const bool all_layers = layers.first == 0 && layers.last + 1 == static_cast<int>(parameters.layers().size());
  if (config.part == TrainedPart::ALL && all_layers)
    for (const size_t index : {parameters.embedding(), parameters.output(), parameters.output_norm()})
      trained[index] = true;
  trained[parameters.gates()] = config.part != TrainedPart::FEATURES && config.part != TrainedPart::RETRIEVAL;
  if (config.part == TrainedPart::RETRIEVAL && std::ranges::count(trained, true) == 0)
    fail(Status::INVALID_ARGUMENT,
         "train.supervised holds no head of the layers that are trained, and no gate is open");
  return trained;
}

std::vector<size_t> choose_adapted(const TrainConfig &config, const LayerRange &layers, const Parameters &parameters) {
  std::vector<size_t> adapted;
  for (int l = layers.first; config.part == TrainedPart::LORA && l <= layers.last; ++l)
    for (const size_t index : parameters.layers()[l].all())
      if (std::ranges::count(config.lora.targets, parameters[index].projection) > 0) adapted.push_back(index);
  return adapted;
}

std::vector<Variable> choose_variables(const TrainConfig &config, const Parameters &parameters,
                                       const std::vector<bool> &trained) {
  std::vector<Variable> variables;
  std::vector<bool> features(trained.size());
  for (const Parameters::Layer &w : parameters.layers()) features[w[Field::Q]] = features[w[Field::K]] = true;
  const bool features_alone = config.part == TrainedPart::RETRIEVAL || config.part == TrainedPart::FEATURES;
  for (size_t i = 0; i < trained.size(); ++i) {
    const Parameter &p = parameters[i];
    const bool hidden = p.role == Role::ATTENTION || p.role == Role::FEED_FORWARD;
    if (!trained[i] || (config.part == TrainedPart::LORA && hidden) || (features_alone && !features[i])) continue;
    const Variable::Rule rule = p.role == Role::MEMORY_GATE                     ? Variable::Rule::GATE
                                : config.hidden == HiddenRule::ADAMW || !hidden ? Variable::Rule::ADAM
                                : features[i]                                   ? Variable::Rule::FEATURES
                                                                                : Variable::Rule::MUON;
    // Beside Muon only hidden matrices decay, as in the recipe that was measured.
    variables.push_back(
        {p.offset, p.rows, p.columns, rule,
         hidden || (config.hidden == HiddenRule::ADAMW && (p.role == Role::EMBEDDING || p.role == Role::OUTPUT))});
  }
  return variables;
}

}  // namespace infini
