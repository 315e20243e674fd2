// The settings of training: what of a model is trained, by which optimizer, on how many tokens a step.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "model/config.h"
#include "train/optimizer.h"

namespace infini {

class Fields;

// ATTENTION: q, k, v, o and gates. FEATURES: q and k, whose sigma are the memory's features. LORA: adapters and gates.
// RETRIEVAL: W_q and W_k of the layers of supervised heads; the supervision of retrievals is the only loss. The input
// of each layer comes from the base model, which does not change, so that layers are trained independently. What a hook
// has initialised of attention (Supervisor::initialises) is kept too.
enum class TrainedPart { ALL, ATTENTION, FEATURES, GATES, LORA, RETRIEVAL };

// Low-rank adapters (Hu et al., arXiv 2106.09685): W + alpha / rank * B A.
struct LoraConfig {
  int rank = 8;
  double alpha = 16;
  std::vector<std::string> targets = {"q", "k", "v", "o"};

  template <class Visitor>
  void fields(Visitor &v) {
    v("rank", rank, 1, 1024, "rows of A, columns of B");
    v("alpha", alpha, 1e-6, 1e6, "the product B A is scaled by alpha / rank");
    v("targets", targets, projection_choices().c_str(), "projections that have adapters");
  }
  void complete(const Fields &given);
};

struct HeadGate {
  int layer, head;  // -1: all
  double beta;      // may be -inf: shut
  auto columns() { return std::tie(layer, head, beta); }
};

// Whether an entry of such a list, in which -1 stands for all, is about the head.
template <class Row>
bool matches(const Row &row, int layer, int head) {
  return (row.layer < 0 || row.layer == layer) && (row.head < 0 || row.head == head);
}
// INVALID_ARGUMENT for a head that the model does not have. `field`: the setting that names it, for the message.
void check_head(const char *field, int layer, int head, const Config &model);
template <class Row>
void check_head(const char *field, const Row &row, const Config &model) {
  check_head(field, row.layer, row.head, model);
}

enum class HiddenRule { MUON, ADAMW };
enum class FirstSegment { MODEL, GATED, UNGATED };

struct TrainConfig {
  TrainedPart part = TrainedPart::ALL;
  int first_layer = 0, last_layer = -1;
  LoraConfig lora;
  HiddenRule hidden = HiddenRule::MUON;
  OptimizerConfig optimizer;
  int64_t tokens = 8192, drawn = 0;
  int repeat = 1;
  int64_t rows = 1024;
  int segment = 0, segments = 16;
  int carry = -1, sinks = -1;
  double epsilon = -1;
  FirstSegment first_segment = FirstSegment::MODEL;
  std::vector<HeadGate> gates;
  double feature_scale = 1;
  std::string compute = "auto";
  int64_t activations_mb = 1024;
  uint64_t seed = 1;

