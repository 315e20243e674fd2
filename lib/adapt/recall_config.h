// The settings of a trainer whose attention is supervised to recall values: the object `training`.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "train/train_config.h"

namespace infini {

struct AttentionHead {
  int layer, head;  // -1: all
  auto columns() { return std::tie(layer, head); }
};

struct SupervisedHead {
  int layer, head;  // -1: all
  int offset = -1;  // the token of a value that it alone retrieves, from 0; -1: any
  auto columns() { return std::tie(layer, head, offset); }
};

// Which heads are supervised, and what that weighs.
struct SupervisionConfig {
  double supervision = 0;
  std::vector<SupervisedHead> supervised;
  double silence = 0, local_supervision = 0;
  std::vector<AttentionHead> local_supervised;
  double fitted_norm = 0;

  template <class Visitor>
  void fields(Visitor &v) {
    constexpr double kMost = 1e9;
    v("supervision", supervision, 0, kMost,
      "loss weight of supervised retrievals: the share of a retrieval that should come from where the answer stands; "
      "where retrieval is trained, 0 means 1");
    v("supervised", supervised, 2, "[layer, head] or [layer, head, offset]",
      "heads whose retrievals are supervised; none: all whose gate is open; -1: all layers, heads; offset: the head "
      "retrieves this one token of a value, 0 the first. Of entries for the same head the first counts");
    v("silence", silence, 0, kMost,
      "loss weight, a factor on supervision: heads that have an offset should retrieve nothing where it is not asked "
      "for; needs an epsilon above 0");
    v("local_supervision", local_supervision, 0, kMost,
      "loss weight of supervised local attention: the share that should fall on the target, where there is one");
    v("local_supervised", local_supervised, 2, "[layer, head]",
      "heads whose local attention is supervised; -1: all layers, heads");
    v("hand_on", fitted_norm, 0, kMost,
      "where features are trained: norm of what the local_supervised heads write for a target, relative to that of the "
      "residual stream, once their v and o are fitted; 0: they are not fitted");
  }
};

struct RecallConfig : TrainConfig, SupervisionConfig {
  template <class Visitor>
  void fields(Visitor &v) {
    TrainConfig::fields(v, static_cast<SupervisionConfig &>(*this));
  }
  void complete(const Fields &given);
};

// As JSON, every field: equal texts mean equal training.
std::string describe(const RecallConfig &config);

}  // namespace infini
