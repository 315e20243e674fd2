// A model's numbers, packed for this processor when it is opened. Read-only from then on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/task.h"
#include "gemm/weight_matrix.h"
#include "model/adapter.h"
#include "model/config.h"
#include "model/rules.h"

namespace infini {

// A vector that the layer's plan does not have is empty.
struct LayerWeights {
  std::vector<float> attention_norm;          // [width]
  WeightMatrix qkv;                           // [width, heads * key_size + kv_heads * (key_size + value_size)]
  std::vector<float> qkv_bias;                // [columns of qkv]
  std::vector<float> q_norm, k_norm;          // [key_size] of each head, or of all heads together
  WeightMatrix attention_output;              // [heads * value_size, width]
  std::vector<float> attention_output_bias;   // [width]
  std::vector<float> attention_post_norm;     // [width]
  std::vector<float> feed_forward_norm;       // [width]
  WeightMatrix gate_up;                       // [width, 2 * hidden]
  WeightMatrix down;                          // [hidden, width]
  std::vector<float> feed_forward_post_norm;  // [width]
  std::vector<float> gate_weight;             // [heads], sigmoid(beta)
  std::vector<float> keep_bias;               // [heads], added to scores of kept keys; empty: nothing is
};

struct Weights {
  // Packs the tensors of check_tensors(). FORMAT where a number is not finite; cancelling throws CANCELLED. `adapter`
  // may be null.
  Weights(const Threads &threads, const Gguf &gguf, const Config &config, const Rules &rules, const Adapter *adapter,
          Task *task);

  // Row `token` of the embedding, [width]: the file's own numbers.
  void embed(int32_t token, float *x) const;
  int64_t bytes() const { return bytes_; }
  NumberType rows_type() const { return rows_for(products); }  // of activations in products

  Compute products;             // of matrices in blocks, if there are any, else of all
  const GgufTensor *embedding;  // [width, vocabulary], in the file
  bool tied;                    // the output is the embedding
  std::vector<LayerWeights> layers;
  std::vector<float> output_norm;  // [width]
  WeightMatrix output;             // [width, vocabulary]

 private:
  int64_t bytes_ = 0;
};

}  // namespace infini
