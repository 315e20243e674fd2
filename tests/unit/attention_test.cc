// The fast path of Infini-attention against the equations, and the properties that follow from them.
#include "support.h"

#include <array>

#include "attention/attention.h"
#include "attention/equations.h"
#include "base/number.h"
#include "base/random.h"
#include "base/testing.h"
#include "decaying_memory.h"
#include "reference/keep.h"

using namespace infini;
using equations::Matrix;

namespace {

struct Case {
  int heads = 4, kv_heads = 2, key_size = 16, value_size = 16, segment = 12, carry = 0, sinks = 0;
  std::string kind = "linear";
  bool first_gated = true;
  int64_t tokens = 61;
  NumberType type = NumberType::F32;
  int keep = 0;
  float focus = 0;
  bool gated = true;
  int standing = 0;
  bool int8 = false;
};

const Threads kAlone;

AttentionRules rules_of(const Case &c) {
  AttentionRules rules;
  rules.shape = {{c.heads, c.kv_heads, c.key_size, c.value_size}, c.segment, c.carry, c.sinks, c.type, c.keep};
  rules.shape.keep_focus = c.focus;
  rules.shape.keep_standing = c.standing;
  rules.shape.int8 = c.int8;
  rules.rope.dimensions = c.key_size;
  for (int i = 0; i < c.key_size / 2; ++i) rules.rope.frequency.push_back(std::pow(10000.0, -2.0 * i / c.key_size));
  rules.memory = find_memory_kind(c.kind);
  rules.first_gated = c.first_gated;
  return rules;
}

// Random q, k, v rows of a stream.
struct Stream {
  Stream(const Case &c, uint64_t seed) : stride(c.heads * c.key_size + c.kv_heads * (c.key_size + c.value_size)) {
    Random random(seed);
    rows.resize(static_cast<size_t>(c.tokens * stride));
    for (float &x : rows) x = static_cast<float>(random.normal() * 1.5);
  }
  int64_t stride;
  std::vector<float> rows;
  std::vector<double> slice(int64_t token, int64_t begin, int size) const {
    const float *from = rows.data() + token * stride + begin;
    return {from, from + size};
  }
};

std::vector<float> gate_weights(const Case &c) {
  std::vector<float> weights;
  for (int h = 0; h < c.heads; ++h)
    weights.push_back(c.gated ? 1 / (1 + std::exp(-0.7f * static_cast<float>(h - 1))) : 0);
  return weights;
}

// A layer that is fed `cut` tokens at a time: what model/forward.cc does with it.
struct Layer {
  Layer(const Case &c, const Threads &team = kAlone)
      : threads(team), rules(rules_of(c)), gates(gate_weights(c)), state(rules, gates.data()),
        gemm(GemmLibrary::ONEDNN) {}

  std::vector<float> feed(const Stream &stream, int64_t begin, int64_t end, int64_t cut, bool exact = false) {
    const AttentionShape &shape = rules.shape;
    const int64_t width = int64_t{shape.heads} * shape.value_size, half = rules.rope.dimensions / 2;
    std::vector<float> out(static_cast<size_t>((end - begin) * width));
    scratch.reserve(shape, 8, end - begin);
    for (int64_t t = begin; t < end;) {
      const int64_t count = std::min({cut, end - t, shape.segment - view.open()});
      std::vector<float> cosine(static_cast<size_t>(count * half)), sine(cosine.size());
      for (int64_t i = 0; i < count; ++i) rules.rope.angles(t + i, cosine.data() + i * half, sine.data() + i * half);
      std::vector<uint16_t> out16(static_cast<size_t>(count * width));
      void *to = shape.type == NumberType::F32 ? static_cast<void *>(out.data() + (t - begin) * width) : out16.data();
      const QkvRows qkv{stream.rows.data() + t * stream.stride, stream.stride};
      attend(threads, rules, gemm, state,
             {view, count, qkv, cosine.data(), sine.data(), gates.data(),
              keep_bias.empty() ? nullptr : keep_bias.data(), raised, to, width},
             exact, scratch);
      if (shape.type == NumberType::BF16) widen(out16.data(), count * width, out.data() + (t - begin) * width);
      view.position += count;
      t += count;
      if (view.open() == shape.segment) close();
    }
    return out;
  }
  // `sentences` of the segment, by their tokens' positions, are kept, and nothing else.
  void close(std::vector<KeptSpan> sentences = {}) {
    Closing closing;
    closing.after = view.closed(rules.shape);
    closing.spans = std::move(sentences);
    for (const KeptSpan &span : closing.spans)
      for (int64_t t = span.begin; t < span.begin + span.tokens; ++t) closing.sources.push_back(view.index_of(t));
    closing.after.kept = static_cast<int64_t>(closing.sources.size());
    FrontAngles angles;
    close_segment(threads, rules, state, view, closing, angles, scratch);
    view = closing.after;
    raised.clear();
    int64_t index = view.sinks;
    for (const KeptSpan &span : closing.spans) raised.push_back({index, span.tokens, 0}), index += span.tokens;
  }

