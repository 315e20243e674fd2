// A kind of memory that the library does not have: Linear, but that half of what it holds fades with each segment that
// closes. Tests of kinds take it like those of lib/memory, which shows all that a kind needs: this, and a reference.
#pragma once

#include "memory/linear.h"
#include "reference/memory.h"

namespace test {

class DecayingMemory : public infini::LinearMemory {
 public:
  static constexpr float kLeft = 0.5f;
  const char *name() const override { return "decaying"; }
  void decay(const infini::MemoryTile &memory) const override {
    for (int64_t i = 0; i < memory.size(); ++i) memory.data[i] *= kLeft;
  }
  void decay_gradient(const infini::MemoryTile &dmemory) const override { decay(dmemory); }
};

class DecayingReference : public infini::equations::Linear {
  template <class Real>
  using Matrix = infini::equations::Matrix<Real>;
  static constexpr Real kLeft = 0.5;

 public:
  void fold(const Matrix<Real> &k, const Matrix<Real> &v, Real weight, int64_t held, Real epsilon, Matrix<Real> &M,
            std::vector<Real> &z) const override {
    fade(M, z);
    Linear::fold(k, v, weight, held, epsilon, M, z);
  }
  void fold_gradient(const Matrix<Real> &k, const Matrix<Real> &v, Real weight, int64_t held, Real epsilon,
                     const Matrix<Real> &M, const std::vector<Real> &z, Matrix<Real> &dM, std::vector<Real> &dz,
                     Matrix<Real> &dk, Matrix<Real> &dv) const override {
    Linear::fold_gradient(k, v, weight, held, epsilon, M, z, dM, dz, dk, dv);
    fade(dM, dz);
  }
  Real left(int64_t segments) const override { return std::pow(kLeft, static_cast<Real>(segments)); }

 private:
  static void fade(Matrix<Real> &M, std::vector<Real> &z) {
    for (auto &row : M)
      for (Real &x : row) x *= kLeft;
    for (Real &x : z) x *= kLeft;
  }
};

inline const bool decaying_memory_is_known = [] {
  infini::add_memory_kind(*new DecayingMemory);
  infini::equations::memories()["decaying"] = std::make_shared<DecayingReference>();
  return true;
}();

}  // namespace test
