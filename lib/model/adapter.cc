#include "model/adapter.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/number.h"
#include "base/status.h"
#include "model/config.h"

namespace infini {
namespace {

constexpr int64_t kMostRank = 4096;
constexpr const char *kDown = ".lora_a", *kUp = ".lora_b";

void check_kind(const Gguf &gguf, const Config &config) {
  const std::string type = gguf.get_string("adapter.type", "");
  if (type != "lora")
    fail(type.empty() ? Status::FORMAT : Status::UNSUPPORTED,
         type.empty() ? std::string("the file is no adapter: it has no key 'adapter.type'")
                      : cat("the adapter is of type '", type, "', but only lora is known"));
  if (gguf.find("adapter.alora.invocation_tokens"))
    fail(Status::UNSUPPORTED, "the adapter waits for invocation tokens (aLoRA), which is not known");
  const std::string architecture = gguf.get_string("general.architecture", "");
  if (architecture != config.architecture->name)
    fail(Status::MODEL_MISMATCH, "the adapter is for architecture '", architecture, "', but the model is of '",
         config.architecture->name, "'");
}

}  // namespace

Adapter::Adapter(Gguf gguf, double weight, const Config &config) : gguf_(std::move(gguf)), weight_(weight) {
  check_kind(gguf_, config);
  alpha_ = gguf_.get_double("adapter.lora.alpha", 0);
  if (!std::isfinite(alpha_)) fail(Status::FORMAT, "key 'adapter.lora.alpha' is ", alpha_);
  std::set<const GgufTensor *> used;
  // Takes what the file has for the tensor `name` of `rows` rows, of which those of `spec` begin at `first`.
  const auto take = [&](const TensorSpec &spec, const std::string &name, int64_t rows, int64_t first) {
    const GgufTensor *const a = gguf_.find_tensor(name + kDown), *const b = gguf_.find_tensor(name + kUp);
    if (!a && !b) return;
    if (!a || !b) fail(Status::FORMAT, "the adapter has '", name, a ? kDown : kUp, "' without '", a ? kUp : kDown, "'");
    const int64_t rank = a->rows();  // 1 may stand for itself, or not at all
    if (a->shape.size() > 2 || a->shape[0] != spec.columns || b->shape != std::vector{rank, rows}) return;
    if (rank > kMostRank) fail(Status::UNSUPPORTED, "the adapter's rank is ", rank, ", more than ", kMostRank);
    if (!pairs_.try_emplace(spec.name, Pair{{a, 0, rank}, {b, first, spec.rows}}).second)
      fail(Status::FORMAT, "the adapter changes '", spec.name, "' twice");
    used.insert({a, b});
  };
  for (const TensorSpec &spec : tensor_table(config)) {
    if (spec.role == Role::NORM || spec.role == Role::BIAS || spec.role == Role::EMBEDDING) continue;
    take(spec, spec.name, spec.rows, 0);
    if (!spec.fused.empty()) take(spec, spec.fused, spec.fused_rows, spec.fused_first);
  }
  for (const GgufTensor &tensor : gguf_.tensors())
    if (!used.contains(&tensor))
      fail(Status::MODEL_MISMATCH, "the adapter has '", tensor.name, "' of shape ", shape_text(tensor.shape),
           ", which changes no matrix that this model's layers have");
  if (pairs_.empty()) fail(Status::FORMAT, "the adapter has no tensors");
}

LowRank Adapter::low_rank(std::span<const TensorSpec *const> specs, NumberType type) const {
  // The ranks of all tensors stand side by side; each of them is added to its own columns alone. Parts of one matrix of
  // the file share its A.
  std::map<const GgufTensor *, int64_t> first_rank;
  int64_t rank = 0, columns = 0;
  for (const TensorSpec *const spec : specs) {
    columns += spec->rows;
    const auto pair = pairs_.find(spec->name);
    if (pair == pairs_.end()) continue;
    if (first_rank.try_emplace(pair->second.a.tensor, rank).second) rank += pair->second.rank();
  }
  if (rank == 0) return {};
  const int64_t inputs = specs[0]->columns;
  Buffer<float> down(rank * inputs), up(columns * rank);
  std::fill_n(up.data(), up.size(), 0.0f);
  int64_t column = 0;
  for (const TensorSpec *const spec : specs) {
    if (const auto found = pairs_.find(spec->name); found != pairs_.end()) {
      const Pair &pair = found->second;
      const int64_t at = first_rank.at(pair.a.tensor);
      const auto factor = static_cast<float>(weight_ * (alpha_ != 0 ? alpha_ / static_cast<double>(pair.rank()) : 1));
      for (int64_t r = 0; r < pair.rank(); ++r) unpack_row(pair.a, r, inputs, down.data() + (at + r) * inputs);
      for (int64_t j = 0; j < spec->rows; ++j) {
        float *const to = up.data() + (column + j) * rank + at;
        unpack_row(pair.b, j, pair.rank(), to);
        for (int64_t r = 0; r < pair.rank(); ++r) to[r] *= factor;
      }
      gguf_.release(pair.a.tensor->data);
      gguf_.release(pair.b.tensor->data);
    }
    column += spec->rows;
  }
  if (!all_finite({up.data(), static_cast<size_t>(up.size())}))
    fail(Status::FORMAT, "the adapter's numbers, by its alpha of ", alpha_, " and a weight of ", weight_,
         ", are too large");
  LowRank product{PackedMatrix(type, inputs, rank), PackedMatrix(NumberType::F32, rank, columns)};
  product.down.pack(Threads(), down.data(), inputs, false);
  product.up.pack(Threads(), up.data(), rank, false);
  return product;
}

}  // namespace infini