  const Threads &threads;
  AttentionRules rules;
  std::vector<float> gates;
  LayerState state;
  Gemm gemm;
  AttentionScratch scratch;
  View view;
  std::vector<RaisedSpan> raised;
  std::vector<float> keep_bias;  // [heads], or empty
};

std::vector<double> turned(const AttentionRules &rules, std::vector<double> x, int64_t position) {
  for (size_t i = 0; i < rules.rope.frequency.size(); ++i) {
    const double angle = static_cast<double>(position) * rules.rope.frequency[i], a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * std::cos(angle) - b * std::sin(angle);
    x[2 * i + 1] = a * std::sin(angle) + b * std::cos(angle);
  }
  return x;
}

// The whole stream by the equations, segment by segment, in f64; positions restart with each segment's list.
std::vector<float> by_equations(const Case &c, const Stream &stream) {
  const AttentionRules rules = rules_of(c);
  const std::vector<float> gates = gate_weights(c);
  const equations::Memory &memory = *equations::memories().at(c.kind);
  std::vector<float> out(static_cast<size_t>(c.tokens * c.heads * c.value_size));
  for (int h = 0; h < c.heads; ++h) {
    const int kv = h / rules.shape.group();
    const auto key = [&](int64_t t) { return stream.slice(t, c.heads * c.key_size + kv * c.key_size, c.key_size); };
    const auto value = [&](int64_t t) {
      return stream.slice(t, (c.heads + c.kv_heads) * c.key_size + kv * c.value_size, c.value_size);
    };
    Matrix<double> M(static_cast<size_t>(c.key_size), std::vector<double>(static_cast<size_t>(c.value_size), 0));
    std::vector<double> z(static_cast<size_t>(c.key_size), 0);
    for (int64_t begin = 0; begin < c.tokens; begin += c.segment) {
      const int64_t end = std::min<int64_t>(begin + c.segment, c.tokens),
                    window = std::max<int64_t>(0, begin - c.carry);
      std::vector<int64_t> list;
      for (int64_t t = 0; t < std::min<int64_t>(c.sinks, window); ++t) list.push_back(t);
      for (int64_t t = window; t < end; ++t) list.push_back(t);
      const size_t before = list.size() - static_cast<size_t>(end - begin);
      Matrix<double> q, raw_q, k, v, raw_k, segment_v;
      for (size_t i = 0; i < list.size(); ++i) {
        k.push_back(turned(rules, key(list[i]), static_cast<int64_t>(i)));
        v.push_back(value(list[i]));
        if (i < before) continue;
        raw_q.push_back(stream.slice(list[i], h * c.key_size, c.key_size));
        q.push_back(turned(rules, raw_q.back(), static_cast<int64_t>(i)));
        raw_k.push_back(key(list[i]));
        segment_v.push_back(v.back());
      }
      Matrix<double> a = equations::local_attention(q, k, v, before);
      if (begin > 0 || c.first_gated) {
        const double gate = static_cast<double>(gates[static_cast<size_t>(h)]);
        a = equations::mix(equations::retrieve(memory.asked(raw_q), M, z, 1e-6), a, std::log(gate / (1 - gate)));
      }
      memory.fold(raw_k, segment_v, 1, begin, 1e-6, M, z);
      for (int64_t t = begin; t < end; ++t)
        for (int j = 0; j < c.value_size; ++j)
          out[static_cast<size_t>((t * c.heads + h) * c.value_size + j)] =
              static_cast<float>(a[static_cast<size_t>(t - begin)][static_cast<size_t>(j)]);
    }
  }
  return out;
}

}  // namespace

