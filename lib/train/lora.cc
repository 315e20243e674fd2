#include "train/lora.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "base/random.h"
#include "kernels/kernels.h"
#include "model/memory_config.h"

namespace infini {

Lora::Lora(const Parameters &parameters, std::vector<size_t> targets, const LoraConfig &config, uint64_t seed)
    : config_(config) {
  int64_t size = 0;
  for (const size_t index : targets) {
    const Parameter &p = parameters[index];
    Target target{index, size, size + round_up(config.rank * p.columns, 16), Buffer<float>(p.size())};
    size = target.b + round_up(p.rows * config.rank, 16);
    std::memcpy(target.base.data(), parameters.of(index), static_cast<size_t>(p.size()) * sizeof(float));
    targets_.push_back(std::move(target));
  }
  values_ = Buffer<float>(size);
  gradients_ = Buffer<float>(size);
  Random random(seed);
  for (const Target &t : targets_) {
    const int64_t columns = parameters[t.parameter].columns;
    const double deviation = 1 / std::sqrt(static_cast<double>(columns));
    for (int64_t i = 0; i < config.rank * columns; ++i)
      values_[t.a + i] = static_cast<float>(deviation * random.normal());
  }
}

void Lora::apply(const Threads &threads, Parameters &parameters) const {
  const auto scale = static_cast<float>(config_.alpha / config_.rank);
  for (const Target &t : targets_) {
    const Parameter &p = parameters[t.parameter];
    float *weights = parameters.of(t.parameter);
    parallel_for(threads, p.rows, worth_grain(p.columns * config_.rank), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        std::memcpy(weights + i * p.columns, t.base.data() + i * p.columns,
                    static_cast<size_t>(p.columns) * sizeof(float));
        for (int64_t r = 0; r < config_.rank; ++r)
          add_scaled(values_.data() + t.a + r * p.columns, scale * values_[t.b + i * config_.rank + r], p.columns,
                     weights + i * p.columns);
      }
    });
  }
}

void Lora::gradients(const Threads &threads, const Parameters &parameters, const float *of_weights) {
  const auto scale = static_cast<float>(config_.alpha / config_.rank);
  for (const Target &t : targets_) {
    const Parameter &p = parameters[t.parameter];
    const float *d = of_weights + p.offset;
    // dB = scale dW A^T, dA = scale B^T dW
    parallel_for(threads, p.rows, worth_grain(p.columns * config_.rank), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        for (int64_t r = 0; r < config_.rank; ++r)
          gradients_[t.b + i * config_.rank + r] =
              scale * dot(d + i * p.columns, values_.data() + t.a + r * p.columns, p.columns);
    });
    parallel_for(threads, config_.rank, worth_grain(p.size()), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        float *to = gradients_.data() + t.a + r * p.columns;
        std::memset(to, 0, static_cast<size_t>(p.columns) * sizeof(float));
        for (int64_t i = 0; i < p.rows; ++i)
          add_scaled(d + i * p.columns, scale * values_[t.b + i * config_.rank + r], p.columns, to);
      }
    });
  }
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
