// Where the weights go that were fitted for heads of a layer: see regression.h.
#pragma once

#include <algorithm>
#include <vector>

#include "train/parameters.h"

namespace infini {

class FittedLayer {
 public:
  FittedLayer(Parameters &parameters, const Config &config, size_t layer)
      : parameters_(parameters), config_(config), indices_(parameters.layers()[layer]) {}

  // Rows [size][width] of a head of q, k or v, which have no bias.
  void set(Field weight, Field bias, int64_t head, int64_t size, const double *rows) {
    const int64_t n = size * config_.width;
    std::transform(rows, rows + n, parameters_.of(indices_[weight]) + head * n,
                   [](double x) { return static_cast<float>(x); });
    if (const size_t index = indices_[bias]; index != Parameters::kNone)
      std::fill_n(parameters_.of(index) + head * size, size, 0.0f);
  }
  // Columns of o of a query head: `directions` [value_size][width], what it adds to the residual stream for each number
  // that it retrieves.
  void set_output(int64_t head, const std::vector<float> &directions) {
    const int64_t values = config_.value_size, width = config_.width;
    float *const o = parameters_.of(indices_[Field::ATTENTION_OUTPUT]) + head * values;
    for (int64_t i = 0; i < width; ++i)
      for (int64_t j = 0; j < values; ++j) o[i * config_.heads * values + j] = directions[j * width + i];
  }

 private:
  Parameters &parameters_;
  const Config &config_;
  const Parameters::Layer &indices_;
};

}  // namespace infini