TEST_CASE("attention over many segments equals the equations, whatever the memory, the shape and the cut") {
  for (const std::string &kind : memory_kind_names()) {
    for (const Case &shape :
         {Case{}, Case{.kv_heads = 1}, Case{.kv_heads = 4, .first_gated = false},
          Case{.key_size = 12, .value_size = 20}, Case{.heads = 2, .key_size = 128, .value_size = 128},
          Case{.carry = 5, .sinks = 3}, Case{.carry = 30, .sinks = 2},
          Case{.segment = 200, .carry = 100, .sinks = 4, .tokens = 900}}) {
      Case c = shape;
      c.kind = kind;
      const Stream stream(c, 7);
      const std::vector<float> expected = by_equations(c, stream);
      for (const int64_t cut : {1000, 1, 5}) {
        CAPTURE(kind);
        CAPTURE(cut);
        CHECK(test::relative_difference(Layer(c).feed(stream, 0, c.tokens, cut), expected) < 1e-5);
      }
      c.type = NumberType::BF16;
      CHECK(test::relative_difference(Layer(c).feed(stream, 0, c.tokens, 1000), expected) < 0.1);
      c.int8 = true;
      for (const int64_t cut : {1000, 1, 5}) {
        c.type = NumberType::BF16;
        CHECK(test::relative_difference(Layer(c).feed(stream, 0, c.tokens, cut), expected) < 0.25);
        c.type = NumberType::F32;
        CHECK(test::relative_difference(Layer(c).feed(stream, 0, c.tokens, cut), expected) < 0.25);
      }
      CHECK(test::relative_difference(Layer(c).feed(stream, 0, c.tokens, 5), Layer(c).feed(stream, 0, c.tokens, 1000)) <
            1e-5);
    }
  }
}

TEST_CASE("exact attention has the same bits for every cut") {
  for (const auto &[type, int8] : {std::pair{NumberType::F32, false},
                                   {NumberType::BF16, false},
                                   {NumberType::F32, true},
                                   {NumberType::BF16, true}}) {
    const Case c{.segment = 200, .carry = 300, .sinks = 4, .kind = "delta", .tokens = 900, .type = type, .int8 = int8};
    const Stream stream(c, 8);
    const std::vector<float> whole = Layer(c).feed(stream, 0, c.tokens, 1000, true);
    for (const int64_t cut : {1, 7, 64}) CHECK(Layer(c).feed(stream, 0, c.tokens, cut, true) == whole);
  }
}

