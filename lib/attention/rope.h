// Rotary position embedding: angles in f64, because positions may run to billions.
#pragma once

#include <cstdint>
#include <vector>

namespace infini {

struct Rope {
  bool adjacent = true;           // pairs are (2i, 2i+1), else (i, i + dimensions / 2)
  int dimensions = 0;             // of a head that are rotated; the others stay as they are
  std::vector<double> frequency;  // [dimensions / 2] radians a position
  double magnitude = 1;           // what YaRN multiplies queries and keys by

  // cosine, sine [dimensions / 2] for a position, times the magnitude.
  void angles(int64_t position, float *cosine, float *sine) const;
  // A head of `size` rotated, everything times `scale`.
  void apply(const float *x, int size, const float *cosine, const float *sine, float scale, float *y) const;
};

}  // namespace infini