  // `supervision`: settings of a supervisor, which stand among these.
  template <class Visitor, class Supervision>
  void fields(Visitor &v, Supervision &&supervision) {
    constexpr double kMost = 1e9;
    v("train", part, "all|attention|features|gates|lora|retrieval",
      "what is trained; attention: q, k, v, o and gates; features: q and k; lora: adapters and gates; retrieval: q and "
      "k of the layers of supervised heads, by supervision alone, each layer fed by the model as it was, and v and o "
      "of heads that were fitted");
    v("layers", std::tie(first_layer, last_layer), -1, kMostLayers,
      "first and last layer that is trained; -1: the model's last; embedding, output and last norm are trained only if "
      "all layers are");
    v("lora", lora, "low-rank adapters, where train is lora");
    v("optimizer", hidden, "muon|adamw", "for hidden matrices; all other parameters are trained by AdamW");
    OptimizerConfig &o = optimizer;
    v("rate", o.rate, 0, 10, "learning rate of AdamW");
    v("muon_rate", o.muon_rate, 0, 10, "learning rate of Muon");
    v.otherwise(o.feature_rate, o.muon_rate);
    v("feature_rate", o.feature_rate, 0, 10, "learning rate of Muon for q and k; by default muon_rate");
    v.otherwise(o.gate_rate, 5 * o.rate);
    v("gate_rate", o.gate_rate, 0, 100, "learning rate of the gates; by default five times rate");
    v("decay", o.decay, 0, 10, "weight decay of AdamW");
    v("muon_decay", o.muon_decay, 0, 10, "weight decay of Muon");
    v("momentum", o.momentum, 0, 0.9999, "of Muon (Nesterov)");
    v("beta1", o.beta1, 0, 0.9999, "of AdamW: decay of the mean of the gradients");
    v("beta2", o.beta2, 0, 0.99999, "of AdamW: decay of the mean of their squares");
    v("clip", o.clip, 0, kMost, "greatest norm of all gradients together; 0: not clipped");
    Schedule &s = o.schedule;
    v("schedule", s.shape, "constant|cosine|linear", "how the learning rates fall");
    v("warmup", s.warmup, 0, kMost, "steps in which the rates rise");
    v("steps", s.total, 0, kMost, "where the schedule ends; 0: rates never fall");
    v("decay_from", s.decay_from, 0, 1, "share of steps after which the rates fall");
    v("floor", s.floor, 0, 1, "share of the rates that is left at the end");
    v("tokens", tokens, 1, 1 << 28, "tokens of a step");
    v("drawn", drawn, 0, 1 << 28,
      "tokens of a pool of sequences, which is drawn at once and read step by step; 0: a pool for each step");
    v("repeat", repeat, 1, 1000000,
      "epochs over the pool; above 1, the input of the lowest trained layer (for retrieval: of each supervised "
      "layer) is computed once and kept, which takes 4 bytes (for retrieval in bf16: 2) times the model's width a "
      "token");
    v("rows", rows, 1, 1 << 26, "tokens that go through the layers together, at least one sequence");
    v("segment", segment, 0, kMostWindow, "tokens of a segment; 0: as the model says");
    v("segments", segments, 1, 1 << 24, "segments of a sequence");
    v("carry", carry, -1, kMostWindow, "tokens before the segment that local attention sees; -1: as the model says");
    v("sinks", sinks, -1, kMostSinks, "first tokens that local attention always sees; -1: as the model says");
    v("epsilon", epsilon, -1, kMost,
      "added to the denominator of the retrieval: with 1, a head whose query matches nothing retrieves nearly 0; -1: "
      "as the model says");
    v("first_segment", first_segment, "model|gated|ungated", "whether gates are applied while the memory is empty");
    supervision.fields(v);
    v("gates", gates, 3, "[layer, head, beta]",
      "gates that are set before training, in this order; -1: all layers, heads; beta null: shut. Layers with a "
      "window of their own have none");
    v("feature_scale", feature_scale, 1e-3, 1e3, "factor on the weights of q and k before training");
    v("compute", compute, "auto|f32|bf16",
      "number type of matrix products; auto: bf16 where the processor is faster at it; all else is f32");
    v("activations_mb", activations_mb, 0, 1 << 30,
      "MiB of activations that are kept for the backward pass; where they would take more, they are computed twice");
    v("seed", seed, 0, 0x1p63, "of the random initial values of adapters, and of what fitted heads write");
  }
  void complete(const Fields &given);
};

struct LayerRange {
  int first, last;
  bool holds(int layer) const { return first <= layer && layer <= last; }
};
// The layers that are trained. INVALID_ARGUMENT where the model does not have them.
LayerRange trained_layers(const TrainConfig &config, const Config &model);
// beta [layers][heads] before the first step. INVALID_ARGUMENT for gates of heads that the model does not have.
std::vector<float> gates_at_start(const TrainConfig &config, const Config &model);

}  // namespace infini
