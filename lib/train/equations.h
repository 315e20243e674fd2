// Gradients of attention/equations.h, and one KV head's whole stream forward and backward: the plain twin of
// attention_gradient.cc, which is tested against it. Gradients are of a loss; `da` is the loss's gradient with respect
// to a, and gradients are added to what they are given.
#pragma once

#include <cmath>
#include <vector>

#include "attention/attention.h"
#include "attention/equations.h"
#include "train/layout.h"

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

// (8) times `fold`, and its gradient: dM and dz, of M and z after it, are those before it too.
template <class Real>
void fold_linear(const Matrix<Real> &k, const Matrix<Real> &v, Real fold, Matrix<Real> &M, std::vector<Real> &z) {
  Matrix<Real> sum = zeros<Real>(M.size(), M[0].size());
  std::vector<Real> keys(z.size(), 0);
  update_linear(k, v, sum, keys);
  for (size_t i = 0; i < z.size(); ++i) {
    z[i] += fold * keys[i];
    for (size_t j = 0; j < M[i].size(); ++j) M[i][j] += fold * sum[i][j];
  }
}
template <class Real>
void fold_linear_gradient(const Matrix<Real> &k, const Matrix<Real> &v, Real fold, const Matrix<Real> &dM,
                          const std::vector<Real> &dz, Matrix<Real> &dk, Matrix<Real> &dv) {
  for (size_t t = 0; t < k.size(); ++t) {
    for (size_t i = 0; i < dz.size(); ++i) {
      Real dsigma = dz[i];
      for (size_t j = 0; j < v[t].size(); ++j) {
        dsigma += dM[i][j] * v[t][j];
        dv[t][j] += fold * dM[i][j] * sigma(k[t][i]);
      }
      dk[t][i] += fold * dsigma * sigma_slope(k[t][i]);
    }
  }
}

// (9) times `fold`: (8) with what is new of V. M and z are those before it.
template <class Real>
Matrix<Real> novel(const Matrix<Real> &k, const Matrix<Real> &v, const Matrix<Real> &M, const std::vector<Real> &z,
                   Real epsilon) {
  Matrix<Real> out = v;
  const Matrix<Real> known = retrieve(k, M, z, epsilon);
  for (size_t t = 0; t < v.size(); ++t)
    for (size_t j = 0; j < v[t].size(); ++j) out[t][j] -= known[t][j];
  return out;
}
template <class Real>
void fold_delta_gradient(const Matrix<Real> &k, const Matrix<Real> &v, Real fold, const Matrix<Real> &M,
                         const std::vector<Real> &z, Real epsilon, Matrix<Real> &dM, std::vector<Real> &dz,
                         Matrix<Real> &dk, Matrix<Real> &dv) {
  Matrix<Real> dnovel = zeros<Real>(v.size(), v[0].size());
  fold_linear_gradient(k, novel(k, v, M, z, epsilon), fold, dM, dz, dk, dnovel);
  for (size_t t = 0; t < v.size(); ++t) {
    for (size_t j = 0; j < v[t].size(); ++j) {
      dv[t][j] += dnovel[t][j];
      dnovel[t][j] = -dnovel[t][j];
    }
  }
  retrieve_gradient(k, M, z, epsilon, dnovel, dk, dM, dz);
}

// One KV head, the query heads that share it, and one stream.
template <class Real>
struct Head {
  std::vector<Matrix<Real>> q;  // [group][tokens][d_key]
  Matrix<Real> k, v;            // [tokens][d_key], [tokens][d_value]
  std::vector<Real> beta;       // [group]; -inf: shut
};

// A retrieval that is told where to look, of group head `head`: the loss gains -weight * log(share of `sources`). Epsilon is
// of the whole alone: a retrieval that finds nothing has no share in what it looks for. One without sources is to find
// nothing: the loss gains weight * log(all / epsilon).
struct Pointed {
  size_t head, token;
  std::vector<size_t> sources;
  double weight;
};

// Local attention that is told where to look, of group head `head`: the loss gains -weight * log(p of `subject`), if
// that token is in view and no sink.
struct Looking {
  size_t head, token, subject;
  double weight;
};

template <class Real>
class HeadStream {
 public:
  HeadStream(const AttentionRules &rules, std::vector<SegmentSpan> segments, std::vector<Pointed> pointed,
             std::vector<Looking> looking = {})
      : rules_(rules), segments_(std::move(segments)), pointed_(std::move(pointed)), looking_(std::move(looking)) {}

