// Optimizers: AdamW, and Muon (Jordan et al., 2024) for hidden matrices, with schedules and clipping.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "gemm/gemm.h"

namespace infini {

enum class ScheduleShape { CONSTANT, COSINE, LINEAR };

// A factor on every rate: rises over `warmup` steps, stays, and from `decay_from` * total steps on falls to `floor` at
// `total`. Steps after that stay there.
struct Schedule {
  ScheduleShape shape = ScheduleShape::CONSTANT;
  int64_t warmup = 100, total = 0;  // total 0: never falls
  double decay_from = 0, floor = 0.02;
  double at(int64_t step) const;  // of the step that comes after `step` others
};

// A matrix or vector among the parameters, and how it is updated.
struct Variable {
  // ADAM: AdamW. FEATURES: Muon with a rate of its own, for q and k. GATE: Adam with a rate of its own and no decay.
  enum class Rule { ADAM, MUON, FEATURES, GATE };
  int64_t offset, rows, columns;  // the offset is that of its first value
  Rule rule;
  bool decays;  // has weight decay
};

struct OptimizerConfig {
  double rate = 2e-3;  // AdamW's
  double muon_rate = 0.01, feature_rate = 0.01;
  double gate_rate = 0.01;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double decay = 0.05, muon_decay = 0.01;
  double momentum = 0.95;  // Muon's (Nesterov)
  double clip = 1;         // greatest norm of all gradients together; 0: never clipped
  Schedule schedule;
};

class Optimizer {
 public:
  Optimizer(std::vector<Variable> variables, const OptimizerConfig &config, const Gemm &gemm, NumberType compute);

  double norm(const Threads &threads, const float *gradients) const;
  // One step. Gives the norm of the gradients before clipping; where that is not finite, nothing is changed.
  double step(const Threads &threads, const float *gradients, float *values);
  int64_t steps() const { return steps_; }

  // Moments of all variables and the number of steps, for checkpoints.
  Buffer<float> &state() { return state_; }
  const Buffer<float> &state() const { return state_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 private:
  void adam(const Threads &threads, const Variable &variable, int64_t m, const float *gradient, double scale,
            double rate, float *values);
  void muon(const Threads &threads, const Variable &variable, int64_t m, const float *gradient, double scale,
            double rate, float *values);
  // Replaces u [rows][columns] by a nearly orthogonal matrix: its singular values become about 1.
  void orthogonalise(const Threads &threads, float *u, int64_t rows, int64_t columns);
  PackedMatrix &packed(int64_t k, int64_t n);

  const std::vector<Variable> variables_;
  OptimizerConfig config_;
  const Gemm &gemm_;
  const NumberType compute_;
  int64_t steps_ = 0;
  Buffer<float> state_;            // of each variable the first moment m, then, for Adam, the second, v
  std::vector<int64_t> state_of_;  // offset of each variable's m in it
  // Muon's scratch.
  std::map<std::pair<int64_t, int64_t>, PackedMatrix> packed_;
  Buffer<float> update_, x_, next_, gram_, square_;
  Buffer<char> narrow_;
};

}  // namespace infini
