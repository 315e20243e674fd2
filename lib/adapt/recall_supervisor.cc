#include "adapt/recall_supervisor.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/status.h"

namespace infini {
namespace {

// One row in so many is an example of silence. It divides no usual segment, so that their positions in it vary.
constexpr size_t kSilentRows = 101;

// Offset of the token that a supervised query predicts; -1: it is part of no value.
int32_t offset_of(const BatchLayout &layout, const Retrieval &query) {
  return layout.tags[static_cast<size_t>(query.row) + 1].offset;
}

// Turns 1 for each chosen head into the weights of a loss that is a mean over `count` queries and these heads.
void scale_to_mean(std::vector<float> &chosen, double weight, double count) {
  const double heads = std::accumulate(chosen.begin(), chosen.end(), 0.0);
  for (float &w : chosen) w *= static_cast<float>(weight / (count * std::max(1.0, heads)));
}

}  // namespace

RecallSupervisor::RecallSupervisor(const RecallConfig &config, const Config &model)
    : config_(config), model_(model), part_(config.part), layers_(trained_layers(config, model)),
      gates_(gates_at_start(config, model)) {
  check_heads();
  for (int l = 0; l < model.layers; ++l)
    for (int h = 0; h < model.heads; ++h) {
      const SupervisedHead *const head = layers_.holds(l) ? find(l, h) : nullptr;
      offsets_.push_back(head ? head->offset : -1);
    }
  if (part_ == TrainedPart::RETRIEVAL)
    evaluation_.retrievals = each_head([&](int l, int h) { return supervises(l, h); });
}

void RecallSupervisor::check_heads() const {
  for (const SupervisedHead &s : config_.supervised) {
    check_head("supervised", s, model_);
    if (s.layer >= 0 && !model_.plans[s.layer].has_memory())
      fail(Status::INVALID_ARGUMENT, "train.supervised names a head of layer ", s.layer,
           ", which has a window of its own and no memory");
  }
  for (const AttentionHead &s : config_.local_supervised) {
    check_head("local_supervised", s, model_);
    if (config_.fitted_norm > 0 && s.layer >= 0 && !layers_.holds(s.layer))
      fail(Status::INVALID_ARGUMENT, "train.local_supervised names a head of layer ", s.layer,
           ", which is not trained: with hand_on its v and o change");
  }
}

const SupervisedHead *RecallSupervisor::find(int layer, int head) const {
  const auto found =
      std::ranges::find_if(config_.supervised, [&](const SupervisedHead &s) { return matches(s, layer, head); });
  return found == config_.supervised.end() ? nullptr : &*found;
}

bool RecallSupervisor::supervises(int layer, int head) const {
  if (!model_.plans[layer].has_memory()) return false;
  if (config_.supervised.empty()) return !std::isinf(gates_[at(layer, head)]);
  return find(layer, head) != nullptr;
}

bool RecallSupervisor::supervises_locally(int layer, int head) const {
  if (config_.fitted_norm > 0 && !layers_.holds(layer)) return false;  // v and o of other layers stay as they are
  return std::ranges::any_of(config_.local_supervised, [&](const auto &s) { return matches(s, layer, head); });
}

bool RecallSupervisor::fits(int layer, int head) const {
  if (part_ == TrainedPart::RETRIEVAL) return offset(layer, head) >= 0;
  return config_.fitted_norm > 0 && supervises_locally(layer, head);
}

bool RecallSupervisor::supervises(int layer) const {
  for (int h = 0; h < model_.heads; ++h)
    if (supervises(layer, h)) return true;
  return false;
}

bool RecallSupervisor::initialises(int layer) const {
  for (int h = 0; h < model_.heads; ++h)
    if (fits(layer, h)) return true;
  return false;
}

template <class Chosen>
std::vector<float> RecallSupervisor::each_head(const Chosen &chosen) const {
  std::vector<float> weights;
  for (int l = 0; l < model_.layers; ++l)
    for (int h = 0; h < model_.heads; ++h) weights.push_back(chosen(l, h) ? 1.0f : 0.0f);
  return weights;
}

void RecallSupervisor::choose_silent(const Sequence &sequence, BatchLayout &layout) const {
  if (sequence.tags.empty()) return;
  const int64_t first = layout.rows() - static_cast<int64_t>(sequence.tokens.size());
  for (size_t t = kSilentRows / 2; t < sequence.tokens.size(); t += kSilentRows) {
    const int64_t row = first + static_cast<int64_t>(t);
    const bool linked = layout.target[row] >= 0 && !sequence.links_of(static_cast<int32_t>(t) + 1).empty();
    if (layout.answer[row] == 0 && !linked) layout.silent.push_back(row);
  }
}

void RecallSupervisor::count(const BatchLayout &layout) {
  for (const Retrieval &r : layout.retrievals) {
    retrievals_ += static_cast<double>(r.weight);
    asked_[offset_of(layout, r)] += static_cast<double>(r.weight);
  }
  silent_ += static_cast<double>(layout.silent.size());
  local_ += static_cast<double>(layout.local_targets);
}

void RecallSupervisor::end_count() {
  step_.retrievals.clear();
  step_.silences.clear();
  step_.locals.clear();
  if (config_.supervision > 0 && retrievals_ > 0) {
    step_.retrievals = each_head([&](int l, int h) { return supervises(l, h); });
    scale_to_mean(step_.retrievals, config_.supervision, retrievals_);
    step_.silences = step_.retrievals;
    for (size_t i = 0; i < offsets_.size(); ++i) {
      if (offsets_[i] < 0) {
        step_.silences[i] = 0;
        continue;
      }
      // Its retrieval loss is a mean over the queries for its offset, its silence loss over all other supervised rows.
      const double own = asked_[offsets_[i]];
      step_.silences[i] *=
          static_cast<float>(config_.silence * retrievals_ / std::max(1.0, retrievals_ + silent_ - own));
      step_.retrievals[i] *= static_cast<float>(retrievals_ / std::max(1.0, own));
    }
  }
  if (config_.local_supervision > 0 && local_ > 0) {
    step_.locals = each_head([&](int l, int h) { return supervises_locally(l, h); });
    scale_to_mean(step_.locals, config_.local_supervision, local_);
  }
}

float RecallSupervisor::Weights::retrieval(const BatchLayout &layout, const Retrieval &query, int layer,
                                           int head) const {
  const int32_t offset = of_.offset(layer, head);
  return offset >= 0 && offset != offset_of(layout, query) ? 0 : given(retrievals, layer, head) * query.weight;
}

}  // namespace infini
