// Gradients of attention/equations.h, in plain loops. They are of a loss; `da` is its gradient with respect to a, and
// gradients are added to what they are given.
#pragma once

#include <cmath>
#include <vector>

#include "attention/equations.h"

namespace infini::equations {

template <class Real>
Matrix<Real> zeros(size_t rows, size_t columns) {
  return Matrix<Real>(rows, std::vector<Real>(columns, 0));
}

// d sigma / d x, which is sigma itself below 0.
template <class Real>
Real sigma_slope(Real x) {
  return x > 0 ? 1 : std::exp(x);
}

// softmax(q K^T / sqrt(d_key)) over the first `seen` keys.
template <class Real>
std::vector<Real> local_weights(const std::vector<Real> &q, const Matrix<Real> &k, size_t seen) {
  const Real scale = 1 / std::sqrt(static_cast<Real>(q.size()));
  std::vector<Real> p(seen, 0);
  Real greatest = -INFINITY, sum = 0;
  for (size_t s = 0; s < seen; ++s) {
    for (size_t i = 0; i < q.size(); ++i) p[s] += q[i] * k[s][i] * scale;
    greatest = std::fmax(greatest, p[s]);
  }
  for (Real &x : p) sum += x = std::exp(x - greatest);
  for (Real &x : p) x /= sum;
  return p;
}

// Of (6).
template <class Real>
void local_attention_gradient(const Matrix<Real> &q, const Matrix<Real> &k, const Matrix<Real> &v, size_t first_visible,
                              const Matrix<Real> &da, Matrix<Real> &dq, Matrix<Real> &dk, Matrix<Real> &dv) {
  const Real scale = 1 / std::sqrt(static_cast<Real>(k[0].size()));
  for (size_t t = 0; t < q.size(); ++t) {
    const std::vector<Real> p = local_weights(q[t], k, first_visible + t + 1);
    std::vector<Real> dp(p.size(), 0);
    Real mean = 0;
    for (size_t s = 0; s < p.size(); ++s) {
      for (size_t j = 0; j < v[s].size(); ++j) {
        dp[s] += da[t][j] * v[s][j];
        dv[s][j] += p[s] * da[t][j];
      }
      mean += p[s] * dp[s];
    }
    for (size_t s = 0; s < p.size(); ++s) {
      const Real dscore = p[s] * (dp[s] - mean) * scale;
      for (size_t i = 0; i < q[t].size(); ++i) {
        dq[t][i] += dscore * k[s][i];
        dk[s][i] += dscore * q[t][i];
      }
    }
  }
}

// Of (7).
template <class Real>
void retrieve_gradient(const Matrix<Real> &q, const Matrix<Real> &M, const std::vector<Real> &z, Real epsilon,
                       const Matrix<Real> &da, Matrix<Real> &dq, Matrix<Real> &dM, std::vector<Real> &dz) {
  const Matrix<Real> a = retrieve(q, M, z, epsilon);
  for (size_t t = 0; t < q.size(); ++t) {
    Real denominator = epsilon, along = 0;
    for (size_t i = 0; i < z.size(); ++i) denominator += sigma(q[t][i]) * z[i];
    for (size_t j = 0; j < a[t].size(); ++j) along += da[t][j] * a[t][j];
    for (size_t i = 0; i < z.size(); ++i) {
      Real dsigma = -along * z[i] / denominator;
      dz[i] -= along * sigma(q[t][i]) / denominator;
      for (size_t j = 0; j < a[t].size(); ++j) {
        dsigma += da[t][j] * M[i][j] / denominator;
        dM[i][j] += da[t][j] * sigma(q[t][i]) / denominator;
      }
      dq[t][i] += dsigma * sigma_slope(q[t][i]);
    }
  }
}

}  // namespace infini::equations
