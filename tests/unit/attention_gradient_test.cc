// Gradients: the plain reference against central differences, the fast path against the reference, and whole models
// against golden gradients and against differences of a loss in f64.
#include "support.h"

#include "base/parallel.h"
#include "base/random.h"
#include "base/testing.h"
#include "decaying_memory.h"
#include "reference/head_stream.h"
#include "train/batch_attention.h"
#include "training.h"

using namespace infini;
using equations::Head;
using equations::HeadStream;
using equations::Looking;
using equations::Matrix;
using equations::Pointed;

namespace {

// A stream through one layer.
struct Case {
  const char *name;
  int heads, kv_heads, key_size, value_size, segment, carry, sinks, tokens;
  const char *kind;
  bool first_gated;
  float epsilon;
  std::vector<int64_t> closes;
  std::vector<float> fold;
  bool pointed = false, placed = false;
  int rope_dimensions = 0;  // 0: key_size
  bool adjacent = true;
  double magnitude = 1;
};

const Case kCases[] = {
    {"linear", 2, 1, 8, 8, 5, 0, 0, 23, "linear", true, 1e-6f, {}, {}},
    {"delta", 1, 1, 8, 8, 5, 0, 0, 23, "delta", true, 1e-6f, {}, {}},
    {"linear, ungated, odd sizes", 3, 1, 6, 5, 4, 0, 0, 17, "linear", false, 1e-6f, {}, {}},
    {"delta, ungated, grouped", 4, 2, 12, 10, 5, 0, 0, 19, "delta", false, 1e-3f, {}, {}},
    {"carry and sinks", 2, 2, 8, 8, 5, 7, 3, 31, "linear", true, 1e-6f, {}, {}},
    {"delta, carry and sinks, half rotated",
     2,
     1,
     8,
     6,
     4,
     3,
     2,
     22,
     "delta",
     true,
     1e-6f,
     {},
     {},
     false,
     false,
     4,
     false,
     1.3},
    {"delta closed early", 2, 1, 8, 8, 12, 0, 0, 47, "delta", true, 1e-6f, {1, 17, 29, 30}, {}},
    {"linear closed early with carry", 2, 1, 8, 8, 12, 5, 0, 47, "linear", true, 1e-6f, {1, 17, 29, 30}, {}},
    {"a large epsilon", 1, 1, 8, 8, 5, 0, 0, 23, "delta", true, 20.0f, {}, {}},
    {"linear, virtual length", 2, 1, 8, 8, 5, 0, 0, 23, "linear", true, 1e-6f, {}, {1, 20, 0.5f, 3, 1}},
    {"delta, virtual length", 2, 1, 8, 8, 5, 0, 0, 23, "delta", true, 1e-6f, {}, {1, 1.5f, 0.5f, 1, 1}},
    {"linear, supervised", 2, 1, 8, 8, 5, 0, 0, 23, "linear", true, 1e-6f, {}, {1, 20, 0.5f, 3, 1}, true},
    {"delta, supervised", 4, 2, 8, 8, 5, 0, 0, 23, "delta", true, 1e-6f, {}, {}, true},
    {"linear, supervised, carry and sinks", 2, 1, 8, 8, 5, 4, 2, 23, "linear", true, 1e-6f, {}, {}, true},
    {"linear, heads with offsets", 4, 2, 8, 8, 5, 0, 0, 23, "linear", true, 1, {}, {1, 20, 0.5f, 3, 1}, true, true},
    {"delta, heads with offsets, a small epsilon", 4, 1, 8, 8, 5, 0, 0, 23, "delta", true, 1e-6f, {}, {}, true, true},
    {"wide heads, long segments", 4, 2, 72, 80, 200, 130, 3, 450, "delta", true, 1e-6f, {}, {}},
    {"decaying", 2, 1, 8, 8, 5, 0, 0, 23, "decaying", true, 1e-6f, {}, {}},
    {"decaying closed early with carry", 2, 1, 8, 8, 12, 5, 0, 47, "decaying", true, 1e-3f, {1, 17, 29, 30}, {}},
    {"decaying, supervised, virtual length",
     4,
     2,
     8,
     8,
     5,
     0,
     0,
     23,
     "decaying",
     true,
     1e-6f,
     {},
     {1, 20, 0.5f, 3, 1},
     true},
};

struct Problem {
  explicit Problem(const Case &c) {
    rules.shape = {{c.heads, c.kv_heads, c.key_size, c.value_size}, c.segment, c.carry, c.sinks, NumberType::F32};
    rules.memory = find_memory_kind(c.kind);
    REQUIRE(rules.memory);
    rules.first_gated = c.first_gated;
    rules.epsilon = c.epsilon;
    rules.rope.adjacent = c.adjacent;
    rules.rope.dimensions = c.rope_dimensions ? c.rope_dimensions : c.key_size;
    rules.rope.magnitude = c.magnitude;
    for (int i = 0; i < rules.rope.dimensions / 2; ++i)
      rules.rope.frequency.push_back(std::pow(100.0, -2.0 * i / rules.rope.dimensions));
    Sequence sequence;
    sequence.tokens.assign(static_cast<size_t>(c.tokens), 0);
    sequence.weight.assign(sequence.tokens.size(), 1);
    sequence.answer.assign(sequence.tokens.size(), 0);
    sequence.repeat_weight = c.fold;
    if (c.pointed) {
      for (const auto &[t, source] : {std::pair{14, 3}, {18, 14}, {19, 8}}) test::link(sequence, t, source);
      sequence.links.back().weight = 0.6f;
      // In its own segment, in the one before, far before, at the stream's beginning.
      sequence.local_target.assign(sequence.tokens.size(), -1);
      for (const auto &[t, target] : {std::pair{7, 6}, {8, 4}, {14, 13}, {16, 13}, {20, 2}, {3, 0}, {6, 1}})
        sequence.local_target[static_cast<size_t>(t)] = target;
    }
    if (c.placed) {
      sequence.tags.resize(sequence.tokens.size());
      for (const auto &[t, offset] : {std::pair{3, 0}, {8, 1}, {14, 0}, {18, 0}, {19, 1}})
        sequence.tags[static_cast<size_t>(t)] = {0, offset};
    }
    layout.add(sequence, c.segment, 1, c.closes);
    if (c.pointed) REQUIRE(layout.retrievals.size() == 3);
    if (c.placed) {
      layout.silent = {2, 16, 21};
      for (int h = 0; h < c.heads; ++h)
        offsets.push_back(h - 1), silence.push_back(h == 3 ? 0 : 0.2f + static_cast<float>(h));
    }

    Random random(7);
    const int64_t stride = c.heads * c.key_size + c.kv_heads * (c.key_size + c.value_size);
    qkv.resize(static_cast<size_t>(stride * c.tokens));
    for (float &x : qkv) x = static_cast<float>(random.normal());
    da.resize(static_cast<size_t>(c.heads * c.value_size * c.tokens));
    for (float &x : da) x = static_cast<float>(random.normal());
    for (int h = 0; h < c.heads; ++h) beta.push_back(h == 3 ? -INFINITY : static_cast<float>(random.normal()));
    for (const float b : beta) gate.push_back(std::isinf(b) ? 0.0f : 1 / (1 + std::exp(-b)));
    if (c.pointed)
      for (int h = 0; h < c.heads; ++h)
        supervision.push_back(h == 0 ? 0 : 0.5f + static_cast<float>(h)),
            local_supervision.push_back(h == 1 ? 0 : 0.7f + static_cast<float>(h));
  }

