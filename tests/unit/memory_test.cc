// What kinds of compressive memories promise, and how two memories become one.
#include "support.h"

#include "base/random.h"
#include "base/status.h"
#include "memory/memory.h"

using namespace infini;

namespace {

constexpr int kKeys = 20, kValues = 70;

// Features and values of some tokens.
struct Tokens {
  Tokens(int64_t tokens, uint64_t seed) : count(tokens) {
    Random random(seed);
    for (int64_t i = 0; i < count * kKeys; ++i) sigma.push_back(static_cast<float>(std::exp(random.normal())));
    for (int64_t i = 0; i < tile_size(count, kValues); ++i) values.push_back(static_cast<float>(random.normal()));
  }
  int64_t count;
  std::vector<float> sigma, values;  // [count][kKeys], panels of kValues columns
};

void fold(Memory &memory, Tokens tokens, int64_t held) {
  std::vector<float> known(tokens.values.size()), denominator(static_cast<size_t>(tokens.count));
  memory.fold({tokens.count, held, tokens.count, 1e-6f}, [&](int64_t first, int64_t count) {
    REQUIRE(first == 0);
    return FoldRows{count,
                    dense_tile(tokens.sigma.data(), kKeys),
                    {tokens.values.data(), tokens.count},
                    {known.data(), tokens.count},
                    denominator.data()};
  });
}

Memory memory_of(const MemoryKind &kind, const Tokens &tokens) {
  Memory memory(kind, kKeys, kValues);
  fold(memory, tokens, 0);
  return memory;
}

std::vector<float> numbers(const Memory &memory) {
  std::vector<float> all;
  for (int i = 0; i < kKeys; ++i) {
    for (int j = 0; j < kValues; ++j) all.push_back(memory.matrix(i, j));
    all.push_back(memory.normaliser(i));
  }
  return all;
}

struct Answer {
  std::vector<float> values;
  double denominator;
};
Answer answer(const Memory &memory, const Tokens &query) {
  std::vector<float> numerator(static_cast<size_t>(memory.value_stride()));
  float denominator = 0;
  memory.read(query.sigma.data(), 1, 0, numerator.data(), &denominator);
  numerator.resize(kValues);
  for (float &x : numerator) x /= denominator;
  return {numerator, static_cast<double>(denominator)};
}

}  // namespace

TEST_CASE("a Linear memory that another is merged into is that of a stream that read both") {
  const Tokens a(40, 1), b(30, 2);
  Memory merged = memory_of(linear_memory(), a), both = memory_of(linear_memory(), a);
  merged.merge(memory_of(linear_memory(), b), 1);
  fold(both, b, a.count);
  CHECK(test::relative_difference(numbers(merged), numbers(both)) < 1e-6);
}

TEST_CASE("merging adds with a weight, and taking off what was added leaves what was there before") {
  for (const MemoryKind *kind : {&linear_memory(), &delta_memory()}) {
    const Memory other = memory_of(*kind, Tokens(30, 4));
    Memory memory = memory_of(*kind, Tokens(40, 3));
    const std::vector<float> before = numbers(memory), added = numbers(other);
    memory.merge(other, 0.3f);
    std::vector<float> expected = before;
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += 0.3f * added[i];
    CHECK(test::relative_difference(numbers(memory), expected) < 1e-6);
    memory.merge(other, -0.3f);
    CHECK(numbers(memory) == before);
    CHECK(numbers(other) == added);
  }
}

TEST_CASE("what merged memories answer is the mean of what each answers, weighed by weight and denominator") {
  const Tokens query(1, 7);
  Memory memory = memory_of(delta_memory(), Tokens(40, 5));
  const Memory other = memory_of(delta_memory(), Tokens(30, 6));
  const Answer one = answer(memory, query), two = answer(other, query);
  memory.merge(other, 2);
  const Answer merged = answer(memory, query);
  std::vector<float> expected;
  for (size_t j = 0; j < kValues; ++j)
    expected.push_back(static_cast<float>((one.denominator * static_cast<double>(one.values[j]) +
                                           2 * two.denominator * static_cast<double>(two.values[j])) /
                                          (one.denominator + 2 * two.denominator)));
  CHECK(test::relative_difference(merged.values, expected) < 1e-5);
}

TEST_CASE("memories of other kinds and shapes are not merged") {
  Memory linear = memory_of(linear_memory(), Tokens(5, 8));
  const Memory others[] = {memory_of(delta_memory(), Tokens(5, 8)), Memory(linear_memory(), kKeys, kValues + 1),
                           Memory(linear_memory(), kKeys + 1, kValues), Memory()};
  for (const Memory &other : others) {
    const std::vector<float> before = numbers(linear);
    CHECK_THROWS_AS(linear.merge(other, 1), Error);
    CHECK(numbers(linear) == before);
  }
}

TEST_CASE("kinds are found by the names that files have") {
  CHECK(find_memory_kind("linear") == &linear_memory());
  CHECK(find_memory_kind("delta") == &delta_memory());
  CHECK(find_memory_kind("Delta") == nullptr);
}
