#include "train/lora.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "base/random.h"
#include "kernels/kernels.h"
#include "model/memory_config.h"
#include "train/graph_rows.h"

namespace infini {

Lora::Lora(const Parameters &parameters, const std::vector<size_t> &targets, const LoraConfig &config,
           NumberType compute, uint64_t seed)
    : config_(config), compute_(compute) {
  int64_t size = 0;
  for (const size_t index : targets) {
    const Parameter &p = parameters[index];
    Target target{index, index, size, size + round_up(config.rank * p.columns, 16), 0, p.rows, p.columns};
    while (parameters[target.first].behind) target.row += parameters[--target.first].rows;
    size = target.b + round_up(p.rows * config.rank, 16);
    targets_.push_back(target);
  }
  values_ = Buffer<float>(size);
  gradients_ = Buffer<float>(size);
  Random random(seed);
  for (const Target &t : targets_) {
    const double deviation = 1 / std::sqrt(static_cast<double>(t.columns));
    for (int64_t i = 0; i < config.rank * t.columns; ++i)
      values_[t.a + i] = static_cast<float>(deviation * random.normal());
  }
  for (size_t begin = 0, end = 0; begin < targets_.size(); begin = end) {
    const size_t first = targets_[begin].first;
    while (end < targets_.size() && targets_[end].first == first) ++end;
    const auto ranks = static_cast<int64_t>(end - begin) * config.rank;
    groups_.push_back({std::span(targets_).subspan(begin, end - begin),
                       ranks,
                       {compute, targets_[begin].columns, ranks, true},
                       {compute, ranks, parameters.matrix_rows(first), true}});
  }
}

bool Lora::adapts(size_t parameter) const {
  return std::ranges::find(targets_, parameter, &Target::parameter) != targets_.end();
}

void Lora::pack(const Threads &threads) {
  const int64_t rank = config_.rank;
  for (Group &group : groups_) {
    const int64_t ranks = group.ranks;
    Buffer<float> a(ranks * group.targets[0].columns), b(ranks * group.up.outputs());
    int64_t at = 0;  // of the target's first rank
    for (const Target &t : group.targets) {
      std::copy_n(values_.data() + t.a, rank * t.columns, a.data() + at * t.columns);
      for (int64_t row = 0; row < t.rows; ++row)
        std::copy_n(values_.data() + t.b + row * rank, rank, b.data() + (t.row + row) * ranks + at);
      at += rank;
    }
    group.down.pack(threads, a.data());
    group.up.pack(threads, b.data());
  }
}

Lora::Group *Lora::find(size_t first) {
  const auto found = std::ranges::find(groups_, first, &Group::first);
  return found == groups_.end() ? nullptr : &*found;
}

// alpha / rank times these rows, as products take them.
ConstRows Lora::scaled(const Threads &threads, const Group &group, int64_t rows, Buffer<float> &inner,
                       Buffer<char> &narrow) const {
  const auto scale = static_cast<float>(config_.alpha / config_.rank);
  const int64_t stride = round_up(group.ranks, kPanel);
  mix(inner.data(), scale, inner.data(), 0, rows * stride, inner.data());
  return narrowed(threads, compute_, inner.data(), stride, group.ranks, rows, narrow);
}

void Lora::add(const Threads &threads, const Gemm &gemm, size_t first, const ConstRows &x, int64_t rows, float *y,
               int64_t y_row) {
  const Group *const group = find(first);
  if (!group) return;
  const int64_t stride = round_up(group->ranks, kPanel);
  inner_.reserve(rows * stride);
  group->down.forward(threads, gemm, x, rows, inner_.data(), stride, false);
  group->up.forward(threads, gemm, scaled(threads, *group, rows, inner_, narrow_), rows, y, y_row, true);
}

void Lora::add_gradients(const Threads &threads, const Gemm &gemm, size_t first, const ConstRows &x,
                         const ConstRows &dy, int64_t rows, float *dx, int64_t dx_row) {
  const Group *const group = find(first);
  if (!group) return;
  const int64_t stride = round_up(group->ranks, kPanel), rank = config_.rank;
  int64_t at = 0;  // of the target's first rank
  inner_.reserve(rows * stride), dinner_.reserve(rows * stride);
  group->down.forward(threads, gemm, x, rows, inner_.data(), stride, false);
  group->up.backward(threads, gemm, dy, rows, dinner_.data(), stride, false);
  const ConstRows inner = scaled(threads, *group, rows, inner_, narrow_),
                  dinner = scaled(threads, *group, rows, dinner_, dnarrow_);
  for (const Target &t : group->targets) {
    gemm.multiply_transposed(threads, without(at, dinner), x, rows, rank, t.columns, gradients_.data() + t.a, t.columns,
                             true);
    gemm.multiply_transposed(threads, without(t.row, dy), without(at, inner), rows, t.rows, rank,
                             gradients_.data() + t.b, rank, true);
    at += rank;
  }
  if (dx) group->down.backward(threads, gemm, dinner, rows, dx, dx_row, true);
}

void Lora::merge(size_t parameter, int64_t row, int64_t rows, float *values) const {
  const auto scale = static_cast<float>(config_.alpha / config_.rank);
  const auto target = std::ranges::find(targets_, parameter, &Target::parameter);
  if (target == targets_.end()) return;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t r = 0; r < config_.rank; ++r)
      add_scaled(values_.data() + target->a + r * target->columns,
                 scale * values_[target->b + (row + i) * config_.rank + r], target->columns,
                 values + i * target->columns);
}

