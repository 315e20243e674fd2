// Runs of one measure.
#pragma once

#include <algorithm>
#include <vector>

namespace cli {

struct Runs {
  std::vector<double> values;

  double least() const { return *std::min_element(values.begin(), values.end()); }
  double greatest() const { return *std::max_element(values.begin(), values.end()); }
  double median() const {
    std::vector<double> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    return (sorted[(sorted.size() - 1) / 2] + sorted[sorted.size() / 2]) / 2;
  }
};

}  // namespace cli
