// Infini-attention, as its paper writes it: "Leave No Context Behind: Efficient Infinite Context
// Transformers with Infini-attention" (Munkhdalai, Faruqui, Gopal; arXiv 2404.07143v2), equations 6 to 10
// of one head: the reference of memory/ and attention.cc, which are tested against it.
//
// Matrices are row-major: Q, K [tokens][d_key], V [tokens][d_value], M [d_key][d_value], z [d_key].
#pragma once

#include <cmath>
#include <vector>

namespace infini::equations {

template <class Real>
using Matrix = std::vector<std::vector<Real>>;

// sigma(x) = ELU(x) + 1
template <class Real>
Real sigma(Real x) {
  return x > 0 ? x + 1 : std::exp(x);
}

// (6)  A_dot = softmax(Q K^T / sqrt(d_key)) V, where query t sees the keys 0 .. first_visible + t.
template <class Real>
Matrix<Real> local_attention(const Matrix<Real> &q, const Matrix<Real> &k, const Matrix<Real> &v,
                             size_t first_visible) {
  Matrix<Real> a(q.size(), std::vector<Real>(v[0].size(), 0));
  for (size_t t = 0; t < q.size(); ++t) {
    const size_t seen = first_visible + t + 1;
    std::vector<Real> score(seen, 0);
    Real greatest = -INFINITY, sum = 0;
    for (size_t s = 0; s < seen; ++s) {
      for (size_t i = 0; i < q[t].size(); ++i) score[s] += q[t][i] * k[s][i];
      score[s] /= std::sqrt(static_cast<Real>(q[t].size()));
      greatest = std::fmax(greatest, score[s]);
    }
    for (Real &x : score) sum += x = std::exp(x - greatest);
    for (size_t s = 0; s < seen; ++s)
      for (size_t j = 0; j < v[s].size(); ++j) a[t][j] += score[s] / sum * v[s][j];
  }
  return a;
}

// (7)  A_mem = sigma(Q) M / (sigma(Q) z). The paper leaves the empty memory open: epsilon keeps 0/0 away,
// and M = 0 then gives A_mem = 0.
template <class Real>
Matrix<Real> retrieve(const Matrix<Real> &q, const Matrix<Real> &M, const std::vector<Real> &z, Real epsilon) {
  Matrix<Real> a(q.size(), std::vector<Real>(M[0].size(), 0));
  for (size_t t = 0; t < q.size(); ++t) {
    Real denominator = epsilon;
    for (size_t i = 0; i < z.size(); ++i) denominator += sigma(q[t][i]) * z[i];
    for (size_t i = 0; i < z.size(); ++i)
      for (size_t j = 0; j < a[t].size(); ++j) a[t][j] += sigma(q[t][i]) * M[i][j] / denominator;
  }
  return a;
}

// (8)  Linear:  M += sigma(K)^T V,  z += sum_t sigma(K_t)
template <class Real>
void update_linear(const Matrix<Real> &k, const Matrix<Real> &v, Matrix<Real> &M, std::vector<Real> &z) {
  for (size_t t = 0; t < k.size(); ++t) {
    for (size_t i = 0; i < z.size(); ++i) {
      for (size_t j = 0; j < v[t].size(); ++j) M[i][j] += sigma(k[t][i]) * v[t][j];
      z[i] += sigma(k[t][i]);
    }
  }
}

// (9)  Delta:  M += sigma(K)^T (V - sigma(K) M / (sigma(K) z)), z as in (8); M and z on the right are the old ones: it
// is (8) with what is new of V, V - sigma(K) M / (sigma(K) z).
template <class Real>
Matrix<Real> novel(const Matrix<Real> &k, const Matrix<Real> &v, const Matrix<Real> &M, const std::vector<Real> &z,
                   Real epsilon) {
  Matrix<Real> out = v;
  const Matrix<Real> known = retrieve(k, M, z, epsilon);
  for (size_t t = 0; t < v.size(); ++t)
    for (size_t j = 0; j < v[t].size(); ++j) out[t][j] -= known[t][j];
  return out;
}

// (10)  A = sigmoid(beta) A_mem + (1 - sigmoid(beta)) A_dot
template <class Real>
Matrix<Real> mix(const Matrix<Real> &a_mem, const Matrix<Real> &a_dot, Real beta) {
  const Real gate = 1 / (1 + std::exp(-beta));
  Matrix<Real> a = a_dot;
  for (size_t t = 0; t < a.size(); ++t)
    for (size_t j = 0; j < a[t].size(); ++j) a[t][j] = gate * a_mem[t][j] + (1 - gate) * a_dot[t][j];
  return a;
}

}  // namespace infini::equations
