// What the processor can do. Kernels beside this file are written for families of processors; nothing outside this
// folder knows one, but for a pause in base/platform.cc. Tests limit what it says (base/testing.h).
#pragma once

namespace infini {

// "AVX3_ZEN4", "AVX2", ...: what the kernels run on, as Highway names it.
const char *instruction_set();
bool has_byte_products();  // of vectors: AVX2 or NEON
bool has_byte_dot();       // sums of four of them at once, in vectors as wide as the kernels use: VNNI, or ARM's
// All of these are false on other processors than x86.
bool has_avx512();
bool has_avx512_bf16();
bool has_amx_bf16();
// Whether bf16 products are faster than f32 ones: with AMX, or AMD's AVX512_BF16 (Intel's takes the time of f32).
bool has_fast_bf16();

}  // namespace infini
