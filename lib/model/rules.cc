#include "model/rules.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <tuple>

#include "base/log.h"

namespace infini {
namespace {

// Radians a position of each pair; YaRN (Peng et al., arXiv 2309.00071) blends scaled and plain frequencies.
Rope make_rope(const Gguf &gguf, const Config &config, const RopeConfig &c) {
  Rope rope;
  rope.adjacent = config.architecture->rope_pairs_adjacent;
  rope.dimensions = c.dimensions;
  rope.magnitude = c.attention_factor * (c.yarn ? 1 + 0.1 * std::log(c.factor) : 1);
  const int64_t half = c.dimensions / 2;
  std::vector<float> divisor(static_cast<size_t>(half), 1.0f);
  if (c.factors) {
    const auto [always, near, far] = rope_factors(c);
    const TensorSpec &by_window = config.window() > c.original_context ? far : near;
    if (const TensorPart part = find_part(gguf, always)) divisor = unpack_vector(part, half);
    else if (const TensorPart chosen = find_part(gguf, by_window)) divisor = unpack_vector(chosen, half);
  }

  // The pair whose wave turns `turns` times within the original context.
  const auto pair_of = [&](double turns) {
    return c.dimensions * std::log(c.original_context / (turns * 2 * std::numbers::pi)) / (2 * std::log(c.base));
  };
  const double low = c.yarn ? std::max(0.0, std::floor(pair_of(c.beta_fast))) : 0;
  const double high = c.yarn ? std::min(c.dimensions - 1.0, std::ceil(pair_of(c.beta_slow))) : 0;
  for (int64_t i = 0; i < half; ++i) {
    const float by = divisor[i];
    if (!(by > 0)) fail(Status::FORMAT, "rotation factor ", i, " is ", by, ", but must be positive");
    const double plain = std::pow(c.base, -2.0 * static_cast<double>(i) / c.dimensions) / by;
    const double ramp = c.yarn ? std::clamp((static_cast<double>(i) - low) / std::max(0.001, high - low), 0.0, 1.0) : 1;
    rope.frequency.push_back(plain / c.factor * ramp + plain * (1 - ramp));
    if (!std::isfinite(rope.frequency.back()))
      fail(Status::FORMAT, "the rotation of pair ", i, " is ", rope.frequency.back(), " radians a token");
  }
  if (!std::isfinite(rope.magnitude)) fail(Status::FORMAT, "the rotation scales by ", rope.magnitude);
  return rope;
}

AttentionRules make_rules(const Config &config, const LayerPlan &plan, const std::vector<Rope> &ropes,
                          RowNumbers numbers) {
  const MemoryConfig &memory = config.memory;
  AttentionRules rules;
  rules.shape = {config, memory.segment, memory.carry, memory.sinks, numbers.type, memory.keep};
  rules.shape.int8 = numbers.int8;
  rules.shape.keep_least = memory.probe.least;
  if (!memory.probe.bias.empty()) {
    rules.shape.keep_focus = memory.probe.focus;
    rules.shape.keep_standing = memory.probe.standing;
  }
  if (plan.window) {
    rules.shape.carry = plan.window - 1;
    rules.shape.sinks = rules.shape.keep = 0;
    rules.shape.window = plan.window;
  }
  if (plan.rotation != kNoRotation) rules.rope = ropes[plan.rotation];
  rules.memory = memory.kind;
  rules.first_gated = memory.first_segment_gated;
  rules.epsilon = memory.epsilon;
  rules.scale = plan.scale;
  rules.soft_cap = plan.soft_cap;
  return rules;
}

}  // namespace

Rules::Rules(const Gguf &gguf, const Config &config, const ModelOptions &options)
    : asked(read_asked(options.weights, options.compute, options.gemm)), choice(choose(asked, Cpu::here())) {
  if (asked.compute == Compute::BF16 && choice.no_bf16)
    log(LogLevel::WARNING, cat("compute falls back from bf16 to f32: ", choice.no_bf16));
  for (const RopeConfig &rope : config.ropes) ropes.push_back(make_rope(gguf, config, rope));
  const RowNumbers numbers(choice.floats, options.window_type == "int8");
  attention = make_rules(config, LayerPlan{}, ropes, numbers);
  std::vector<LayerPlan> plans;  // of each kind
  for (const LayerPlan &plan : config.plans) {
    const auto alike = std::find_if(plans.begin(), plans.end(), [&](const LayerPlan &p) {
      return std::tie(p.window, p.rotation, p.scale, p.soft_cap) ==
             std::tie(plan.window, plan.rotation, plan.scale, plan.soft_cap);
    });
    kind_.push_back(static_cast<size_t>(alike - plans.begin()));
    if (alike == plans.end()) plans.push_back(plan), kinds.push_back(make_rules(config, plan, ropes, numbers));
  }
}

}  // namespace infini
