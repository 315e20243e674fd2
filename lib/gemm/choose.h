// Every choice that the options and the processor decide, in one table: which library multiplies, how weights are kept,
// in which numbers their products are made, and which way a product goes.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <variant>

#include "base/number.h"
#include "kernels/blocks.h"

namespace infini {

// How a matrix of weights is kept: as floats in panels (kernels/panel.h), or at the bits of a file's blocks in strips
// (kernels/blocks.h).
using WeightFormat = std::variant<NumberType, BlockType>;

// What the products of a matrix are made in. INT8, of blocks alone: rows are rounded to bytes, a scale a block of 32.
// Else blocks are unpacked in the cache, exactly, to f32 or rounded to bf16.
enum class Compute : uint8_t { F32, BF16, INT8 };
constexpr Compute compute_in(NumberType type) { return type == NumberType::F32 ? Compute::F32 : Compute::BF16; }
// Of the rows that are multiplied: f32, before they are rounded to bytes.
constexpr NumberType rows_for(Compute compute) { return compute == Compute::BF16 ? NumberType::BF16 : NumberType::F32; }

enum class GemmLibrary : uint8_t { ONEDNN, OPENBLAS, NATIVE };

// Whether oneDNN multiplies unless something else is asked for: not in builds without it, or for sanitizers that do not
// know libgomp.
inline constexpr bool kOneDnnByDefault = INFINI_ONEDNN;

// As the options and what is said of a model name them.
const char *name_of(Compute compute);
const char *name_of(GemmLibrary library);

// What a processor multiplies with; kernels/cpu.h says what each is.
struct Cpu {
  bool byte_products = false, avx512 = false, avx512_bf16 = false, fast_bf16 = false, amx_bf16 = false;
  bool onednn_f32 = false, onednn_bf16 = false;  // oneDNN has fast kernels for panels of the type
  static Cpu here();
};

// What the options ask for. None: weights as their file has them, and what is best on the processor.
struct Asked {
  std::optional<WeightFormat> weights = {};
  std::optional<Compute> compute = {};
  std::optional<GemmLibrary> library = {};
};
// Reads the options of these names, whose choices were checked; UNSUPPORTED for a library that this build lacks.
Asked read_asked(std::string_view weights, std::string_view compute, std::string_view gemm);

// How products with panels are computed: those of up to `few_rows` rows, and of any number where rows must not depend
// on each other, one way, larger ones another; and those of a transposed matrix with plain rows.
enum class Product : uint8_t { NATIVE, DOTS, OPENBLAS, ONEDNN, WIDENED };
struct ProductsByRows {
  Product few;
  int64_t few_rows;
  Product many, transposed;
};

struct ProductChoice {
  GemmLibrary library;
  NumberType floats;  // of weights in panels, of what is multiplied with them, and of a window's keys and values
  bool keeps_blocks;  // else they become floats
  Compute of_blocks;
  NumberType training;                      // of the products of training
  const char *no_bf16;                      // why bf16 cannot be had; null: it can
  ProductsByRows f32, bf16_even, bf16_odd;  // panels of the type, with an even or odd k

  WeightFormat kept(WeightFormat wanted) const {
    return keeps_blocks && std::holds_alternative<BlockType>(wanted) ? wanted : WeightFormat(floats);
  }
  const ProductsByRows &products(NumberType type, int64_t k) const {
    return type == NumberType::F32 ? f32 : k % 2 == 0 ? bf16_even : bf16_odd;
  }
};
ProductChoice choose(const Asked &asked, const Cpu &cpu);

}  // namespace infini
