// How a model is computed, as its configuration, the options and the processor decide: its attention layer by layer,
// and the library and the numbers of its products.
#pragma once

#include <vector>

#include "attention/attention.h"
#include "gemm/gemm.h"
#include "model/config.h"

namespace infini {

struct Rules {
  // Reads factors of the rotation. INVALID_ARGUMENT or UNSUPPORTED for options that this build or processor refuses.
  Rules(const Gguf &gguf, const Config &config, const ModelOptions &options);

  Asked asked;
  ProductChoice choice;
  std::vector<Rope> ropes;   // as Config::ropes
  AttentionRules attention;  // of a layer that has a memory and the first rotation; segment, carry, sinks of all
  std::vector<AttentionRules> kinds;  // what layers differ in: window, rotation, scale, soft cap
  const AttentionRules &of(size_t layer) const { return kinds[kind_[layer]]; }

 private:
  std::vector<size_t> kind_;  // [layers], in kinds
};

}  // namespace infini
