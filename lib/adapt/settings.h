// The settings of an adaptation: of each phase how long it is, and at which rates it trains.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/limits.h"

namespace infini {

struct AdaptSettings {
  std::vector<std::string> texts;
  std::string held_out, checkpoint;
  std::string part = "attention", type = "f16";
  int64_t segment = 0, segments = 12, carry = -1, sinks = 4;
  double share = 0.5, least = 0.05;
  std::vector<int64_t> layers;
  int64_t find_sequences = 8, carrier_steps = 60, teach_sequences = 800, teach_steps = 300, steps = 250;
  int64_t names = 16;
  double carrier_rate = 0.03, carrier_size = 0.25, teach_rate = 0.1, nats = 8, rate = 0.003, gate_rate = 0.01,
         text_ratio = 0.5, virtual_length = 3000;
  int64_t seed = 1, checkpoint_every = 25, evaluate_sequences = 2, held_out_tokens = 8192;
  std::vector<int64_t> borders = {1, 2, 4, 8, 16, 32, 64};

  template <class Visitor>
  void fields(Visitor &v) {
    constexpr double kMost = 1e9;
    v.required("texts", texts, "", "files of plain text to train on");
    v("held_out", held_out, "",
      "a text that is not trained on: perplexity is measured on it, and facts are hidden in it");
    v("checkpoint", checkpoint, "",
      "the names of the files that hold progress begin with this path; empty: none is saved");
    v("checkpoint_every", checkpoint_every, 1, kMost, "steps after which these files are written");
    v("part", part, "attention|gates|lora|all", "what is trained end to end");
    v("type", type, "f16|f32|bf16", "number type of trained matrices when the model is measured and written");
    v("segment", segment, 0, 1 << 20, "tokens; 0: 128, or a quarter of the context");
    v("segments", segments, 2, 1 << 20, "of a sequence");
    v("carry", carry, -1, 1 << 20, "tokens before a segment that local attention sees; -1: three segments");
    v("sinks", sinks, 0, kMostSinks, "first tokens that local attention always sees");
    v("share", share, 0, 1,
      "retrieval heads are those whose mean attention to the value that is asked for is at least this share of the "
      "greatest of any head");
    v("least", least, 0, 1, "least such attention of any head; below it the model learns from plain text alone");
    v("layers", layers, 0, kMostLayers,
      "first and last layer that are trained end to end; by default a quarter of them, from the lowest supervised head "
      "on");
    v("find_sequences", find_sequences, 1, kMost, "sequences in which retrieval heads are searched for");
    v("carrier_steps", carrier_steps, 1, kMost,
      "phase carriers: steps in which carriers learn to attend from a digit to the name of its value");
    v("carrier_rate", carrier_rate, 0, 10, "Muon's rate in them");
    v("carrier_size", carrier_size, 0, kMost,
      "norm of what carriers write for a name, relative to the norm of the residual stream; 0: they write what the "
      "model's own v and o make of it");
    v("teach_sequences", teach_sequences, 1, kMost,
      "phase teach: sequences on which heads of the memory are supervised, layer by layer; the inputs of a layer are "
      "stored, which takes 2 bytes (f32: 4) times the model's width a token");
    v("teach_steps", teach_steps, 1, kMost, "steps of it, for each layer");
    v("teach_rate", teach_rate, 0, 10, "Muon's rate in them");
    v("names", names, 1, 1000, "names that values have in recall tasks, at most; fewer where the vocabulary has fewer");
    v("nats", nats, 1e-6, 1e6, "what fitted heads add to the logit of the digit that they retrieve");
    v("virtual_length", virtual_length, 1, kMost, "a segment of filler counts in the memory as up to so many segments");
    v("steps", steps, 1, kMost, "phase train: steps of training end to end");
    v("rate", rate, 1e-9, 10, "Muon's rate in them; AdamW's is a third of it");
    v("gate_rate", gate_rate, 0, 10, "of the gates");
    v("text_ratio", text_ratio, 0, 1, "share of sequences that are plain text, which keeps the perplexity");
    v("seed", seed, 0, 9e18, "of what is drawn");
    v("borders", borders, 1, kMost, "of segments, across which recall is measured");
    v("evaluate_sequences", evaluate_sequences, 1, kMost, "sequences for each distance and number of names");
    v("held_out_tokens", held_out_tokens, 1, kMost, "of the held-out text that are scored");
  }
};

}  // namespace infini