  Head<double> head(int kv_head) const {
    const AttentionShape &s = rules.shape;
    const size_t stride = qkv.size() / layout.tokens.size();
    Head<double> in;
    const auto column = [&](int64_t first, int64_t size) {
      Matrix<double> m;
      for (size_t t = 0; t < layout.tokens.size(); ++t)
        m.emplace_back(qkv.begin() + static_cast<std::ptrdiff_t>(t * stride) + first,
                       qkv.begin() + static_cast<std::ptrdiff_t>(t * stride) + first + size);
      return m;
    };
    for (int g = 0; g < s.group(); ++g) {
      in.q.push_back(column((kv_head * s.group() + g) * s.key_size, s.key_size));
      in.beta.push_back(beta[static_cast<size_t>(kv_head * s.group() + g)]);
    }
    in.k = column((s.heads + kv_head) * s.key_size, s.key_size);
    in.v = column((s.heads + s.kv_heads) * s.key_size + kv_head * s.value_size, s.value_size);
    return in;
  }
  std::vector<Matrix<double>> gradient_of_output(int kv_head) const {
    const AttentionShape &s = rules.shape;
    std::vector<Matrix<double>> out;
    for (int g = 0; g < s.group(); ++g) {
      Matrix<double> m;
      for (size_t t = 0; t < layout.tokens.size(); ++t) {
        const auto row = da.begin() + static_cast<std::ptrdiff_t>(t * static_cast<size_t>(s.heads * s.value_size)) +
                         (kv_head * s.group() + g) * s.value_size;
        m.emplace_back(row, row + s.value_size);
      }
      out.push_back(m);
    }
    return out;
  }
  HeadStream reference(int kv_head) const {
    std::vector<Pointed> pointed;
    for (const Retrieval &r : layout.retrievals) {
      std::vector<size_t> sources;
      for (int64_t i = 0; i < r.sources; ++i)
        sources.push_back(static_cast<size_t>(layout.source_rows[static_cast<size_t>(r.first_source + i)]));
      for (int g = 0; g < rules.shape.group(); ++g) {
        const float weight = supervision[static_cast<size_t>(kv_head * rules.shape.group() + g)];
        if (weight != 0 && offset(kv_head, g) != -1 && offset(kv_head, g) != asked_offset(r))
          hush(pointed, kv_head, g, r.row);
        else if (weight != 0)
          pointed.push_back({static_cast<size_t>(g), static_cast<size_t>(r.row), sources, weight * r.weight});
      }
    }
    for (const int64_t row : layout.silent)
      for (int g = 0; g < rules.shape.group(); ++g)
        if (offset(kv_head, g) != -1) hush(pointed, kv_head, g, row);
    std::vector<Looking> looking;
    for (size_t t = 0; t < layout.local_target.size() && !local_supervision.empty(); ++t)
      for (int g = 0; g < rules.shape.group() && layout.local_target[t] >= 0; ++g)
        looking.push_back(
            {static_cast<size_t>(g), t, static_cast<size_t>(layout.local_target[t]),
             static_cast<double>(local_supervision[static_cast<size_t>(kv_head * rules.shape.group() + g)])});
    return {rules, layout.segments, pointed, looking};
  }

