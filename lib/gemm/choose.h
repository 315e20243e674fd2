// Every choice that the processor decides: which library multiplies, in which numbers, and which way a product goes.
#pragma once

#include <string>

#include "gemm/weight_matrix.h"

namespace infini {

// What a processor multiplies with; kernels/cpu.h says what each is.
struct Cpu {
  bool byte_products = false, avx512 = false, avx512_bf16 = false, fast_bf16 = false, amx_bf16 = false;
  static Cpu here();
};

// For options "gemm", "compute" and "weights". The log says where what was asked for cannot be had.
GemmLibrary choose_library(const std::string &gemm, const Cpu &cpu);
NumberType choose_compute(const std::string &compute, const std::string &weights, GemmLibrary library, const Cpu &cpu);
// Of weights in blocks, if there are any; `floats` is what the others are multiplied in.
Compute choose_block_compute(const std::string &compute, bool any_blocks, NumberType floats);
// Whether weights can be kept in blocks.
bool keeps_blocks(const Cpu &cpu);
NumberType choose_training_compute(const std::string &compute, GemmLibrary library, const Cpu &cpu);

// The ways of products with panels of a type with an even or odd k. `onednn`: it has kernels for these panels, or,
// where they are widened, for f32.
ProductsByRows choose_ways(GemmLibrary library, NumberType type, bool even, bool onednn, const Cpu &cpu);
// Whether panels of bf16 are multiplied in f32.
bool widens(NumberType type, const Cpu &cpu);

}  // namespace infini
