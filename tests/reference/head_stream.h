// One KV head's whole stream forward and backward, in plain loops: the reference of train/batch_attention.h. Its
// windows are its own. Gradients are as reference/gradients.h has them.
#pragma once

#include "attention/attention.h"
#include "reference/memory.h"
#include "train/batch_layout.h"

namespace infini::equations {

// One KV head, the query heads that share it, and one stream.
template <class Real>
struct Head {
  std::vector<Matrix<Real>> q;  // [group][tokens][d_key]
  Matrix<Real> k, v;            // [tokens][d_key], [tokens][d_value]
  std::vector<Real> beta;       // [group]; -inf: shut
};

// A supervised retrieval, of group head `head`: the loss gains -weight * log(share of `sources`). Epsilon is
// of the whole alone: a retrieval that finds nothing has no share in what it looks for. One without sources is to find
// nothing: the loss gains weight * log(all / epsilon).
struct Pointed {
  size_t head, token;
  std::vector<size_t> sources;
  double weight;
};

// Supervised local attention, of group head `head`: the loss gains -weight * log(p of `target`), if
// that token is in view and no sink.
struct Looking {
  size_t head, token, target;
  double weight;
};

class HeadStream {
 public:
  using Real = double;
  HeadStream(const AttentionRules &rules, std::vector<SegmentSpan> segments, std::vector<Pointed> pointed,
             std::vector<Looking> looking = {})
      : rules_(rules), segments_(std::move(segments)), pointed_(std::move(pointed)), looking_(std::move(looking)),
        memory_(memories().at(rules.memory->name())) {}

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
        const Matrix<Real> a_dot = attend_locally(turned_all(q, window.own), window);
        const Matrix<Real> a_mem = retrieve(memory_->asked(q), M_[s], z_[s], epsilon());
        const Matrix<Real> a = gated(in.beta[h], s) ? mix(a_mem, a_dot, in.beta[h]) : a_dot;
        std::copy(a.begin(), a.end(), out[h].begin() + segments_[s].first);
      }
      M_.push_back(M_[s]);
      z_.push_back(z_[s]);
      memory_->fold(part(in.k, s), part(in.v, s), fold(s), segments_[s].held, epsilon(), M_.back(), z_.back());
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
        const Real asked = sigma(memory_->asked(q[i]));
        all += asked * z_[segment_of(p.token)][i];
        for (const size_t source : p.sources) there += added(source, p) * asked * sigma(in.k[source][i]);
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

  // Of rules without a scale of scores, a cap or a window. After forward(): what each input gives to a loss with d loss
  // / d A = da, plus pointed_loss() and looking_loss().
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
      Window dwindow{zeros<Real>(window.k.size(), keys), zeros<Real>(window.v.size(), values), {}, window.own, 0};
      for (size_t h = 0; h < in.q.size(); ++h) {
        const Matrix<Real> q = part(in.q[h], s), asked = memory_->asked(q), turned = turned_all(q, window.own),
                           da_part = part(da[h], s);
        const Matrix<Real> a_dot = local_attention(turned, window.k, window.v, window.own),
                           a_mem = retrieve(asked, M_[s], z_[s], epsilon());
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
        retrieve_gradient(asked, M_[s], z_[s], epsilon(), da_mem, dq, dM, dz);
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
            d.q[h][static_cast<size_t>(segments_[s].first) + t][i] +=
                dq[t][i] * memory_->asked_slope(q[t][i]) + back[i];
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
    size_t own;    // index of the segment's first token
    size_t sinks;  // before the window
  };

  // (6) as the rules have it: scores with a scale of their own and capped, and a window that ends at each query.
  Matrix<Real> attend_locally(const Matrix<Real> &q, const Window &window) const {
    if (rules_.scale == 0 && rules_.soft_cap == 0 && rules_.shape.window == 0)
      return local_attention(q, window.k, window.v, window.own);
    Matrix<Real> a = zeros<Real>(q.size(), window.v[0].size());
    const Real scale =
        rules_.scale > 0 ? static_cast<Real>(rules_.scale) : 1 / std::sqrt(static_cast<Real>(q[0].size()));
    for (size_t t = 0; t < q.size(); ++t) {
      const size_t end = window.own + t + 1, size = static_cast<size_t>(rules_.shape.window);
      Real sum = 0;
      for (size_t s = size > 0 && end > size ? end - size : 0; s < end; ++s) {
        Real score = 0;
        for (size_t i = 0; i < q[t].size(); ++i) score += q[t][i] * window.k[s][i] * scale;
        const Real cap = static_cast<Real>(rules_.soft_cap),
                   weight = std::exp(cap > 0 ? cap * std::tanh(score / cap) : score);
        sum += weight;
        for (size_t j = 0; j < a[t].size(); ++j) a[t][j] += weight * window.v[s][j];
      }
      for (Real &x : a[t]) x /= sum;
    }
    return a;
  }

