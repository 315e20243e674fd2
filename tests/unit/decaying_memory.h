// A kind of memory that the library does not have: Linear, but that half of what it holds fades with each segment that
// closes, and that a query reads it by the squares of its features, which find what is near it the better. Tests of
// kinds take it like those of lib/memory, which shows all that a kind needs: this, and a reference.
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

  void read(const infini::ConstMemoryTile &memory, const infini::ConstTile &sigma, int64_t rows, float epsilon,
            const infini::Tile &numerator, float *denominator) const override {
    const std::vector<float> squares = squares_of(sigma, rows, memory.keys);
    LinearMemory::read(memory, {squares.data(), rows}, rows, epsilon, numerator, denominator);
  }
  void read_gradient(const infini::ConstMemoryTile &memory, const infini::ConstTile &transposed,
                     const infini::ConstTile &sigma, int64_t rows, const infini::ConstTile &dnumerator,
                     const float *ddenominator, const infini::Tile &dsigma,
                     const infini::MemoryTile &dmemory) const override {
    const std::vector<float> squares = squares_of(sigma, rows, memory.keys);
    std::vector<float> gradients(squares.size());
    const infini::Tile dsquares{gradients.data(), rows};
    LinearMemory::read_gradient(memory, transposed, {squares.data(), rows}, rows, dnumerator, ddenominator, dsquares,
                                dmemory);
    infini::each_panel(memory.keys, [&](int64_t p, int64_t n) {
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < n; ++i) dsigma.row(p, r)[i] += 2 * sigma.row(p, r)[i] * dsquares.row(p, r)[i];
    });
  }

 private:
  // In panels.
  static std::vector<float> squares_of(const infini::ConstTile &sigma, int64_t rows, int64_t keys) {
    std::vector<float> squares(static_cast<size_t>(infini::tile_size(rows, keys)));
    const infini::Tile tile{squares.data(), rows};
    infini::each_panel(keys, [&](int64_t p, int64_t n) {
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < n; ++i) tile.row(p, r)[i] = sigma.row(p, r)[i] * sigma.row(p, r)[i];
    });
    return squares;
  }
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
  // Its sigma is the square of sigma(q).
  Real asked(Real q) const override { return q > 0 ? q * (q + 2) : 2 * q; }
  Real asked_slope(Real q) const override { return q > 0 ? 2 * (q + 1) : 2; }

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
