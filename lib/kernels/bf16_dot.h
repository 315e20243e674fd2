// Products of a few bf16 rows by AVX512_BF16. The plain reference is scalar::panel_product() of widened rows.
#pragma once

#include <cstdint>

namespace infini {

constexpr int kDotRows = 16;

// c[r, j] (+)= sum_i a[r * a_row + i] * b[i, j], as panel_product() of kernels.h has it, for 1 to kDotRows rows of bf16
// and an even k. Pairs along k are summed in f32, in order, so that a row of C depends on its row of A alone. Only
// where has_avx512_bf16().
void panel_dot(const uint16_t *a, int64_t a_row, int rows, const uint16_t *b, int64_t panel_stride, int64_t k,
               int64_t begin, int64_t end, float *c, int64_t c_row, bool accumulate);

}  // namespace infini
