// Local attention that sees kept sentences, in plain loops: the reference of attention.cc's KeepProbe::bias, focus and
// standing.
#pragma once

#include "attention/equations.h"

namespace infini::equations {

struct Sentence {
  size_t begin, end;  // indices in the list of keys
  size_t from = 0;    // the first query that sees it raised, by its index there
};

// (6), where query t sees the keys 0 .. first_visible + t, and the head adds `bias` to the scores of the sentences
// that are raised for it, less `focus` times what the best score of the sentence lacks to the best of all these.
template <class Real>
Matrix<Real> kept_attention(const Matrix<Real> &q, const Matrix<Real> &k, const Matrix<Real> &v, size_t first_visible,
                            const std::vector<Sentence> &sentences, Real bias, Real focus) {
  Matrix<Real> a(q.size(), std::vector<Real>(v[0].size(), 0));
  for (size_t t = 0; t < q.size(); ++t) {
    std::vector<Real> score(first_visible + t + 1, 0);
    for (size_t s = 0; s < score.size(); ++s) {
      for (size_t i = 0; i < q[t].size(); ++i) score[s] += q[t][i] * k[s][i];
      score[s] /= std::sqrt(static_cast<Real>(q[t].size()));
    }
    std::vector<Sentence> kept;
    for (const Sentence &sentence : sentences)
      if (sentence.from <= first_visible + t) kept.push_back(sentence);
    const auto best_of = [&](const Sentence &sentence) {
      Real best = -INFINITY;
      for (size_t s = sentence.begin; s < sentence.end; ++s) best = std::fmax(best, score[s]);
      return best;
    };
    Real best = -INFINITY, sum = 0;
    std::vector<Real> lacks;
    for (const Sentence &sentence : kept) best = std::fmax(best, best_of(sentence));
    for (const Sentence &sentence : kept) lacks.push_back(best - best_of(sentence));
    if (bias != 0)
      for (size_t i = 0; i < kept.size(); ++i)
        for (size_t s = kept[i].begin; s < kept[i].end; ++s) score[s] += bias - focus * lacks[i];
    for (const Real x : score) sum += std::exp(x);
    for (size_t s = 0; s < score.size(); ++s)
      for (size_t j = 0; j < v[s].size(); ++j) a[t][j] += std::exp(score[s]) / sum * v[s][j];
  }
  return a;
}

}  // namespace infini::equations
