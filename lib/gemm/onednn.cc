#include "gemm/onednn.h"

#if INFINI_HAS_ONEDNN

#include <dnnl.hpp>

#include <array>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string>

#include "base/status.h"

namespace infini {
namespace {

using dnnl::memory;

struct Kernel {
  dnnl::matmul primitive;  // empty where oneDNN would be slow
  memory::desc a, b, c, scratch;
};

memory::data_type type_of(NumberType type) {
  return type == NumberType::F32 ? memory::data_type::f32 : memory::data_type::bf16;
}

// Completes a kernel that has the descriptors of a, b and c.
Kernel make_kernel(const dnnl::engine &engine, Kernel kernel, bool accumulate) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  try {
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc description(engine, kernel.a, kernel.b, kernel.c, attributes);
#else
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(kernel.a, kernel.b, kernel.c), attributes,
                                                   engine);
#endif
    // Whatever is not a brgemm kernel is a reference loop or repacks the weights at each call.
    if (std::string(description.impl_info_str()).rfind("brg", 0) != 0) return kernel;
    kernel.scratch = description.scratchpad_desc();
    kernel.primitive = dnnl::matmul(description);
  } catch (const dnnl::error &error) {
    if (error.status == dnnl_out_of_memory) throw std::bad_alloc();
    kernel.primitive = {};  // not supported on this processor
  }
  return kernel;
}

// What a kernel is for: type, whether A is read transposed and B plain, rows, k, n, strides of a, b and c, whether
// it accumulates.
using Key = std::array<int64_t, 9>;

Key packed_key(NumberType type, int64_t rows, int64_t k, int64_t n, int64_t a_row, int64_t c_row, bool accumulate) {
  return {static_cast<int64_t>(type), false, rows, k, n, a_row, 0, c_row, accumulate};
}

Kernel make_kernel(const dnnl::engine &engine, const Key &key) {
  const auto [number_type, transposed, rows, k, n, a_row, b_row, c_row, accumulate] = key;
  const auto type = static_cast<NumberType>(number_type);
  Kernel kernel;
  kernel.a = memory::desc({rows, k}, type_of(type), transposed ? memory::dims{1, a_row} : memory::dims{a_row, 1});
  kernel.b = transposed ? memory::desc({k, n}, type_of(type), memory::dims{b_row, 1})
                        : memory::desc(
                              {k, n}, type_of(type),
                              type == NumberType::F32 ? memory::format_tag::BA16a64b : memory::format_tag::BA16a64b2a);
  kernel.c = memory::desc({rows, n}, memory::data_type::f32, memory::dims{c_row, 1});
  return make_kernel(engine, kernel, accumulate != 0);
}

}  // namespace

struct OneDnn::Cache {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  std::map<Key, Kernel> kernels;
  std::shared_mutex mutex;

  const Kernel &find(const Key &key) {
    {
      std::shared_lock lock(mutex);
      if (const auto found = kernels.find(key); found != kernels.end()) return found->second;
    }
    std::unique_lock lock(mutex);
    if (const auto found = kernels.find(key); found != kernels.end()) return found->second;
    Kernel made = make_kernel(engine, key);                          // which may throw
    return kernels.try_emplace(key, std::move(made)).first->second;  // a map's elements never move
  }

  void execute(const Kernel &kernel, ScratchPool &scratch, const void *a, const void *b, float *c) const {
    ScratchPool::Loan loan(scratch, static_cast<int64_t>(kernel.scratch.get_size()));
    try {
      // oneDNN takes pointers to data that it does not change.
      const auto at = [&](const memory::desc &desc, const void *data) {
        return memory(desc, engine, const_cast<void *>(data));
      };
      dnnl::stream stream(engine);
      kernel.primitive.execute(stream, {{DNNL_ARG_SRC, at(kernel.a, a)},
                                        {DNNL_ARG_WEIGHTS, at(kernel.b, b)},
                                        {DNNL_ARG_DST, at(kernel.c, c)},
                                        {DNNL_ARG_SCRATCHPAD, at(kernel.scratch, loan.at<char>())}});
      stream.wait();
    } catch (const dnnl::error &error) {
      fail(error.status == dnnl_out_of_memory ? Status::OUT_OF_MEMORY : Status::INTERNAL, "oneDNN: ", error.message);
    }
  }
};

bool OneDnn::is_there() { return true; }
OneDnn::OneDnn() : cache_(std::make_unique<Cache>()) {}
OneDnn::~OneDnn() = default;

bool OneDnn::supports(NumberType type) {
  const auto makes = [](NumberType of) {
    const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    return static_cast<bool>(make_kernel(engine, packed_key(of, 16, 64, 64, 64, 64, false)).primitive);
  };
  static const bool f32 = makes(NumberType::F32), bf16 = makes(NumberType::BF16);
  return type == NumberType::F32 ? f32 : bf16;
}

bool OneDnn::multiply(ScratchPool &scratch, const ConstRows &a, int64_t rows, const Panels &b, float *c, int64_t c_row,
                      bool accumulate) const {
  // Panels that are further apart than their own rows need, as a window's are, go one by one.
  if (b.n > kPanel && b.stride != panel_size(padded_k(b.type, b.k))) {
    for (int64_t j = 0; j < b.n; j += kPanel) {
      if (!multiply(scratch, a, rows, b.columns(j, j + kPanel), c + j, c_row, accumulate)) return false;
    }
    return true;
  }
  const Kernel &kernel = cache_->find(packed_key(b.type, rows, b.k, b.n, a.stride, c_row, accumulate));
  if (!kernel.primitive) return false;
  cache_->execute(kernel, scratch, a.data, b.data, c);
  return true;
}

bool OneDnn::multiply_transposed(ScratchPool &scratch, const ConstRows &a, const ConstRows &b, int64_t rows,
                                 int64_t a_columns, int64_t b_columns, float *c, bool accumulate) const {
  const Kernel &kernel = cache_->find(
      {static_cast<int64_t>(a.type), true, a_columns, rows, b_columns, a.stride, b.stride, b_columns, accumulate});
  if (!kernel.primitive) return false;
  cache_->execute(kernel, scratch, a.data, b.data, c);
  return true;
}

}  // namespace infini

#else

namespace infini {

struct OneDnn::Cache {};
bool OneDnn::is_there() { return false; }
OneDnn::OneDnn() = default;
OneDnn::~OneDnn() = default;
bool OneDnn::supports(NumberType) { return false; }
bool OneDnn::multiply(ScratchPool &, const ConstRows &, int64_t, const Panels &, float *, int64_t, bool) const {
  return false;
}
bool OneDnn::multiply_transposed(ScratchPool &, const ConstRows &, const ConstRows &, int64_t, int64_t, int64_t,
                                 float *, bool) const {
  return false;
}

}  // namespace infini

#endif