  int32_t offset(int kv_head, int g) const {
    return offsets.empty() ? -1 : offsets[static_cast<size_t>(kv_head * rules.shape.group() + g)];
  }
  // A retrieval that is to find nothing.
  void hush(std::vector<Pointed> &pointed, int kv_head, int g, int64_t row) const {
    pointed.push_back({static_cast<size_t>(g),
                       static_cast<size_t>(row),
                       {},
                       static_cast<double>(silence[static_cast<size_t>(kv_head * rules.shape.group() + g)])});
  }
  int32_t asked_offset(const Retrieval &query) const { return layout.tags[static_cast<size_t>(query.row) + 1].offset; }

  AttentionRules rules;
  BatchLayout layout;
  std::vector<float> qkv, da, beta, gate, supervision, local_supervision, silence;
  std::vector<int32_t> offsets;
};

class ProblemWeights : public SupervisionWeights {
 public:
  explicit ProblemWeights(const Problem &problem) : problem_(problem) {}
  bool supervises(int, int head) const override { return given(problem_.supervision, head) != 0; }
  bool supervises_locally(int, int head) const override { return given(problem_.local_supervision, head) != 0; }
  float retrieval(const BatchLayout &, const Retrieval &query, int, int head) const override {
    const bool asked = offset(head) < 0 || offset(head) == problem_.asked_offset(query);
    return asked ? given(problem_.supervision, head) * query.weight : 0;
  }
  float silence(const BatchLayout &, int64_t, int, int head) const override {
    return offset(head) < 0 ? 0 : given(problem_.silence, head);
  }
  float local(const BatchLayout &, int64_t, int, int head) const override {
    return given(problem_.local_supervision, head);
  }

