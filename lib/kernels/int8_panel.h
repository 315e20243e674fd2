// Panels of int8 with a scale for each column or row, as a window may hold keys and values: half the bytes of bf16. The
// plain reference of the product is that of kernels.h.
#pragma once

#include <cstdint>

#include "kernels/panel.h"

namespace infini {

// panel_product() of kernels.h, of the numbers without their scales.
void panel_product(const float *a, int64_t a_row, int64_t a_column, int rows, const int8_t *b, int64_t panel_stride,
                   int64_t k, int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate);

// y[i] = the whole number nearest to x[i] / scale, and returns the scale: the largest |x[i]| / 127; below 1e-30 all y
// are 0. Of numbers that are not all finite the scale is NaN.
float to_int8(const float *x, int64_t n, int8_t *y);

// The first k rows of a panel, of rows in fours, as f32 or bf16: each column j times scale[j], or each row i times
// scale[i]. Rows k to round_up(k, 4) are written too.
enum class ScaleOf { COLUMN, ROW };
void widen_panel(const int8_t *x, int64_t k, ScaleOf of, const float *scale, float *y);
void widen_panel(const int8_t *x, int64_t k, ScaleOf of, const float *scale, uint16_t *y);

void multiply(const float *scale, int64_t n, float *y);  // y *= scale

}  // namespace infini
