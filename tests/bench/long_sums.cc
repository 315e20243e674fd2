// How well f32 keeps the sums of a memory over 100 million tokens, judged by the trace that one stored fact leaves.
//
//   bench_long_sums [TOKENS]      100,000,000
//
// One head of 64 by 64 reads random segments; a fact (k, v) stands in the first. After every power of ten the memory's
// answer to q = k is compared with that of f64 sums over the same numbers:
//
//   error = |A_mem(sums) - A_mem(f64)| / |trace|,   trace = sigma(q) sigma(k)^T v / (sigma(q) z)
//
// An error of 1 buries the fact. `f32`: M += S a segment; `kept rest`: the same, where what rounding lost is added to
// the next segment's sum (Kahan); `engine`: the library's own Memory, and its own retrieval in f32.
// Fails where the library's answer is farther than kBound from that of f64 sums, at any length: what rounding its sums
// loses must not be seen beside the rounding of an answer in f32.
// Keys: `plain`, normal ones whose features are all alike; `sharp`, as training makes them: filler writes exp(-6) of
// it.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "kernels/kernels.h"
#include "memory/memory.h"

using namespace infini;

namespace {

constexpr int kSize = 64, kPool = 64;
constexpr double kBound = 1e-6;    // of values whose mean has a norm of 2.4; f32 sums pass it before a million tokens
using Sums = std::vector<double>;  // [kSize][kSize] of M, then [kSize] of z

struct Segment {
  std::vector<float> features, values;  // sigma(K), V: [tokens][kSize]
  Sums exact;
  std::vector<float> rounded;  // exact, as f32 sums have it
};

Segment make_segment(int tokens, double shift, std::mt19937_64 &random) {
  std::normal_distribution<float> normal;
  Segment segment;
  for (int i = 0; i < tokens * kSize; ++i)
    segment.features.push_back(normal(random) + static_cast<float>(shift)),
        segment.values.push_back(0.3f + normal(random));
  elu_plus_one(segment.features.data(), tokens * kSize, segment.features.data());
  segment.exact.assign(kSize * kSize + kSize, 0);
  for (int t = 0; t < tokens; ++t)
    for (int i = 0; i < kSize; ++i) {
      const double feature = segment.features[static_cast<size_t>(t * kSize + i)];
      for (int j = 0; j < kSize; ++j)
        segment.exact[static_cast<size_t>(i * kSize + j)] +=
            feature * static_cast<double>(segment.values[static_cast<size_t>(t * kSize + j)]);
      segment.exact[static_cast<size_t>(kSize * kSize + i)] += feature;
    }
  segment.rounded.assign(segment.exact.begin(), segment.exact.end());
  return segment;
}

template <class Real>
std::vector<double> answer(const std::vector<Real> &sums, const std::vector<float> &query) {
  std::vector<double> a(kSize);
  double denominator = 0;
  for (size_t i = 0; i < kSize; ++i) {
    denominator += static_cast<double>(query[i]) * static_cast<double>(sums[kSize * kSize + i]);
    for (size_t j = 0; j < kSize; ++j) a[j] += static_cast<double>(query[i]) * static_cast<double>(sums[i * kSize + j]);
  }
  for (double &x : a) x /= denominator;
  return a;
}

double distance(const std::vector<double> &a, const std::vector<double> &b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

// Whether the library's answer is that of f64 sums, but for kBound, at every length.
bool run(const char *keys, double shift, int tokens, double most) {
  std::mt19937_64 random(1);
  Segment fact = make_segment(1, 0, random);
  for (float &x : fact.features) x = 3 * x;  // a key like no other, asked for as it is
  const std::vector<float> query = fact.features;
  fact.exact.assign(kSize * kSize + kSize, 0);
  for (size_t i = 0; i < kSize; ++i) {
    for (size_t j = 0; j < kSize; ++j)
      fact.exact[i * kSize + j] = static_cast<double>(query[i]) * static_cast<double>(fact.values[j]);
    fact.exact[kSize * kSize + i] = query[i];
  }
  std::vector<Segment> pool;
  for (int i = 0; i < kPool; ++i) pool.push_back(make_segment(tokens, shift, random));

  Sums exact = fact.exact;
  std::vector<float> plain(exact.begin(), exact.end()), kept = plain, rest(plain.size());
  Memory engine(linear_memory(), kSize, kSize);
  const auto fold = [&](Segment &segment, int64_t count) {
    engine.fold({count, 0, count, 0}, [&](int64_t, int64_t) {
      return FoldRows{count, dense_tile(segment.features.data(), kSize), {segment.values.data(), count}, {}, nullptr};
    });
  };
  fold(fact, 1);
  const double strength = distance(answer(fact.exact, query), Sums(kSize));  // of v, when nothing else is stored
  double next = 1e5, feature = 0;
  bool good = true;
  for (const float x : query) feature += static_cast<double>(x) * static_cast<double>(x);
  for (double done = tokens; done < most + tokens; done += tokens) {
    Segment &segment = pool[random() % kPool];
    for (size_t i = 0; i < exact.size(); ++i) {
      exact[i] += segment.exact[i];
      plain[i] += segment.rounded[i];
      const float sum = segment.rounded[i] + rest[i], before = kept[i];
      kept[i] += sum;
      rest[i] = sum - (kept[i] - before);
    }
    fold(segment, tokens);
    if (done < next) continue;
    double denominator = 0;
    for (size_t i = 0; i < kSize; ++i) denominator += static_cast<double>(query[i]) * exact[kSize * kSize + i];
    const double trace = strength * feature / denominator;
    const std::vector<double> truth = answer(exact, query);
    float numerator[kSize], engine_denominator;
    engine.read(query.data(), 1, 0, numerator, &engine_denominator);
    std::vector<double> read(kSize);
    for (size_t j = 0; j < kSize; ++j)
      read[j] = static_cast<double>(numerator[j]) / static_cast<double>(engine_denominator);
    std::printf("%-6s %6d %12.0f %12.2e %12.2e %12.2e %12.2e\n", keys, tokens, next, trace,
                distance(answer(plain, query), truth) / trace, distance(answer(kept, query), truth) / trace,
                distance(read, truth) / trace);
    std::fflush(stdout);
    good &= distance(read, truth) < kBound;
    next *= 10;
  }
  return good;
}

}  // namespace

int main(int argc, char **argv) {
  const double most = argc > 1 ? std::strtod(argv[1], nullptr) : 1e8;
  std::printf("%-6s %6s %12s %12s %12s %12s %12s\n", "keys", "N", "tokens", "trace", "f32", "kept rest", "engine");
  bool good = true;
  for (const int tokens : {64, 2048}) {
    good &= run("plain", 0, tokens, most);
    good &= run("sharp", -6, tokens, most);
  }
  if (!good) std::printf("an answer is farther than %.0e from that of f64 sums\n", kBound);
  return good ? 0 : 1;
}