TEST_CASE(
    "kept sentences, and some of the window, are raised and told apart as the reference says, whatever the cut and the "
    "threads") {
  const std::vector<KeptSpan> sentences{{5, 20, 0}, {30, 60, 0}, {100, 1, 0}, {120, 64, 0}, {190, 60, 0}};
  // And in the window, the list's index, tokens, and from which token on.
  const std::vector<RaisedSpan> standing{{210, 30, 250}, {246, 9, 263}, {255, 20, 290}, {290, 7, 296}};
  const std::vector<float> bias{3, 0, -1.5f, 2};
  ThreadPool pool;
  const ThreadScope team(pool, 3);
  const EagerThreads eager;
  for (const float focus : {0.0f, 1.0f, 2.5f}) {
    CAPTURE(focus);
    const Case c{.segment = 301,
                 .carry = 40,
                 .sinks = 2,
                 .tokens = 360,
                 .keep = 256,
                 .focus = focus,
                 .gated = false,
                 .standing = 8};
    const Stream stream(c, 11);
    const auto read = [&](const Case &now, const Threads &threads, int64_t cut, bool exact) {
      Layer layer(now, threads);
      layer.keep_bias = bias;
      layer.feed(stream, 0, 300, 1000, exact);
      layer.close(sentences);
      CHECK(layer.view.kept == 205);
      layer.raised.insert(layer.raised.end(), standing.begin(), standing.end());
      return layer.feed(stream, 300, 360, cut, exact);
    };
    std::vector<float> expected(static_cast<size_t>(60 * c.heads * c.value_size));
    for (int h = 0; h < c.heads; ++h) {
      const AttentionRules rules = rules_of(c);
      const int kv = h / rules.shape.group();
      std::vector<int64_t> list{0, 1};
      std::vector<equations::Sentence> kept;
      for (const KeptSpan &span : sentences) {
        kept.push_back({list.size(), list.size() + static_cast<size_t>(span.tokens)});
        for (int64_t t = span.begin; t < span.begin + span.tokens; ++t) list.push_back(t);
      }
      for (int64_t t = 260; t < 360; ++t) list.push_back(t);
      for (const RaisedSpan &span : standing)
        kept.push_back({static_cast<size_t>(span.index), static_cast<size_t>(span.index + span.tokens),
                        static_cast<size_t>(span.from)});
      Matrix<double> q, k, v;
      for (size_t i = 0; i < list.size(); ++i) {
        const auto at = static_cast<int64_t>(i);
        k.push_back(turned(rules, stream.slice(list[i], c.heads * c.key_size + kv * c.key_size, c.key_size), at));
        v.push_back(stream.slice(list[i], (c.heads + c.kv_heads) * c.key_size + kv * c.value_size, c.value_size));
        if (list[i] >= 300) q.push_back(turned(rules, stream.slice(list[i], h * c.key_size, c.key_size), at));
      }
      const Matrix<double> a = equations::kept_attention<double>(q, k, v, list.size() - q.size(), kept,
                                                                 static_cast<double>(bias[static_cast<size_t>(h)]),
                                                                 static_cast<double>(focus));
      for (size_t t = 0; t < q.size(); ++t)
        for (size_t j = 0; j < a[t].size(); ++j)
          expected[(t * static_cast<size_t>(c.heads) + static_cast<size_t>(h)) * a[t].size() + j] =
              static_cast<float>(a[t][j]);
    }
    for (const Threads *threads : {&kAlone, static_cast<const Threads *>(&team)}) {
      const int64_t shared = eager.items_of_others();
      const std::vector<float> exact = read(c, *threads, 60, true);
      for (const int64_t cut : {60, 7, 1}) {
        CAPTURE(cut);
        CHECK(test::relative_difference(read(c, *threads, cut, false), expected) < 1e-5);
        CHECK(read(c, *threads, cut, true) == exact);
      }
      Case narrow = c;
      narrow.type = NumberType::BF16;
      CHECK(test::relative_difference(read(narrow, *threads, 7, false), expected) < 0.15);  // sharper by the focus
      narrow.int8 = true;
      CHECK(test::relative_difference(read(narrow, *threads, 7, false), expected) < 0.4);
      CHECK(read(narrow, *threads, 7, true) == read(narrow, *threads, 60, true));
      CHECK((eager.items_of_others() > shared) == (threads->count() > 1));
    }
  }
}

TEST_CASE("linear retrieval is a convex combination of the stored values") {
  const Case c{.first_gated = true, .tokens = 240};
  const Stream stream(c, 9);
  Layer layer(c);
  layer.feed(stream, 0, c.tokens, 1000);
  Random random(10);
  for (int kv = 0; kv < c.kv_heads; ++kv) {
    const Memory &memory = layer.state.memory[static_cast<size_t>(kv)];
    for (int trial = 0; trial < 50; ++trial) {
      std::vector<float> q(static_cast<size_t>(c.key_size)), numerator(kPanel);
      for (float &x : q) x = static_cast<float>(random.normal() * 3);
      elu_plus_one(q.data(), c.key_size, q.data());
      float denominator = 0;
      memory.read(q.data(), 1, 0, numerator.data(), &denominator);
      for (int j = 0; j < c.value_size; ++j) {
        float least = INFINITY, greatest = -INFINITY;
        for (int64_t t = 0; t < c.tokens; ++t) {
          const auto v = static_cast<float>(stream.slice(t, (c.heads + c.kv_heads) * c.key_size + kv * c.value_size,
                                                         c.value_size)[static_cast<size_t>(j)]);
          least = std::min(least, v), greatest = std::max(greatest, v);
        }
        const float retrieved = numerator[static_cast<size_t>(j)] / denominator;
        CHECK(retrieved >= least - 1e-5f);
        CHECK(retrieved <= greatest + 1e-5f);
      }
    }
  }
}

