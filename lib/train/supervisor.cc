#include "train/supervisor.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/status.h"

namespace infini {
namespace {

// A loss that is a mean over `count` queries and the chosen heads.
void scale_to_mean(std::vector<float> &chosen, double weight, double count) {
  const double heads = std::accumulate(chosen.begin(), chosen.end(), 0.0);
  for (float &w : chosen) w *= static_cast<float>(weight / (count * std::max(1.0, heads)));
}

}  // namespace

Supervisor::Supervisor(const TrainConfig &config, const Config &model, const float *gates)
    : config_(config), model_(model), gates_(gates),
      last_layer_(config.last_layer < 0 ? model.layers - 1 : config.last_layer) {
  check_heads();
  for (int l = 0; l < model.layers; ++l)
    for (int h = 0; h < model.heads; ++h) {
      const SupervisedHead *const head = trains(l) ? find(l, h) : nullptr;
      offsets_.push_back(head ? head->offset : -1);
    }
}

void Supervisor::check_heads() const {
  if (config_.first_layer > last_layer_ || last_layer_ >= model_.layers)
    fail(Status::INVALID_ARGUMENT, "train.layers is [", config_.first_layer, ", ", last_layer_,
         "], but the model has layers 0 to ", model_.layers - 1);
  const auto check_head = [&](const char *field, int layer, int head) {
    if (layer >= model_.layers || head >= model_.heads)
      fail(Status::INVALID_ARGUMENT, "train.", field, " names head ", head, " of layer ", layer, ", but the model has ",
           model_.layers, " layers of ", model_.heads, " heads");
  };
  for (const SupervisedHead &s : config_.supervised) {
    check_head("supervised", s.layer, s.head);
    if (s.layer >= 0 && !model_.plans[s.layer].has_memory())
      fail(Status::INVALID_ARGUMENT, "train.supervised names a head of layer ", s.layer,
           ", which has a window of its own and no memory");
  }
  for (const auto &[layer, head] : config_.local_supervised) {
    check_head("local_supervised", layer, head);
    if (config_.fitted_norm > 0 && layer >= 0 && !trains(layer))
      fail(Status::INVALID_ARGUMENT, "train.local_supervised names a head of layer ", layer,
           ", which is not trained: with hand_on its v and o change");
  }
  for (const HeadGate &g : config_.gates) check_head("gates", g.layer, g.head);
}

const SupervisedHead *Supervisor::find(int layer, int head) const {
  const auto found =
      std::ranges::find_if(config_.supervised, [&](const SupervisedHead &s) { return names(s, layer, head); });
  return found == config_.supervised.end() ? nullptr : &*found;
}

bool Supervisor::supervises(int layer, int head) const {
  if (!model_.plans[layer].has_memory()) return false;
  if (config_.supervised.empty()) return !std::isinf(gates_[layer * model_.heads + head]);
  return find(layer, head) != nullptr;
}

bool Supervisor::supervises_locally(int layer, int head) const {
  if (config_.fitted_norm > 0 && !trains(layer)) return false;  // of other layers v and o stay
  return std::ranges::any_of(config_.local_supervised, [&](const auto &s) { return names(s, layer, head); });
}

bool Supervisor::fits(int layer, int head) const {
  if (config_.part == TrainedPart::RETRIEVAL) return offset(layer, head) >= 0;
  return config_.fitted_norm > 0 && supervises_locally(layer, head);
}

template <class Chosen>
std::vector<float> Supervisor::each_head(const Chosen &chosen) const {
  std::vector<float> weights;
  for (int l = 0; l < model_.layers; ++l)
    for (int h = 0; h < model_.heads; ++h) weights.push_back(chosen(l, h) ? 1.0f : 0.0f);
  return weights;
}

void Supervisor::count(const BatchLayout &layout) {
  for (const Retrieval &r : layout.retrievals) {
    retrievals_ += static_cast<double>(r.weight);
    asked_[r.offset] += static_cast<double>(r.weight);
  }
  silent_ += static_cast<double>(layout.silent.size());
  local_ += static_cast<double>(layout.local_targets);
}

void Supervisor::end_count() {
  retrieval_weights_.clear();
  silence_weights_.clear();
  local_weights_.clear();
  if (config_.supervision > 0 && retrievals_ > 0) {
    retrieval_weights_ = each_head([&](int l, int h) { return supervises(l, h); });
    scale_to_mean(retrieval_weights_, config_.supervision, retrievals_);
    silence_weights_ = retrieval_weights_;
    for (size_t i = 0; i < offsets_.size(); ++i) {
      if (offsets_[i] < 0) {
        silence_weights_[i] = 0;
        continue;
      }
      // Its retrieval loss is a mean over the queries for its offset, its silence loss over all other supervised rows.
      const double own = asked_[offsets_[i]];
      silence_weights_[i] *=
          static_cast<float>(config_.silence * retrievals_ / std::max(1.0, retrievals_ + silent_ - own));
      retrieval_weights_[i] *= static_cast<float>(retrievals_ / std::max(1.0, own));
    }
  }
  if (config_.local_supervision > 0 && local_ > 0) {
    local_weights_ = each_head([&](int l, int h) { return supervises_locally(l, h); });
    scale_to_mean(local_weights_, config_.local_supervision, local_);
  }
}

SupervisionWeights Supervisor::weights() const {
  const auto given = [](const std::vector<float> &weights) { return weights.empty() ? nullptr : weights.data(); };
  return {.retrieval = given(retrieval_weights_),
          .silence = given(silence_weights_),
          .local = given(local_weights_),
          .offsets = offsets_.data()};
}

SupervisionWeights Supervisor::equal_weights() {
  SupervisionWeights weights;
  weights.offsets = offsets_.data();
  if (config_.part != TrainedPart::RETRIEVAL) return weights;
  equal_ = each_head([&](int l, int h) { return supervises(l, h); });
  weights.retrieval = equal_.data();
  return weights;
}

}  // namespace infini