  Real epsilon() const { return static_cast<Real>(rules_.epsilon); }
  Real fold(size_t s) const { return static_cast<Real>(segments_[s].repeat_weight); }
  bool gated(Real beta, size_t s) const { return !std::isinf(beta) && (segments_[s].held > 0 || rules_.first_gated); }
  size_t segment_of(size_t token) const {
    size_t s = 0;
    while (static_cast<size_t>(segments_[s].first + segments_[s].tokens) <= token) ++s;
    return s;
  }
  // What z, as the query reads it, has of 1 that a source adds.
  Real added(size_t source, const Pointed &p) const {
    const size_t s = segment_of(source);
    return fold(s) * memory_->left(static_cast<int64_t>(segment_of(p.token) - s) - 1);
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

  // The sinks that stand before the window, then carry and segment.
  Window window_of(const Head<Real> &in, size_t s) const {
    const int64_t first = segments_[s].first, begin = std::max<int64_t>(0, first - rules_.shape.carry);
    Window window{{}, {}, {}, 0, static_cast<size_t>(std::min<int64_t>(rules_.shape.sinks, begin))};
    for (size_t t = 0; t < window.sinks; ++t) window.token.push_back(t);
    for (int64_t t = begin; t < first + segments_[s].tokens; ++t) window.token.push_back(static_cast<size_t>(t));
    window.own = window.token.size() - static_cast<size_t>(segments_[s].tokens);
    for (const size_t token : window.token) {
      window.k.push_back(turned_by(in.k[token], static_cast<double>(window.k.size())));
      window.v.push_back(in.v[token]);
    }
    return window;
  }

  void fold_backward(const Head<Real> &in, size_t s, Matrix<Real> &dM, std::vector<Real> &dz, Head<Real> &d) const {
    const Matrix<Real> k = part(in.k, s), v = part(in.v, s);
    Matrix<Real> dk = zeros<Real>(k.size(), k[0].size()), dv = zeros<Real>(v.size(), v[0].size());
    memory_->fold_gradient(k, v, fold(s), segments_[s].held, epsilon(), M_[s], z_[s], dM, dz, dk, dv);
    for (size_t t = 0; t < k.size(); ++t) {
      const size_t token = static_cast<size_t>(segments_[s].first) + t;
      for (size_t c = 0; c < dk[t].size(); ++c) d.k[token][c] += dk[t][c];
      for (size_t c = 0; c < dv[t].size(); ++c) d.v[token][c] += dv[t][c];
    }
  }

  // f(token of the segment, index in the window's list, weight)
  template <class Function>
  void each_look(size_t s, size_t h, const Window &window, const Function &f) const {
    for (const Looking &look : looking_) {
      if (look.head != h || segment_of(look.token) != s) continue;
      for (size_t i = window.sinks; i < window.token.size(); ++i)
        if (window.token[i] == look.target)
          f(look.token - static_cast<size_t>(segments_[s].first), i, static_cast<Real>(look.weight));
    }
  }

  void pointed_backward(const Head<Real> &in, size_t s, std::vector<Real> &dz, Head<Real> &d) const {
    for (const Pointed &p : pointed_) {
      if (segment_of(p.token) != s) continue;
      const std::vector<Real> &q = in.q[p.head][p.token], asked = memory_->asked({q})[0];
      std::vector<Real> there(q.size(), 0);
      Real share = 0, all = epsilon();
      for (size_t i = 0; i < q.size(); ++i) {
        for (const size_t source : p.sources) there[i] += added(source, p) * sigma(in.k[source][i]);
        share += sigma(asked[i]) * there[i];
        all += sigma(asked[i]) * z_[s][i];
      }
      const Real weight = static_cast<Real>(p.weight);
      for (size_t i = 0; i < q.size(); ++i) {
        d.q[p.head][p.token][i] += weight * (z_[s][i] / all - (p.sources.empty() ? 0 : there[i] / share)) *
                                   sigma_slope(asked[i]) * memory_->asked_slope(q[i]);
        dz[i] += weight * sigma(asked[i]) / all;
        for (const size_t source : p.sources)
          d.k[source][i] -= weight * added(source, p) * sigma(asked[i]) / share * sigma_slope(in.k[source][i]);
      }
    }
  }

  const AttentionRules &rules_;
  std::vector<SegmentSpan> segments_;
  std::vector<Pointed> pointed_;
  std::vector<Looking> looking_;
  std::shared_ptr<const Memory> memory_;
  std::vector<Matrix<Real>> M_;  // before each segment, and after the last
  std::vector<std::vector<Real>> z_;
};

}  // namespace infini::equations
