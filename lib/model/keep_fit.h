// Learning what is worth keeping: see KeepProbe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "base/task.h"
#include "model/model.h"

namespace infini {

class Fields;

// What is added to a head's scores of kept keys: KeepProbe::bias.
struct KeepBias {
  int layer, head;  // -1: all
  double nats;
  auto columns() { return std::tie(layer, head, nats); }
};

struct KeepFit {
  int layer = -1;
  double ridge = 0.1, stray = 0.01;
  std::vector<KeepBias> bias;
  double focus = 1;
  int standing = 64, threads = 0;

  template <class Visitor>
  void fields(Visitor &v) {
    v("layer", layer, -1, kMostLayers - 1,
      "behind which the probe reads, from 0; -1: after four sevenths of the layers");
    v("ridge", ridge, 1e-9, 1e6, "lambda of the regression, times the mean of the diagonal");
    v("stray", stray, 0, 0.99, "share of the sentences not worth keeping that may be kept");
    v("bias", bias, 3, "[layer, head, nats]", "nats, 100 at most, that heads add to the scores of kept keys");
    v("focus", focus, 0, 100,
      "nats that a kept sentence's scores lose, by these heads, for each nat that its best score is below the best "
      "sentence's");
    v("standing", standing, 0, 1 << 20,
      "in layers behind the probe, these heads raise sentences of the window too that would be kept, where they end so "
      "many tokens or more before the one that asks; 0: none");
    v("threads", threads, 0, kMostThreads, "0: as many as there are");
  }
};

// Reads a stream of tokens of which those with a `worth` other than 0 are worth keeping, through a model that keeps
// sentences (option "keep"), and fits a probe by ridge regression over its sentences, those worth keeping weighing as
// much as all the others. INVALID_ARGUMENT where the stream holds no sentence of either sort.
KeepProbe fit_keep(const Model &model, std::span<const int32_t> tokens, std::span<const uint8_t> worth,
                   const KeepFit &fit, Task *task);

struct KeepPiece {
  std::string text;
  bool keep = false;
  template <class Visitor>
  void fields(Visitor &v) {
    v("text", text, "", "of the stream");
    v("keep", keep, "it is worth keeping: a whole sentence, or several");
  }
};

// What infini_model_fit_keep is given.
struct KeepLesson : KeepFit {
  std::vector<KeepPiece> pieces;
  template <class Visitor>
  void fields(Visitor &v) {
    v("pieces", pieces,
      "one stream, in this order; some 100,000 tokens with 500 sentences worth keeping teach it. Must be there");
    KeepFit::fields(v);
  }
  void complete(const Fields &given) const;
};
// Writes the model with what the lesson teaches.
void fit_keep(const Model &model, const KeepLesson &lesson, const std::string &path, Task *task);

// The model's file with the probe in it.
Gguf with_probe(const Model &model, const KeepProbe &probe);

}  // namespace infini