  // A of (10) [group][tokens][d_value].
  std::vector<Matrix<Real>> forward(const Head<Real> &in) {
    M_.assign(1, zeros<Real>(in.k[0].size(), in.v[0].size()));
    z_.assign(1, std::vector<Real>(in.k[0].size(), 0));
    std::vector<Matrix<Real>> out;
    for (const auto &q : in.q) out.push_back(zeros<Real>(q.size(), in.v[0].size()));
    for (size_t s = 0; s < segments_.size(); ++s) {
      const Window window = window_of(in, s);
      for (size_t h = 0; h < in.q.size(); ++h) {
        const Matrix<Real> q = part(in.q[h], s);
        const Matrix<Real> a_dot = local_attention(turned_all(q, window.own), window.k, window.v, window.own);
        const Matrix<Real> a_mem = retrieve(q, M_[s], z_[s], epsilon());
        const Matrix<Real> a = gated(in.beta[h], s) ? mix(a_mem, a_dot, in.beta[h]) : a_dot;
        std::copy(a.begin(), a.end(), out[h].begin() + segments_[s].first);
      }
      M_.push_back(M_[s]);
      z_.push_back(z_[s]);
      for (const auto &[begin, end, delta] : pieces(s)) {
        const Matrix<Real> k = slice(in.k, begin, end), v = slice(in.v, begin, end);
        fold_linear(k, delta ? novel(k, v, M_.back(), z_.back(), epsilon()) : v, fold(s), M_.back(), z_.back());
      }
    }
    return out;
  }

  // The loss of `pointed`, after forward().
  Real pointed_loss(const Head<Real> &in) const {
    Real loss = 0;
    for (const Pointed &p : pointed_) {
      const std::vector<Real> &q = in.q[p.head][p.token];
      Real there = 0, all = epsilon();
      for (size_t i = 0; i < q.size(); ++i) {
        all += sigma(q[i]) * z_[segment_of(p.token)][i];
        for (const size_t source : p.sources) there += fold(segment_of(source)) * sigma(q[i]) * sigma(in.k[source][i]);
      }
      loss -= static_cast<Real>(p.weight) * std::log((p.sources.empty() ? epsilon() : there) / all);
    }
    return loss;
  }

  // The loss of `looking`.
  Real looking_loss(const Head<Real> &in) const {
    Real loss = 0;
    for (size_t s = 0; s < segments_.size(); ++s) {
      const Window window = window_of(in, s);
      for (size_t h = 0; h < in.q.size(); ++h)
        each_look(s, h, window, [&](size_t t, size_t at, Real weight) {
          const Matrix<Real> turned = turned_all(part(in.q[h], s), window.own);
          loss -= weight * std::log(local_weights(turned[t], window.k, window.own + t + 1)[at]);
        });
    }
    return loss;
  }

  // After forward(): what each input gives to a loss with d loss / d A = da, plus pointed_loss() and looking_loss().
  Head<Real> backward(const Head<Real> &in, const std::vector<Matrix<Real>> &da) {
    const size_t keys = in.k[0].size(), values = in.v[0].size();
    Head<Real> d{
        {}, zeros<Real>(in.k.size(), keys), zeros<Real>(in.v.size(), values), std::vector<Real>(in.beta.size(), 0)};
    for (const auto &q : in.q) d.q.push_back(zeros<Real>(q.size(), keys));
    Matrix<Real> dM = zeros<Real>(keys, values);
    std::vector<Real> dz(keys, 0);
    for (size_t s = segments_.size(); s-- > 0;) {
      fold_backward(in, s, dM, dz, d);
      const Window window = window_of(in, s);
      Window dwindow{zeros<Real>(window.k.size(), keys), zeros<Real>(window.v.size(), values), {}, window.own};
      for (size_t h = 0; h < in.q.size(); ++h) {
        const Matrix<Real> q = part(in.q[h], s), turned = turned_all(q, window.own), da_part = part(da[h], s);
        const Matrix<Real> a_dot = local_attention(turned, window.k, window.v, window.own),
                           a_mem = retrieve(q, M_[s], z_[s], epsilon());
        const Real gate = gated(in.beta[h], s) ? 1 / (1 + std::exp(-in.beta[h])) : 0;
        Matrix<Real> da_mem = da_part, da_dot = da_part;
        for (size_t t = 0; t < q.size(); ++t) {
          for (size_t j = 0; j < values; ++j) {
            d.beta[h] += da_part[t][j] * (a_mem[t][j] - a_dot[t][j]) * gate * (1 - gate);
            da_mem[t][j] *= gate;
            da_dot[t][j] *= 1 - gate;
          }
        }
        Matrix<Real> dq = zeros<Real>(q.size(), keys), dturned = dq;
        retrieve_gradient(q, M_[s], z_[s], epsilon(), da_mem, dq, dM, dz);
        local_attention_gradient(turned, window.k, window.v, window.own, da_dot, dturned, dwindow.k, dwindow.v);
        each_look(s, h, window, [&](size_t t, size_t at, Real weight) {
          const std::vector<Real> p = local_weights(turned[t], window.k, window.own + t + 1);
          for (size_t i = 0; i < p.size(); ++i) {
            const Real dscore = weight * (p[i] - (i == at ? 1 : 0)) / std::sqrt(static_cast<Real>(keys));
            for (size_t c = 0; c < keys; ++c) {
              dturned[t][c] += dscore * window.k[i][c];
              dwindow.k[i][c] += dscore * turned[t][c];
            }
          }
        });
        for (size_t t = 0; t < q.size(); ++t) {
          const std::vector<Real> back = turned_by(dturned[t], static_cast<double>(window.own + t), -1);
          for (size_t i = 0; i < keys; ++i)
            d.q[h][static_cast<size_t>(segments_[s].first) + t][i] += dq[t][i] + back[i];
        }
      }
      pointed_backward(in, s, dz, d);
      for (size_t i = 0; i < window.k.size(); ++i) {
        const std::vector<Real> back = turned_by(dwindow.k[i], static_cast<double>(i), -1);
        for (size_t c = 0; c < keys; ++c) d.k[window.token[i]][c] += back[c];
        for (size_t c = 0; c < values; ++c) d.v[window.token[i]][c] += dwindow.v[i][c];
      }
    }
    return d;
  }

