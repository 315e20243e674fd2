#include "ceiling.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <dnnl.hpp>
#include <new>
#include <thread>
#include <unordered_map>

#if INFINI_OPENMP  // on which Debian's oneDNN runs
#include <omp.h>
#endif

#include "progress.h"

namespace cli {
namespace {

dnnl::matmul::primitive_desc describe(const dnnl::engine &engine, const ProductShape &shape, bool bf16) {
  using Memory = dnnl::memory;
  const auto type = bf16 ? Memory::data_type::bf16 : Memory::data_type::f32;
  const bool batched = shape.batch > 1;
  const auto plain = batched ? Memory::format_tag::abc : Memory::format_tag::ab;
  const auto dims = [&](int64_t rows, int64_t columns) {
    return batched ? Memory::dims{shape.batch, rows, columns} : Memory::dims{rows, columns};
  };
  const Memory::desc source(dims(shape.rows, shape.inner), type, plain);
  const Memory::desc weights(dims(shape.inner, shape.columns), type, Memory::format_tag::any);
  const Memory::desc result(dims(shape.rows, shape.columns), Memory::data_type::f32, plain);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
#if DNNL_VERSION_MAJOR >= 3
  return dnnl::matmul::primitive_desc(engine, source, weights, result, attributes);
#else
  return dnnl::matmul::primitive_desc(dnnl::matmul::desc(source, weights, result), attributes, engine);
#endif
}

bool has_bf16(const dnnl::engine &engine) {
  try {
    describe(engine, {1, 16, 64, 64}, true);
    return true;
  } catch (const dnnl::error &error) {
    if (error.status != dnnl_unimplemented) throw;
    return false;
  }
}

// The sum of `count` groups of 64 bytes. Its value is of no interest, but the compiler must not know that.
using Lanes [[gnu::vector_size(64)]] = uint64_t;
#define SUM_LANES(NAME, TARGET)                                               \
  TARGET uint64_t NAME(const Lanes *groups, size_t count) {                   \
    Lanes sums[8] = {};                                                       \
    size_t i = 0;                                                             \
    for (; i + 8 <= count; i += 8)                                            \
      for (size_t lane = 0; lane < 8; ++lane) sums[lane] += groups[i + lane]; \
    for (; i < count; ++i) sums[0] += groups[i];                              \
    for (size_t lane = 1; lane < 8; ++lane) sums[0] += sums[lane];            \
    return sums[0][0] + sums[0][7];                                           \
  }
SUM_LANES(sum_lanes, )
#if defined(__x86_64__)
SUM_LANES(sum_lanes_avx2, __attribute__((target("avx2"))))
SUM_LANES(sum_lanes_avx512, __attribute__((target("avx512f"))))
#endif
#undef SUM_LANES

using SumLanes = uint64_t (*)(const Lanes *, size_t);

SumLanes fastest_sum() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return sum_lanes_avx512;
  if (__builtin_cpu_supports("avx2")) return sum_lanes_avx2;
#endif
  return sum_lanes;
}

}  // namespace

Bytes::Bytes(size_t size) : size_(size) {
  constexpr size_t kLargePage = size_t{1} << 21;
  const size_t rounded = (size + kLargePage - 1) / kLargePage * kLargePage;
  data_ = std::aligned_alloc(kLargePage, std::max(rounded, kLargePage));
  if (!data_) throw std::bad_alloc();
  madvise(data_, rounded, MADV_HUGEPAGE);
  std::fill_n(static_cast<char *>(data_), rounded, '\0');
}

Bytes::~Bytes() { std::free(data_); }

struct Products::Data {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::vector<Bytes> buffers;
  struct Product {
    dnnl::matmul primitive;
    std::vector<std::unordered_map<int, dnnl::memory>> arguments;  // one a copy
  };
  std::vector<Product> products;

  dnnl::memory allocate(const dnnl::memory::desc &description) {
    buffers.emplace_back(description.get_size());
    // As f32 and as bf16 a small normal number.
    uint16_t *const values = static_cast<uint16_t *>(buffers.back().data());
    std::fill_n(values, buffers.back().size() / 2, uint16_t{0x3c00});
    return dnnl::memory(description, engine, values);
  }
};

Products::Products(const std::vector<ProductShape> &shapes, bool bf16, int copies) : data_(new Data) {
  bf16 = bf16 && has_bf16(data_->engine);
  for (const ProductShape &shape : shapes) {
    const dnnl::matmul::primitive_desc description = describe(data_->engine, shape, bf16);
    Data::Product product{dnnl::matmul(description), {}};
    const dnnl::memory source = data_->allocate(description.src_desc());
    const dnnl::memory result = data_->allocate(description.dst_desc());
    const dnnl::memory scratch = data_->allocate(description.scratchpad_desc());
    for (int copy = 0; copy < copies; ++copy)
      product.arguments.push_back({{DNNL_ARG_SRC, source},
                                   {DNNL_ARG_WEIGHTS, data_->allocate(description.weights_desc())},
                                   {DNNL_ARG_DST, result},
                                   {DNNL_ARG_SCRATCHPAD, scratch}});
    data_->products.push_back(std::move(product));
  }
  std::vector<double> first;
  run(first);  // the first use of a primitive is slower
}

Products::~Products() = default;
Products::Products(Products &&) noexcept = default;

void Products::run(std::vector<double> &rounds) const {
  for (size_t copy = 0; copy < data_->products.front().arguments.size(); ++copy) {
    const Stopwatch watch;
    for (const Data::Product &product : data_->products)
      product.primitive.execute(data_->stream, product.arguments[copy]);
    data_->stream.wait();
    rounds.push_back(watch.seconds());
  }
}

void set_product_threads([[maybe_unused]] int threads) {
#if INFINI_OPENMP
  omp_set_num_threads(threads);
#endif
}

double read_bandwidth(const Bytes &buffer, int threads) {
  static const SumLanes sum = fastest_sum();
  const auto *groups = static_cast<const Lanes *>(buffer.data());
  const int64_t count = static_cast<int64_t>(buffer.size() / sizeof(Lanes));
  std::atomic<uint64_t> total{0};
  const Stopwatch watch;
  const auto read = [&](int piece) {
    const int64_t begin = count * piece / threads, end = count * (piece + 1) / threads;
    total += sum(groups + begin, static_cast<size_t>(end - begin));
  };
  {
    std::vector<std::jthread> others;
    for (int piece = 1; piece < threads; ++piece) others.emplace_back(read, piece);
    read(0);
  }
  const double seconds = watch.seconds();
  [[maybe_unused]] static volatile uint64_t sink;
  sink = total;
  return static_cast<double>(buffer.size()) / seconds;
}

}  // namespace cli