 private:
  static float given(const std::vector<float> &weights, int head) {
    return weights.empty() ? 0 : weights[static_cast<size_t>(head)];
  }
  int32_t offset(int head) const { return problem_.offsets.empty() ? -1 : problem_.offsets[static_cast<size_t>(head)]; }
  const Problem &problem_;
};

double dot_all(const Matrix<double> &a, const Matrix<double> &b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < a[i].size(); ++j) sum += a[i][j] * b[i][j];
  return sum;
}

double loss_of(const Problem &problem, int kv_head, const Head<double> &in) {
  HeadStream reference = problem.reference(kv_head);
  const auto a = reference.forward(in), da = problem.gradient_of_output(kv_head);
  double loss = reference.pointed_loss(in) + reference.looking_loss(in);
  for (size_t g = 0; g < a.size(); ++g) loss += dot_all(a[g], da[g]);
  return loss;
}

}  // namespace

TEST_CASE("the reference's gradients are those that central differences give, for every kind of input") {
  for (const Case &c : kCases) {
    if (c.tokens > 100) continue;
    const Problem problem(c);
    for (int kv_head = 0; kv_head < c.kv_heads; ++kv_head) {
      Head<double> in = problem.head(kv_head);
      HeadStream reference = problem.reference(kv_head);
      reference.forward(in);
      Head<double> d = reference.backward(in, problem.gradient_of_output(kv_head));
      CAPTURE(std::string(c.name));
      double worst = 0, largest = 0;
      const auto check = [&](double &x, double gradient) {
        const double h = 1e-5, before = x;
        if (std::isinf(before)) {
          CHECK(gradient == 0);
          return;
        }
        x = before + h;
        const double above = loss_of(problem, kv_head, in);
        x = before - h;
        const double below = loss_of(problem, kv_head, in);
        x = before;
        worst = test::larger(worst, std::abs((above - below) / (2 * h) - gradient));
        largest = std::max(largest, std::abs(gradient));
      };
      for (size_t g = 0; g < in.beta.size(); ++g) check(in.beta[g], d.beta[g]);
      for (size_t t = 0; t < in.k.size(); t += 2) {
        for (size_t g = 0; g < in.q.size(); ++g) check(in.q[g][t][t % in.k[t].size()], d.q[g][t][t % in.k[t].size()]);
        check(in.k[t][t % in.k[t].size()], d.k[t][t % in.k[t].size()]);
        check(in.v[t][t % in.v[t].size()], d.v[t][t % in.v[t].size()]);
      }
      CHECK(worst < 1e-7 * std::max(1.0, largest));
    }
  }
}