TEST_CASE("a linear memory does not depend on how the past was cut into segments") {
  Case c{.segment = 240, .tokens = 240};
  const Stream stream(c, 11);
  Layer whole(c);
  whole.feed(stream, 0, c.tokens, 1000);
  c.segment = 16;
  Layer pieces(c);
  pieces.feed(stream, 0, c.tokens, 1000);
  Layer by_hand(Case{.segment = 1000, .tokens = 240});
  for (int64_t t = 0; t < 240; t += 30) by_hand.feed(stream, t, t + 30, 1000), by_hand.close();
  for (int i = 0; i < c.key_size; ++i) {
    for (int j = 0; j < c.value_size; ++j) {
      const float expected = whole.state.memory[0].matrix(i, j);
      CHECK(pieces.state.memory[0].matrix(i, j) == doctest::Approx(expected).epsilon(1e-4));
      CHECK(by_hand.state.memory[0].matrix(i, j) == doctest::Approx(expected).epsilon(1e-4));
    }
  }
}

TEST_CASE("a delta segment much longer than all before it does not overshoot") {
  // 8 tokens closed by hand, then 2,048: with one batched update the echo in A_mem would be some 20 times larger.
  const Case c{
      .heads = 1, .kv_heads = 1, .key_size = 32, .value_size = 32, .segment = 2048, .kind = "delta", .tokens = 2056};
  const Stream stream(c, 12);
  Layer layer(c);
  layer.feed(stream, 0, 8, 1000);
  layer.close();
  layer.feed(stream, 8, 2056, 1000);
  REQUIRE(layer.view.memory_tokens == 2056);
  Random random(13);
  double squares = 0;
  for (int trial = 0; trial < 100; ++trial) {
    std::vector<float> q(32), numerator(kPanel);
    for (float &x : q) x = static_cast<float>(random.normal() * 1.5);
    elu_plus_one(q.data(), 32, q.data());
    float denominator = 0;
    layer.state.memory[0].read(q.data(), 1, 1e-6f, numerator.data(), &denominator);
    for (int j = 0; j < 32; ++j) squares += std::pow(numerator[static_cast<size_t>(j)] / denominator, 2) / 3200;
  }
  CHECK(std::sqrt(squares) < 0.2);  // values have deviation 1.5; their mean over 2,056 tokens 0.03
}

TEST_CASE("closing an empty segment changes nothing") {
  const Case c{.kind = "delta", .tokens = 24};
  const Stream stream(c, 14);
  Layer layer(c);
  layer.feed(stream, 0, 24, 1000);
  const float before = layer.state.memory[0].matrix(3, 3);
  const View view = layer.view;
  layer.close();
  CHECK(layer.state.memory[0].matrix(3, 3) == before);
  CHECK(layer.view.memory_tokens == view.memory_tokens);
}

