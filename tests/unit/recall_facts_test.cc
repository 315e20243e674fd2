// The promises of the facts that `infini recall` tells and asks for.
#include "support.h"

#include <algorithm>
#include <set>
#include <string>

#include "../../samples/infini/recall_facts.h"

using namespace cli;

namespace {

// Values of a family that are words, as many seeds give them.
std::set<std::string> values_of(const Family &family, bool held_out) {
  std::set<std::string> values;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Draw draw({seed});
    values.insert(draw_fact(family, held_out, draw).value);
  }
  return values;
}

}  // namespace

TEST_CASE("every kind is trained in one form and tested in another, with other words") {
  std::set<std::string> trained, held_out;
  for (const Family &family : families()) {
    (family.held_out ? held_out : trained).insert(family.kind);
    const Pool open[] = {Pool::DIGITS, Pool::SEVEN_DIGITS, Pool::NUMBER, Pool::UUID, Pool::NONE};
    if (std::find(std::begin(open), std::end(open), family.value) != std::end(open)) continue;
    const auto for_training = values_of(family, false), kept = values_of(family, true);
    CHECK(for_training.size() >= 3);
    CHECK(kept.size() >= 3);
    for (const std::string &value : kept) CHECK_MESSAGE(for_training.count(value) == 0, value);
  }
  for (const std::string &kind : trained) CHECK_MESSAGE(held_out.count(kind) == 1, kind);
}

TEST_CASE("a fact is told whole, its question does not tell the answer, and no placeholder is left") {
  for (const Family &family : families())
    for (uint64_t seed = 0; seed < 50; ++seed) {
      Draw draw({seed, 7});
      const Fact fact = draw_fact(family, family.held_out, draw);
      INFO(family.name << " " << fact.question);
      bool told = fact.value.empty();
      for (const std::string &statement : fact.statements) {
        told |= statement.find(fact.value) != std::string::npos;
        CHECK(statement.find('{') == std::string::npos);
      }
      CHECK(told);
      CHECK((fact.question + fact.stem).find('{') == std::string::npos);
      if (!fact.value.empty()) CHECK((fact.question + fact.stem).find(fact.value) == std::string::npos);
    }
}

TEST_CASE("the same seeds give the same facts, neighbouring ones others") {
  const Family &family = families().front();
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Draw one({3, seed}), other({3, seed});
    const Fact fact = draw_fact(family, true, one);
    CHECK(fact.value == draw_fact(family, true, other).value);
    seen.insert(fact.value);
  }
  CHECK(seen.size() > 190);
}

TEST_CASE("no two facts of a stream answer the same question") {
  for (const Family &family : families()) {
    Draw draw({5});
    std::vector<Fact> told;
    std::set<std::string> subjects;
    for (int i = 0; i < 200; ++i)
      if (auto fact = draw_other_fact(family, true, told, draw)) {
        CHECK_MESSAGE(subjects.insert(fact->subject).second, family.name << ": " << fact->subject);
        told.push_back(std::move(*fact));
      }
    CHECK_MESSAGE((family.subject == Pool::NONE ? told.size() == 1 : told.size() > 2), family.name);
  }
}

TEST_CASE("what other benchmarks ask is asked if it is named, and never trained on") {
  int found = 0;
  for (const Family &family : families()) {
    if (!family.by_name()) continue;
    CHECK(family.held_out);
    ++found;
    Draw draw({11});
    const std::string value = draw_fact(family, true, draw).value;
    if (family.value == Pool::SEVEN_DIGITS) CHECK(value.size() == 7);
    if (family.value != Pool::UUID) continue;
    CHECK(value.size() == 36);
    for (const size_t dash : {8, 13, 18, 23}) CHECK(value[dash] == '-');
    Fact fact{};
    fact.value = value;
    CHECK(is_right(fact, " " + value + ".", false));
    CHECK_FALSE(is_right(fact, " " + value.substr(0, 30), false));
  }
  CHECK(found == 4);
}

TEST_CASE("an answer is right if the value comes first, and no older value before it") {
  Fact fact{};
  fact.value = "New York";
  fact.wrong = {"Boston"};
  CHECK(is_right(fact, " New York. And so on", false));
  CHECK(is_right(fact, " new york, they say", false));
  CHECK_FALSE(is_right(fact, " Boston, then New York", true));
  CHECK(is_right(fact, " in New York, not in Boston", true));
  CHECK_FALSE(is_right(fact, " in New York", false));
  CHECK_FALSE(is_right(fact, " somewhere. New York is large.", true));
  CHECK_FALSE(is_right(fact, " Yorkshire", false));
  CHECK_FALSE(is_right(fact, "", true));
  fact.value = "1234", fact.wrong = {};
  CHECK_FALSE(is_right(fact, " 12345.", false));
  CHECK(is_right(fact, " \"1234\".", false));
  fact.value.clear();
  CHECK(is_right(fact, " Unknown.", false));
  CHECK_FALSE(is_right(fact, " Paris.", false));
}
