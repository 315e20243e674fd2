#include "gemm/choose.h"

#include "base/log.h"
#include "base/status.h"
#include "gemm/onednn.h"
#include "gemm/openblas.h"
#include "kernels/bf16_dot.h"
#include "kernels/cpu.h"

namespace infini {

Cpu Cpu::here() { return {has_byte_products(), has_avx512(), has_avx512_bf16(), has_fast_bf16(), has_amx_bf16()}; }

GemmLibrary choose_library(const std::string &gemm, const Cpu &cpu) {
  if (gemm == "openblas") {
    if (!kOpenBlas)
      fail(Status::UNSUPPORTED, "option 'gemm': this build of the library has no OpenBLAS; use auto or native");
    return GemmLibrary::OPENBLAS;
  }
  if (gemm == "onednn" && !OneDnn::is_there())
    fail(Status::UNSUPPORTED, "option 'gemm': this build of the library has no oneDNN; use auto or native");
  if (gemm == "native") return GemmLibrary::NATIVE;
  // Below AVX-512 oneDNN has no kernel for packed weights; ours is as fast as its plain product there.
  if (gemm == "onednn" || (kOneDnnByDefault && cpu.avx512)) return GemmLibrary::ONEDNN;
  return GemmLibrary::NATIVE;
}

NumberType choose_compute(const std::string &compute, const std::string &weights, GemmLibrary library, const Cpu &cpu) {
  if (compute == "f32" || (compute == "auto" && weights == "f32")) return NumberType::F32;
  const char *reason = nullptr;
  if (library == GemmLibrary::OPENBLAS) reason = "OpenBLAS multiplies f32 only";
  else if (library != GemmLibrary::NATIVE && !cpu.avx512_bf16)
    reason = "the processor has no bf16 products (AVX512_BF16)";
  else if (compute != "bf16" && !cpu.avx512_bf16) return NumberType::F32;
  if (!reason) return NumberType::BF16;
  if (compute == "bf16") log(LogLevel::WARNING, cat("compute falls back from bf16 to f32: ", reason));
  return NumberType::F32;
}

Compute choose_block_compute(const std::string &compute, bool any_blocks, NumberType floats) {
  if (any_blocks && (compute == "int8" || compute == "auto")) return Compute::INT8;
  if (compute == "int8")
    log(LogLevel::WARNING, "compute falls back from int8 to floats: no weights are kept in blocks of 8 bits or fewer");
  return floats == NumberType::F32 ? Compute::F32 : Compute::BF16;
}

// Without vectors of bytes blocks are no faster than floats.
bool keeps_blocks(const Cpu &cpu) { return cpu.byte_products; }

// bf16 where it was asked for, or where nothing was and the processor multiplies faster in it.
NumberType choose_training_compute(const std::string &compute, GemmLibrary library, const Cpu &cpu) {
  if (compute == "f32" || library == GemmLibrary::OPENBLAS) return NumberType::F32;
  if (compute == "auto" || compute == "int8") return cpu.fast_bf16 ? NumberType::BF16 : NumberType::F32;
  if (library == GemmLibrary::NATIVE || cpu.avx512_bf16) return NumberType::BF16;
  log(LogLevel::WARNING, "training computes in f32: the processor has no bf16 products (AVX512_BF16)");
  return NumberType::F32;
}

bool widens(NumberType type, const Cpu &cpu) { return type == NumberType::BF16 && !cpu.fast_bf16; }

ProductsByRows choose_ways(GemmLibrary library, NumberType type, bool even, bool onednn, const Cpu &cpu) {
  const bool f32 = type == NumberType::F32, wide = widens(type, cpu);
  Product many = Product::NATIVE;
  if (kOpenBlas && library == GemmLibrary::OPENBLAS && f32) many = Product::OPENBLAS;
  if (library == GemmLibrary::ONEDNN && onednn) many = wide ? Product::WIDENED : Product::ONEDNN;
  // One token, and a few, are a question of bytes read, which our kernels ask for ahead; with fast bf16 products
  // oneDNN's are ahead from a few rows on. Dot products of pairs want an even k.
  if (!f32 && even && cpu.avx512_bf16 && cpu.fast_bf16 && !cpu.amx_bf16 && library != GemmLibrary::NATIVE)
    return {Product::DOTS, kDotRows, many};
  return {Product::NATIVE, f32 || wide ? 16 : 4, many};
}

}  // namespace infini