TEST_CASE("rows of int8 make the same window, and nearly the same of other numbers") {
  for (const auto &[key_size, value_size, tokens] :
       {std::array{16, 16, 9}, {7, 70, 131}, {64, 128, 64}, {65, 3, 130}}) {
    Case c{
        .key_size = 2 * ((key_size + 1) / 2), .value_size = value_size, .segment = 400, .tokens = tokens, .int8 = true};
    const Stream stream(c, 21);
    Layer layer(c);
    layer.feed(stream, 0, tokens, 50);
    const Window &window = layer.state.window;
    const auto rows_of = [&](const Window &of) {
      std::vector<char> rows(static_cast<size_t>(of.row_bytes(layer.view, of.row_numbers())));
      of.to_rows(layer.view, rows.data());
      return rows;
    };
    const std::vector<char> rows = rows_of(window);
    Layer again(c);
    again.state.window.from_rows(layer.view, window.row_numbers(), rows.data());
    again.view = layer.view;
    CHECK(rows_of(again.state.window) == rows);
    CHECK(again.state.window.is_finite(layer.view));
    c.int8 = false;
    Layer floats(c);
    floats.state.window.from_rows(layer.view, window.row_numbers(), rows.data());
    CHECK(floats.state.window.row_bytes(layer.view, NumberType::F32) > static_cast<int64_t>(rows.size()));
    c.int8 = true;
    Layer back(c);
    back.state.window.from_rows(layer.view, NumberType::F32, rows_of(floats.state.window).data());
    std::vector<float> before(kPanel * 4), after(kPanel * 4);
    window.raw_values(0, 0, 1, before.data());
    back.state.window.raw_values(0, 0, 1, after.data());
    CHECK(test::relative_difference(after, before) < 1e-6);
    floats.state.window.raw_values(0, 0, 1, after.data());
    CHECK(after == before);
  }
}

TEST_CASE("a window's rows make the same window, of any sizes and number type, and nearly the same of the other type") {
  for (const std::array<int, 3> &sizes : {std::array{16, 16, 9}, {7, 70, 131}, {64, 128, 64}, {65, 3, 130}}) {
    const int key_size = sizes[0], value_size = sizes[1], tokens = sizes[2];
    for (const NumberType type : {NumberType::F32, NumberType::BF16}) {
      CAPTURE(key_size);
      CAPTURE(tokens);
      AttentionShape shape{{4, 2, key_size, value_size}, 100, 60, 3, type};
      Window window(shape, {true, false});
      View view;
      view.segment_begin = view.window_begin = tokens / 3;
      view.sinks = std::min<int64_t>(3, view.window_begin);
      Random random(5);
      const auto row = [&](int size) {
        std::vector<float> values(static_cast<size_t>(size));
        for (float &x : values) x = static_cast<float>(random.normal());
        return values;
      };
      for (; view.position < 3; ++view.position) {  // sinks
        View begin;
        begin.position = view.position;
        for (int h = 0; h < 2; ++h)
          window.append(begin, view.position, h, row(key_size).data(), row(value_size).data(), Rope(), nullptr,
                        nullptr);
      }
      view.position = view.segment_begin;
      for (int64_t t = view.segment_begin; t < tokens; ++t)
        for (int h = 0; h < 2; ++h)
          window.append(view, t, h, row(key_size).data(), row(value_size).data(), Rope(), nullptr, nullptr);
      view.position = tokens;
      const auto contents = [&](const Window &of) {
        std::vector<char> bytes;
        of.visit(view,
                 [&](const char *data, int64_t size, NumberType) { bytes.insert(bytes.end(), data, data + size); });
        return bytes;
      };
      std::vector<char> rows(static_cast<size_t>(window.row_bytes(view, type)) + 1, 'x');
      window.to_rows(view, rows.data());
      CHECK(rows.back() == 'x');
      Window again(shape, {true, false});
      again.from_rows(view, type, rows.data());
      CHECK(contents(again) == contents(window));

      shape.type = type == NumberType::F32 ? NumberType::BF16 : NumberType::F32;
      Window other(shape, {true, false});
      other.from_rows(view, type, rows.data());
      std::vector<char> converted(static_cast<size_t>(other.row_bytes(view, shape.type)));
      other.to_rows(view, converted.data());
      const auto number = [](const std::vector<char> &of, NumberType as, int64_t i) {
        float value;
        load(as, of.data() + i * bytes_of(as), 1, &value);
        return value;
      };
      int64_t wrong = 0;
      for (int64_t i = 0; i < view.keys() * (key_size + value_size); ++i) {  // of the first head
        const float before = number(rows, type, i), after = number(converted, shape.type, i);
        wrong += after != (type == NumberType::F32 ? bf16_to_float(float_to_bf16(before)) : before);
      }
      CHECK(wrong == 0);
      AttentionShape first = shape;
      first.type = type;
      Window back(first, {true, false});
      back.from_rows(view, shape.type, converted.data());
      if (type == NumberType::BF16) CHECK(contents(back) == contents(window));
    }
  }
}