 private:
  // What segment s sees: keys turned by their index in the list, and the token that stands there.
  struct Window {
    Matrix<Real> k, v;
    std::vector<size_t> token;
    size_t own;  // index of the segment's first token
  };
  struct Piece {
    size_t begin, end;
    bool delta;
  };

  Real epsilon() const { return static_cast<Real>(rules_.epsilon); }
  Real fold(size_t s) const { return static_cast<Real>(segments_[s].fold); }
  bool gated(Real beta, size_t s) const { return !std::isinf(beta) && (segments_[s].held > 0 || rules_.first_gated); }
  size_t segment_of(size_t token) const {
    size_t s = 0;
    while (static_cast<size_t>(segments_[s].first + segments_[s].tokens) <= token) ++s;
    return s;
  }
  static Matrix<Real> slice(const Matrix<Real> &m, size_t begin, size_t end) {
    return {m.begin() + static_cast<std::ptrdiff_t>(begin), m.begin() + static_cast<std::ptrdiff_t>(end)};
  }
  Matrix<Real> part(const Matrix<Real> &m, size_t s) const {
    return slice(m, static_cast<size_t>(segments_[s].first),
                 static_cast<size_t>(segments_[s].first + segments_[s].tokens));
  }

  // x rotated by a position; direction -1 is the transpose, which gradients take.
  std::vector<Real> turned_by(const std::vector<Real> &x, double position, Real direction = 1) const {
    const Rope &rope = rules_.rope;
    std::vector<Real> y = x;
    const size_t half = static_cast<size_t>(rope.dimensions) / 2;
    for (size_t i = 0; i < half; ++i) {
      const size_t a = rope.adjacent ? 2 * i : i, b = rope.adjacent ? 2 * i + 1 : i + half;
      const Real angle = static_cast<Real>(position * rope.frequency[i]), size = static_cast<Real>(rope.magnitude);
      const Real c = std::cos(angle) * size, s = std::sin(angle) * size * direction;
      y[a] = x[a] * c - x[b] * s;
      y[b] = x[a] * s + x[b] * c;
    }
    return y;
  }
  Matrix<Real> turned_all(const Matrix<Real> &m, size_t first) const {
    Matrix<Real> out;
    for (const auto &row : m) out.push_back(turned_by(row, static_cast<double>(first + out.size())));
    return out;
  }

  Window window_of(const Head<Real> &in, size_t s) const {
    const View view = StreamSpan::view(rules_.shape, 0, segments_[s]);
    Window window{{}, {}, {}, static_cast<size_t>(view.index_of(view.position))};
    for (int64_t i = 0; i < view.sinks; ++i) window.token.push_back(static_cast<size_t>(i));
    for (int64_t t = view.window_begin; t < segments_[s].first + segments_[s].tokens; ++t)
      window.token.push_back(static_cast<size_t>(t));
    for (const size_t token : window.token) {
      window.k.push_back(turned_by(in.k[token], static_cast<double>(window.k.size())));
      window.v.push_back(in.v[token]);
    }
    return window;
  }