TEST_CASE("the fast path's outputs and gradients are the reference's, on any number of threads") {
  const EagerThreads eager;
  ThreadPool pool;
  for (const int threads : {1, 3}) {
    const ThreadScope team(pool, threads);
    for (const Case &c : kCases) {
      const int64_t shared = eager.items_of_others();
      CAPTURE(std::string(c.name));
      CAPTURE(threads);
      const Problem problem(c);
      const size_t stride = problem.qkv.size() / problem.layout.tokens.size();
      const int64_t out_stride = c.heads * c.value_size;
      RopeTable rope;
      AttentionTrace trace;
      TraceScratch scratch;
      rope.prepare(problem.rules);
      trace.reserve(problem.rules, problem.layout);
      scratch.reserve({&problem.rules, 1}, threads);
      const ProblemWeights weights(problem);
      const LayerAttention attention{problem.rules,
                                     problem.layout,
                                     rope,
                                     {problem.qkv.data(), static_cast<int64_t>(stride)},
                                     problem.gate.data(),
                                     0,
                                     &weights,
                                     trace,
                                     scratch};
      std::vector<float> out(problem.da.size()), dqkv(problem.qkv.size(), 777.0f);
      std::vector<double> dbeta(static_cast<size_t>(c.heads));
      attend_streams(team, attention, NumberType::F32, out.data(), out_stride);
      const Supervision supervision =
          attend_streams_gradient(team, attention, problem.da.data(), out_stride, dqkv.data(), dbeta.data());

      double expected_loss = 0, expected_local_loss = 0;
      std::vector<float> expected_out(out.size()), expected(dqkv.size()), actual_beta, expected_beta;
      for (int kv_head = 0; kv_head < c.kv_heads; ++kv_head) {
        const Head<double> in = problem.head(kv_head);
        HeadStream reference = problem.reference(kv_head);
        const auto a = reference.forward(in);
        const Head<double> d = reference.backward(in, problem.gradient_of_output(kv_head));
        expected_loss += reference.pointed_loss(in);
        expected_local_loss += reference.looking_loss(in);
        const int group = c.heads / c.kv_heads;
        for (size_t t = 0; t < problem.layout.tokens.size(); ++t) {
          const auto put = [&](std::vector<float> &to, size_t row, int64_t at, const std::vector<double> &from) {
            for (size_t i = 0; i < from.size(); ++i)
              to[t * row + static_cast<size_t>(at) + i] = static_cast<float>(from[i]);
          };
          for (int g = 0; g < group; ++g) {
            put(expected_out, static_cast<size_t>(out_stride), (kv_head * group + g) * c.value_size,
                a[static_cast<size_t>(g)][t]);
            put(expected, stride, (kv_head * group + g) * c.key_size, d.q[static_cast<size_t>(g)][t]);
          }
          put(expected, stride, (c.heads + kv_head) * c.key_size, d.k[t]);
          put(expected, stride, (c.heads + c.kv_heads) * c.key_size + kv_head * c.value_size, d.v[t]);
        }
        for (const double b : d.beta) expected_beta.push_back(static_cast<float>(b));
      }
      for (const double b : dbeta) actual_beta.push_back(static_cast<float>(b));
      CHECK(test::relative_difference(out, expected_out) < 1e-5);
      CHECK(test::relative_difference(dqkv, expected) < 1e-4);
      CHECK(test::largest_difference(actual_beta, expected_beta) < 1e-4);
      CHECK(supervision.retrieval.loss == doctest::Approx(expected_loss).epsilon(1e-5));
      CHECK(supervision.local.loss == doctest::Approx(expected_local_loss).epsilon(1e-5));
      CHECK((supervision.local.count > 0) == c.pointed);
      CHECK((eager.items_of_others() > shared) == (threads > 1 && c.kv_heads > 1));
    }
  }
}

