// What each kind of memory does with a closing segment, and its gradient, in plain loops: what lib/memory is tested
// against. A new kind is a new Memory here, too.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>

#include "reference/gradients.h"

namespace infini::equations {

// (8) times `weight`, and its gradient: dM and dz, of M and z after it, are those before it too.
template <class Real>
void add_linear(const Matrix<Real> &k, const Matrix<Real> &v, Real weight, Matrix<Real> &M, std::vector<Real> &z) {
  Matrix<Real> sum = zeros<Real>(M.size(), M[0].size());
  std::vector<Real> keys(z.size(), 0);
  update_linear(k, v, sum, keys);
  for (size_t i = 0; i < z.size(); ++i) {
    z[i] += weight * keys[i];
    for (size_t j = 0; j < M[i].size(); ++j) M[i][j] += weight * sum[i][j];
  }
}
template <class Real>
void add_linear_gradient(const Matrix<Real> &k, const Matrix<Real> &v, Real weight, const Matrix<Real> &dM,
                         const std::vector<Real> &dz, Matrix<Real> &dk, Matrix<Real> &dv) {
  for (size_t t = 0; t < k.size(); ++t) {
    for (size_t i = 0; i < dz.size(); ++i) {
      Real dsigma = dz[i];
      for (size_t j = 0; j < v[t].size(); ++j) {
        dsigma += dM[i][j] * v[t][j];
        dv[t][j] += weight * dM[i][j] * sigma(k[t][i]);
      }
      dk[t][i] += weight * dsigma * sigma_slope(k[t][i]);
    }
  }
}

// The gradient of (9) times `weight`: of (8) with novel(). M and z are those before it.
template <class Real>
void add_delta_gradient(const Matrix<Real> &k, const Matrix<Real> &v, Real weight, const Matrix<Real> &M,
                        const std::vector<Real> &z, Real epsilon, Matrix<Real> &dM, std::vector<Real> &dz,
                        Matrix<Real> &dk, Matrix<Real> &dv) {
  Matrix<Real> dnovel = zeros<Real>(v.size(), v[0].size());
  add_linear_gradient(k, novel(k, v, M, z, epsilon), weight, dM, dz, dk, dnovel);
  for (size_t t = 0; t < v.size(); ++t) {
    for (size_t j = 0; j < v[t].size(); ++j) {
      dv[t][j] += dnovel[t][j];
      dnovel[t][j] = -dnovel[t][j];
    }
  }
  retrieve_gradient(k, M, z, epsilon, dnovel, dk, dM, dz);
}

// A kind: a segment of tokens k, v goes into M and z, which hold `held` tokens, times `weight`. Read by (7), with the
// queries that asked() gives.
class Memory {
 public:
  using Real = double;
  virtual ~Memory() = default;
  virtual void fold(const Matrix<Real> &k, const Matrix<Real> &v, Real weight, int64_t held, Real epsilon,
                    Matrix<Real> &M, std::vector<Real> &z) const = 0;
  // M and z are those before the segment; dM and dz become the gradients of these.
  virtual void fold_gradient(const Matrix<Real> &k, const Matrix<Real> &v, Real weight, int64_t held, Real epsilon,
                             const Matrix<Real> &M, const std::vector<Real> &z, Matrix<Real> &dM, std::vector<Real> &dz,
                             Matrix<Real> &dk, Matrix<Real> &dv) const = 0;
  // What is left of 1 that a segment added to z, after as many more were folded.
  virtual Real left(int64_t) const { return 1; }
  // Of a number of a query: that which takes its place when the memory is read, and how this changes with it.
  virtual Real asked(Real q) const { return q; }
  virtual Real asked_slope(Real) const { return 1; }
  Matrix<Real> asked(Matrix<Real> q) const {
    for (auto &row : q)
      for (Real &x : row) x = asked(x);
    return q;
  }
};

class Linear : public Memory {
 public:
  void fold(const Matrix<Real> &k, const Matrix<Real> &v, Real weight, int64_t, Real, Matrix<Real> &M,
            std::vector<Real> &z) const override {
    add_linear(k, v, weight, M, z);
  }
  void fold_gradient(const Matrix<Real> &k, const Matrix<Real> &v, Real weight, int64_t, Real, const Matrix<Real> &,
                     const std::vector<Real> &, Matrix<Real> &dM, std::vector<Real> &dz, Matrix<Real> &dk,
                     Matrix<Real> &dv) const override {
    add_linear_gradient(k, v, weight, dM, dz, dk, dv);
  }
};

// A segment goes in pieces, each no longer than what is held by then; an empty memory takes all at once, as Linear.
class Delta : public Memory {
 public:
  void fold(const Matrix<Real> &k, const Matrix<Real> &v, Real weight, int64_t held, Real epsilon, Matrix<Real> &M,
            std::vector<Real> &z) const override {
    if (k.empty()) return;
    const size_t n = first_piece(k, held);
    const Matrix<Real> some_k = rows(k, 0, n), some_v = rows(v, 0, n);
    add_linear(some_k, held > 0 ? novel(some_k, some_v, M, z, epsilon) : some_v, weight, M, z);
    fold(rows(k, n, k.size()), rows(v, n, v.size()), weight, held + static_cast<int64_t>(n), epsilon, M, z);
  }
  void fold_gradient(const Matrix<Real> &k, const Matrix<Real> &v, Real weight, int64_t held, Real epsilon,
                     const Matrix<Real> &M, const std::vector<Real> &z, Matrix<Real> &dM, std::vector<Real> &dz,
                     Matrix<Real> &dk, Matrix<Real> &dv) const override {
    if (k.empty()) return;
    const size_t n = first_piece(k, held);
    const Matrix<Real> some_k = rows(k, 0, n), some_v = rows(v, 0, n);
    Matrix<Real> M_after = M, rest_dk = rows(dk, n, k.size()), rest_dv = rows(dv, n, v.size());
    std::vector<Real> z_after = z;
    add_linear(some_k, held > 0 ? novel(some_k, some_v, M, z, epsilon) : some_v, weight, M_after, z_after);
    fold_gradient(rows(k, n, k.size()), rows(v, n, v.size()), weight, held + static_cast<int64_t>(n), epsilon, M_after,
                  z_after, dM, dz, rest_dk, rest_dv);
    std::copy(rest_dk.begin(), rest_dk.end(), dk.begin() + static_cast<std::ptrdiff_t>(n));
    std::copy(rest_dv.begin(), rest_dv.end(), dv.begin() + static_cast<std::ptrdiff_t>(n));
    Matrix<Real> some_dk = rows(dk, 0, n), some_dv = rows(dv, 0, n);
    if (held > 0) add_delta_gradient(some_k, some_v, weight, M, z, epsilon, dM, dz, some_dk, some_dv);
    else add_linear_gradient(some_k, some_v, weight, dM, dz, some_dk, some_dv);
    std::copy(some_dk.begin(), some_dk.end(), dk.begin());
    std::copy(some_dv.begin(), some_dv.end(), dv.begin());
  }

 private:
  static size_t first_piece(const Matrix<Real> &k, int64_t held) {
    return held > 0 ? std::min(k.size(), static_cast<size_t>(held)) : k.size();
  }
  static Matrix<Real> rows(const Matrix<Real> &m, size_t begin, size_t end) {
    return {m.begin() + static_cast<std::ptrdiff_t>(begin), m.begin() + static_cast<std::ptrdiff_t>(end)};
  }
};

// By the names of lib/memory's kinds; a test of another kind adds its own.
inline std::map<std::string, std::shared_ptr<const Memory>> &memories() {
  static std::map<std::string, std::shared_ptr<const Memory>> all{{"linear", std::make_shared<Linear>()},
                                                                  {"delta", std::make_shared<Delta>()}};
  return all;
}

}  // namespace infini::equations