  // As a closing segment goes into the memory: see fold() of attention.cc.
  std::vector<Piece> pieces(size_t s) const {
    std::vector<Piece> out;
    int64_t held = segments_[s].held;
    for (int64_t at = segments_[s].first, end = at + segments_[s].tokens; at < end;) {
      const bool delta = rules_.memory->compares(held);
      const int64_t stop = delta ? std::min(end, at + held) : end;
      out.push_back({static_cast<size_t>(at), static_cast<size_t>(stop), delta});
      held += stop - at;
      at = stop;
    }
    return out;
  }

  void fold_backward(const Head<Real> &in, size_t s, Matrix<Real> &dM, std::vector<Real> &dz, Head<Real> &d) const {
    const std::vector<Piece> all = pieces(s);
    std::vector<Matrix<Real>> M{M_[s]};
    std::vector<std::vector<Real>> z{z_[s]};
    const auto keys = [&](const Piece &p) { return slice(in.k, p.begin, p.end); };
    const auto values = [&](const Piece &p) { return slice(in.v, p.begin, p.end); };
    for (const Piece &p : all) {
      M.push_back(M.back());
      z.push_back(z.back());
      fold_linear(keys(p), p.delta ? novel(keys(p), values(p), M.back(), z.back(), epsilon()) : values(p), fold(s),
                  M.back(), z.back());
    }
    for (size_t i = all.size(); i-- > 0;) {
      const Piece &p = all[i];
      Matrix<Real> dk = zeros<Real>(p.end - p.begin, in.k[0].size()), dv = zeros<Real>(p.end - p.begin, in.v[0].size());
      if (p.delta) fold_delta_gradient(keys(p), values(p), fold(s), M[i], z[i], epsilon(), dM, dz, dk, dv);
      else fold_linear_gradient(keys(p), values(p), fold(s), dM, dz, dk, dv);
      for (size_t t = p.begin; t < p.end; ++t) {
        for (size_t c = 0; c < dk[0].size(); ++c) d.k[t][c] += dk[t - p.begin][c];
        for (size_t c = 0; c < dv[0].size(); ++c) d.v[t][c] += dv[t - p.begin][c];
      }
    }
  }

  // f(token of the segment, index in the window's list, weight)
  template <class Function>
  void each_look(size_t s, size_t h, const Window &window, const Function &f) const {
    for (const Looking &look : looking_) {
      if (look.head != h || segment_of(look.token) != s) continue;
      for (size_t i = static_cast<size_t>(StreamSpan::view(rules_.shape, 0, segments_[s]).sinks);
           i < window.token.size(); ++i)
        if (window.token[i] == look.subject)
          f(look.token - static_cast<size_t>(segments_[s].first), i, static_cast<Real>(look.weight));
    }
  }

  void pointed_backward(const Head<Real> &in, size_t s, std::vector<Real> &dz, Head<Real> &d) const {
    for (const Pointed &p : pointed_) {
      if (segment_of(p.token) != s) continue;
      const std::vector<Real> &q = in.q[p.head][p.token];
      std::vector<Real> there(q.size(), 0);
      Real share = 0, all = epsilon();
      for (size_t i = 0; i < q.size(); ++i) {
        for (const size_t source : p.sources) there[i] += fold(segment_of(source)) * sigma(in.k[source][i]);
        share += sigma(q[i]) * there[i];
        all += sigma(q[i]) * z_[s][i];
      }
      const Real weight = static_cast<Real>(p.weight);
      for (size_t i = 0; i < q.size(); ++i) {
        d.q[p.head][p.token][i] +=
            weight * (z_[s][i] / all - (p.sources.empty() ? 0 : there[i] / share)) * sigma_slope(q[i]);
        dz[i] += weight * sigma(q[i]) / all;
        for (const size_t source : p.sources)
          d.k[source][i] -= weight * fold(segment_of(source)) * sigma(q[i]) / share * sigma_slope(in.k[source][i]);
      }
    }
  }

  const AttentionRules &rules_;
  std::vector<SegmentSpan> segments_;
  std::vector<Pointed> pointed_;
  std::vector<Looking> looking_;
  std::vector<Matrix<Real>> M_;  // before each segment, and after the last
  std::vector<std::vector<Real>> z_;
};

}  // namespace infini::equations
