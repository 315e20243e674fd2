#include "gemm/choose.h"

#include <string>
#include <utility>

#include "base/status.h"
#include "gemm/onednn.h"
#include "gemm/openblas.h"
#include "kernels/bf16_dot.h"
#include "kernels/cpu.h"

namespace infini {
namespace {

// --- what options call things; what none of these names, such as auto, asks for nothing

constexpr std::pair<const char *, WeightFormat> kFormats[] = {
    {"f32", NumberType::F32}, {"bf16", NumberType::BF16}, {"q8_0", BlockType::Q8_0}, {"q4_0", BlockType::Q4_0}};
constexpr std::pair<const char *, Compute> kComputes[] = {
    {"f32", Compute::F32}, {"bf16", Compute::BF16}, {"int8", Compute::INT8}};
constexpr std::pair<const char *, GemmLibrary> kLibraries[] = {
    {"onednn", GemmLibrary::ONEDNN}, {"openblas", GemmLibrary::OPENBLAS}, {"native", GemmLibrary::NATIVE}};

template <class T, size_t N>
std::optional<T> named(const std::pair<const char *, T> (&table)[N], std::string_view name) {
  for (const auto &[its, value] : table)
    if (name == its) return value;
  return std::nullopt;
}
template <class T, size_t N>
const char *name_in(const std::pair<const char *, T> (&table)[N], T value) {
  for (const auto &[name, its] : table)
    if (value == its) return name;
  return "";
}

// --- the table, column by column

// Below AVX-512 oneDNN has no kernel for packed weights; ours is as fast as its plain product there.
GemmLibrary best_library(const Cpu &cpu) {
  return kOneDnnByDefault && cpu.avx512 ? GemmLibrary::ONEDNN : GemmLibrary::NATIVE;
}

const char *why_no_bf16(GemmLibrary library, const Cpu &cpu) {
  if (library == GemmLibrary::OPENBLAS) return "OpenBLAS multiplies f32 only";
  if (library == GemmLibrary::ONEDNN && !cpu.avx512_bf16) return "the processor has no bf16 products (AVX512_BF16)";
  return nullptr;
}

ProductsByRows products(GemmLibrary library, NumberType type, bool even, const Cpu &cpu) {
  const bool f32 = type == NumberType::F32, wide = !f32 && !cpu.fast_bf16;  // wide: bf16, multiplied in f32
  const bool blas = kOpenBlas && library == GemmLibrary::OPENBLAS && f32, onednn = library == GemmLibrary::ONEDNN;
  const Product plain = blas                                                 ? Product::OPENBLAS
                        : onednn && (f32 ? cpu.onednn_f32 : cpu.onednn_bf16) ? Product::ONEDNN
                                                                             : Product::NATIVE;
  const Product many = !wide ? plain : onednn && cpu.onednn_f32 ? Product::WIDENED : Product::NATIVE;
  // One token, and a few, are a question of bytes read, which our kernels ask for ahead; with fast bf16 products
  // oneDNN's are ahead from a few rows on. Dot products of pairs want an even k.
  if (!f32 && even && cpu.avx512_bf16 && cpu.fast_bf16 && !cpu.amx_bf16 && library != GemmLibrary::NATIVE)
    return {Product::DOTS, kDotRows, many, plain};
  return {Product::NATIVE, f32 || wide ? 16 : 4, many, plain};
}

}  // namespace

const char *name_of(Compute compute) { return name_in(kComputes, compute); }
const char *name_of(GemmLibrary library) { return name_in(kLibraries, library); }

Cpu Cpu::here() {
  return {has_byte_products(),
          has_avx512(),
          has_avx512_bf16(),
          has_fast_bf16(),
          has_amx_bf16(),
          OneDnn::supports(NumberType::F32),
          OneDnn::supports(NumberType::BF16)};
}

Asked read_asked(std::string_view weights, std::string_view compute, std::string_view gemm) {
  const Asked asked{named(kFormats, weights), named(kComputes, compute), named(kLibraries, gemm)};
  const auto refuse = [](const char *missing) {
    fail(Status::UNSUPPORTED, "option 'gemm': this build of the library has no ", missing, "; use auto or native");
  };
  if (asked.library == GemmLibrary::OPENBLAS && !kOpenBlas) refuse("OpenBLAS");
  if (asked.library == GemmLibrary::ONEDNN && !OneDnn::is_there()) refuse("oneDNN");
  return asked;
}

ProductChoice choose(const Asked &asked, const Cpu &cpu) {
  const GemmLibrary library = asked.library.value_or(best_library(cpu));
  const char *const no_bf16 = why_no_bf16(library, cpu);
  // bf16 where it was asked for, or where nothing else was and it pays.
  const auto numbers = [&](bool pays) {
    const bool wanted = asked.compute == Compute::BF16 || (asked.compute != Compute::F32 && pays);
    return wanted && !no_bf16 ? NumberType::BF16 : NumberType::F32;
  };
  const bool kept_f32 = !asked.compute && asked.weights == WeightFormat(NumberType::F32);
  const NumberType floats = numbers(cpu.avx512_bf16 && !kept_f32);
  return {.library = library,
          .floats = floats,
          .keeps_blocks = cpu.byte_products,  // without vectors of bytes blocks are no faster than floats
          .of_blocks = asked.compute.value_or(Compute::INT8) == Compute::INT8 ? Compute::INT8 : compute_in(floats),
          .training = numbers(cpu.fast_bf16),
          .no_bf16 = no_bf16,
          .f32 = products(library, NumberType::F32, true, cpu),
          .bf16_even = products(library, NumberType::BF16, true, cpu),
          .bf16_odd = products(library, NumberType::BF16, false, cpu)};
}

}  // namespace infini
