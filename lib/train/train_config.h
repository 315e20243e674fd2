// How a model is trained: what of it, by which optimizer, on how much at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "train/optimizer.h"

namespace infini {

// ATTENTION: q, k, v, o and gates. FEATURES: q and k, which make what the memory finds; for supervision alone. LORA:
// adapters and gates. RETRIEVAL: q and k of the supervised heads' layers, by supervision alone, each layer fed by the model
// as it was; and v and o of heads that fit_heads() makes.
enum class TrainedPart { ALL, ATTENTION, FEATURES, GATES, LORA, RETRIEVAL };

// Low-rank adapters (Hu et al., arXiv 2106.09685): W + alpha / rank * B A.
struct LoraConfig {
  int rank = 8;
  double alpha = 16;
  std::vector<std::string> targets = {"q", "k", "v", "o"};  // and "gate", "up", "down"
};

struct SupervisedHead {
  int layer, head;  // -1: all
  int offset = -1;  // the token of a value that it looks for, from 0; -1: all
};

struct HeadGate {
  int layer, head;  // -1: all
  double beta;      // may be -inf: shut
};

struct TrainConfig {
  TrainedPart part = TrainedPart::ALL;
  int first_layer = 0, last_layer = -1;  // of those trained; -1: the model's last
  LoraConfig lora;
  bool muon = true;  // for hidden matrices; else AdamW for everything
  OptimizerConfig optimizer;
  int64_t tokens = 8192;  // of a step
  int64_t drawn = 0;      // tokens that are drawn together and read by one step after another; 0: those of a step
  int repeat = 1;         // times that what was drawn is read
  int64_t rows = 1024;    // that go through the layers together, at least one sequence
  int segment = 0, segments = 16;  // of a sequence; 0: as the model says
  int carry = -1, sinks = -1;      // -1: as the model says
  double epsilon = -1;             // in the denominator of what the memory says; -1: as the model says
  std::string first_segment =
      "model";             // whether the gate is applied where the memory is empty: gated, ungated; model: as it says
  double supervision = 0;  // what attention supervision weighs in the loss, a retrieval and head
  std::vector<SupervisedHead> supervised;  // empty: every head whose gate is open
  double silence =
      0;  // what finding nothing weighs, beside supervision, of heads that have a place where it is not asked for
  double local_supervision =
      0;  // the same of local attention that is told to look at the name whose value is read or asked for
  std::vector<std::pair<int, int>> local_supervised;  // layer, head
  double hand_on =
      0;  // "features": length of what these write for the name that they look at, of that of the stream, once Trainer::fit_heads has made their v and o
  std::vector<HeadGate> gates;            // set before training, in order
  double feature_scale = 1;               // on q's and k's weights before training
  std::string compute = "auto";           // auto: bf16 where the processor is faster at it; f32; bf16
  int64_t keep_bytes = int64_t{1} << 30;  // of activations; where they would take more, they are computed again
  uint64_t seed = 1;                      // of LoRA's beginnings
};

// From JSON, {} being the above. INVALID_ARGUMENT names the field that is wrong or not known:
//   {"train": "all|attention|features|gates|lora|retrieval", "layers": [first, last], "lora": {"rank", "alpha", "targets": [...]},
//    "optimizer": "muon|adamw", "rate", "muon_rate", "feature_rate", "gate_rate", "decay", "muon_decay", "momentum", "beta1", "beta2",
//    "clip", "schedule": "constant|cosine|linear", "warmup", "steps", "decay_from", "floor",
//    "tokens", "drawn", "repeat", "rows", "segment", "segments", "carry", "sinks", "epsilon",
//    "first_segment": "model|gated|ungated", "supervision", "supervised": [[layer, head] or [layer, head, place], ...], "silence",
//    "local_supervision", "local_supervised": [[layer, head], ...], "hand_on",
//    "gates": [[layer, head, beta], ...] (-1: all; beta null: shut), "feature_scale", "compute", "keep_mb", "seed"}
TrainConfig parse_train_config(std::string_view json);
// The text back, every field: equal texts mean equal training.
std::string describe(const TrainConfig &config);

}  // namespace infini
