// The numbers that describe a model, read from a GGUF file or given to create one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "attention/keep.h"
#include "base/options.h"
#include "format/gguf.h"
#include "memory/kind.h"
#include "model/plan.h"

namespace infini {

struct RopeConfig {
  int dimensions = 0;  // of a head that are rotated, even
  double base = 10000;
  double factor = 1;  // positions are divided by it (linear, yarn)
  bool yarn = false;
  int original_context = 0;
  double attention_factor = 1;
  double beta_fast = 32, beta_slow = 1;
  bool factors = true;  // frequencies are divided by the file's own factors, where it has some
};

struct MemoryConfig {
  int segment = 2048;  // N, tokens
  const MemoryKind *kind = &default_memory();
  bool first_segment_gated = true;  // an empty memory counts as A_mem = 0, else the gate is skipped
  float epsilon = kMemoryEpsilon;   // added to the denominator of (7)
  int carry = 0;                    // tokens before the segment that local attention sees
  int sinks = 0;                    // first tokens of the stream that local attention always sees
  int keep = 0;                     // tokens of sentences that stood out, which it sees for ever
  KeepProbe probe;                  // what sentences are worth; without weights of it, surprise tells
  bool trained = false;             // the file carries infini.version
  std::vector<float> gate;          // beta [layer][query head]; -inf: shut, as in every layer with a window
};

struct Config : HeadShape {
  const Architecture *architecture = nullptr;
  std::string name;  // general.name, may be empty
  int layers = 0;
  int width = 0;   // d_model
  int hidden = 0;  // of the feed-forward
  int vocabulary = 0;
  int context = 0;  // the longest window that the model was trained for
  float norm_epsilon = 1e-5f;
  float embedding_scale = 1, residual_scale = 1;  // of embeddings; of all that layers add to the residual stream
  float logit_scale = 1, logit_soft_cap = 0;      // logits are scaled, then cap * tanh(logit / cap); 0: no cap
  std::vector<LayerPlan> plans;                   // [layers]
  std::vector<RopeConfig> ropes;                  // that layers choose from
  MemoryConfig memory;

  int window() const { return memory.sinks + memory.keep + memory.carry + memory.segment; }
  float gate(int layer, int head) const { return memory.gate[static_cast<size_t>(layer) * heads + head]; }
  // sigmoid(beta); exactly 0 for a gate of minus infinity.
  float gate_weight(int layer, int head) const;
  // Whether some query head of the KV head reads the memory: otherwise it keeps none.
  bool has_memory(int layer, int kv_head) const;
};

inline constexpr char kTokenizerAlone[] = "the file is a tokenizer alone: it has no weights";

// Checks every value against the format and against the others. Options `memory`, `update`, `segment`,
// `carry`, `sinks` and `keep` replace what the file says. `with_tensors`: the file holds them too, else keys alone.
// STATE for a tokenizer alone.
Config read_config(const Gguf &gguf, const ModelOptions &options, bool with_tensors = true);

}  // namespace infini