int64_t Lora::bytes() const {
  auto total = static_cast<int64_t>(values_.bytes() + gradients_.bytes() + inner_.bytes() + dinner_.bytes() +
                                    narrow_.bytes() + dnarrow_.bytes());
  for (const Group &group : groups_) total += group.down.bytes() + group.up.bytes();
  return total;
}

std::vector<Variable> Lora::variables() const {
  std::vector<Variable> out;
  for (const Target &t : targets_) {
    out.push_back({t.a, 1, t.b - t.a, Variable::Rule::ADAM, true});
    const int64_t end = &t == &targets_.back() ? values_.size() : (&t + 1)->a;
    out.push_back({t.b, 1, end - t.b, Variable::Rule::ADAM, true});
  }
  return out;
}

Gguf Lora::gguf(const Model &model, const Parameters &parameters, const MemoryConfig &memory) const {
  Gguf out;
  out.set("general.type", std::string("adapter"));
  out.set("general.architecture", std::string(model.config().architecture->name));
  out.set("adapter.type", std::string("lora"));
  out.set("adapter.lora.alpha", static_cast<float>(config_.alpha));
  write_memory(memory, out);
  // By the matrices of the model's file. One that holds several of ours, such as q, k and v, has one pair of all their
  // ranks, of which each adds to its own rows alone; alpha / rank is theirs by a factor on B.
  struct Member {
    const Target *target;
    TensorPart part;
  };
  std::vector<std::vector<Member>> groups;
  const std::vector<TensorSpec> table = tensor_table(model.config());
  for (const Target &t : targets_) {
    const auto spec = std::ranges::find(table, parameters[t.parameter].name, &TensorSpec::name);
    const TensorPart part = find_part(model.gguf(), *spec);
    const auto same = [&](const auto &group) { return group[0].part.tensor == part.tensor; };
    const auto group = std::ranges::find_if(groups, same);
    (group == groups.end() ? groups.emplace_back() : *group).push_back({&t, part});
  }
  for (const auto &group : groups) {
    const GgufTensor &tensor = *group[0].part.tensor;
    const auto count = static_cast<int64_t>(group.size());
    const int64_t columns = tensor.shape[0], rows = tensor.shape[1], rank = config_.rank, all = count * rank;
    std::vector<float> a(static_cast<size_t>(all * columns)), b(static_cast<size_t>(rows * all));
    for (int64_t i = 0; i < count; ++i) {
      const auto &[target, part] = group[static_cast<size_t>(i)];
      std::copy_n(values_.data() + target->a, rank * columns, a.data() + i * rank * columns);
      for (int64_t row = 0; row < part.rows; ++row)
        add_scaled(values_.data() + target->b + row * rank, static_cast<float>(count), rank,
                   b.data() + (part.first + row) * all + i * rank);
    }
    const auto add = [&](const char *suffix, std::vector<int64_t> shape, const std::vector<float> &values) {
      const auto bytes = std::as_bytes(std::span(values));
      out.add_tensor(tensor.name + suffix, TensorType::F32, std::move(shape), {bytes.begin(), bytes.end()});
    };
    add(".lora_a", {columns, all}, a);
    add(".lora_b", {all, rows}, b);
  }
  return out;
}

}  // namespace infini
