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
  int offset = -1;  // of the one token of a value that it retrieves, from 0; -1: it retrieves any
  auto columns() { return std::tie(layer, head, offset); }
};

// Which heads are supervised, and the weights of the losses.
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
      "loss weight of supervised retrievals, whose loss is minus the logarithm of the share that falls on where the "
      "answer stood; where retrieval is trained, 0 means 1");
    v("supervised", supervised, 2, "[layer, head] or [layer, head, offset]",
      "heads whose retrievals are supervised; none: all whose gate is open; -1: all layers, heads; offset: the head "
      "retrieves the token at this offset of a value alone, 0 the first. Of entries for the same head the first "
      "counts");
    v("silence", silence, 0, kMost,
      "loss weight, a factor on supervision: heads that have an offset should retrieve nothing in rows that do not ask "
      "for it; needs an epsilon above 0");
    v("local_supervision", local_supervision, 0, kMost,
      "loss weight of supervised local attention, whose loss is minus the logarithm of the share that falls on the "
      "target, where there is one");
    v("local_supervised", local_supervised, 2, "[layer, head]",
      "heads whose local attention is supervised; -1: all layers, heads");
    v("hand_on", fitted_norm, 0, kMost,
      "where features are trained: norm of what the local_supervised heads (carriers) write for a name, relative to "
      "the norm of the residual stream, once their v and o are fitted; 0: they are not fitted");
  }
};

struct RecallConfig : TrainConfig, SupervisionConfig {
  static constexpr const char *kName = "train";
  template <class Visitor>
  void fields(Visitor &v) {
    TrainConfig::fields(v, static_cast<SupervisionConfig &>(*this));
  }
  void complete(const Fields &given);
};

// As JSON, every field: equal texts mean equal training.
std::string describe(const RecallConfig &config);

}  // namespace infini