TEST_CASE("supervision alone gives what supervision gives beside a loss that is nothing") {
  const EagerThreads eager;
  ThreadPool pool;
  // Features that are smaller by exp(vanishing) find nothing.
  for (const auto &[threads, vanishing] :
       {std::pair(1, 0.0f), std::pair(1, 20.0f), std::pair(3, 0.0f), std::pair(3, 20.0f)}) {
    const ThreadScope team(pool, threads);
    for (const Case &c : kCases) {
      if (!c.pointed) continue;
      CAPTURE(std::string(c.name));
      Problem problem(c);
      const size_t stride = problem.qkv.size() / problem.layout.tokens.size();
      for (size_t t = 0; t < problem.layout.tokens.size(); ++t)
        for (int i = 0; i < (c.heads + c.kv_heads) * c.key_size; ++i)
          problem.qkv[t * stride + static_cast<size_t>(i)] -= vanishing;
      RopeTable rope;
      AttentionTrace trace;
      TraceScratch scratch;
      trace.reserve(problem.rules, problem.layout);
      scratch.reserve({&problem.rules, 1}, threads);
      const std::vector<float> shut(problem.gate.size());
      // Values, and queries that are not supervised, are neither read nor given a gradient.
      const std::vector<int64_t> supervised_rows = problem.layout.supervised_rows();
      const auto is_told = [&](size_t row) {
        return std::binary_search(supervised_rows.begin(), supervised_rows.end(), static_cast<int64_t>(row));
      };
      std::vector<float> qkv = problem.qkv;
      for (size_t t = 0; t < problem.layout.tokens.size(); ++t)
        for (size_t i = 0; i < stride; ++i)
          if (const int column = static_cast<int>(i);
              column >= (c.heads + c.kv_heads) * c.key_size || (column < c.heads * c.key_size && !is_told(t)))
            qkv[t * stride + i] = std::numeric_limits<float>::quiet_NaN();
      Problem alone = problem;
      alone.local_supervision.clear();
      const ProblemWeights weights(alone);
      const LayerAttention attention{
          problem.rules, problem.layout, rope,   {qkv.data(), static_cast<int64_t>(stride)}, shut.data(), 0,
          &weights,      trace,          scratch};
      std::vector<float> dqkv(problem.qkv.size(), 777.0f), expected = dqkv;
      const Supervised supervised = supervise_streams(team, attention, supervised_rows, dqkv.data());
      double loss = 0;
      for (int kv_head = 0; kv_head < c.kv_heads; ++kv_head) {
        const Head<double> in = problem.head(kv_head);
        HeadStream reference = alone.reference(kv_head);
        reference.forward(in);
        auto nothing = problem.gradient_of_output(kv_head);
        for (auto &of_head : nothing)
          for (auto &row : of_head) std::fill(row.begin(), row.end(), 0.0);
        const Head<double> d = reference.backward(in, nothing);
        loss += reference.pointed_loss(in);
        const int group = c.heads / c.kv_heads;
        for (size_t t = 0; t < problem.layout.tokens.size(); ++t) {
          for (int g = 0; g < group; ++g)
            for (int i = 0; i < c.key_size; ++i) {
              const double dq = d.q[static_cast<size_t>(g)][t][static_cast<size_t>(i)];
              if (is_told(t))
                expected[t * stride + static_cast<size_t>((kv_head * group + g) * c.key_size + i)] =
                    static_cast<float>(dq);
              else CHECK(dq == 0);
            }
          for (int i = 0; i < c.key_size; ++i)
            expected[t * stride + static_cast<size_t>((c.heads + kv_head) * c.key_size + i)] =
                static_cast<float>(d.k[t][static_cast<size_t>(i)]);
        }
      }
      CHECK(test::relative_difference(dqkv, expected) < 1e-4);
      CHECK(supervised.loss == doctest::Approx(loss).epsilon(1e-5));
      int64_t queries = 0;
      for (size_t h = 0; h < problem.supervision.size(); ++h)
        for (const Retrieval &r : problem.layout.retrievals)
          queries += problem.supervision[h] != 0 && (problem.offsets.empty() || problem.offsets[h] < 0 ||
                                                     problem.offsets[h] == problem.asked_offset(r));
      CHECK(supervised.count == queries);
      CHECK(supervised.share > 0);
      CHECK(supervised.share < static_cast<double>(supervised.count) * (vanishing > 0 ? 1e-6 : 1));
    }
  }
  CHECK(eager.items_of_others() > 0);
}
