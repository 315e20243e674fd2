// Options: the table, what it takes, and what it says to the rest.
#include "base/options.h"

#include <cmath>
#include <set>

#include "base/status.h"
#include "support.h"

using namespace infini;

namespace {

// What set() says to a value; "" where it is taken. What is refused changes nothing.
template <class Value>
std::string answer(Options &options, const char *name, const Value &value, Status status = Status::INVALID_ARGUMENT) {
  const bool before = options.is_set(name);
  try {
    options.set(name, value);
  } catch (const Error &error) {
    CHECK(error.status() == status);
    CHECK(options.is_set(name) == before);
    return error.what();
  }
  return "";
}
template <class Value>
std::string answer(const char *name, const Value &value, Status status = Status::INVALID_ARGUMENT) {
  Options options;
  return answer(options, name, value, status);
}

bool has(const std::string &text, const std::string &part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("each option has a name of its own, a help, and a value to begin with that it would take") {
  std::set<std::string> names;
  for (const OptionSpec &option : option_table()) {
    CAPTURE(option.name);
    CHECK(names.insert(option.name).second);
    CHECK(std::string(option.help) != "");
    CHECK(std::string(scope_name(option.scope)) != "");
    Options options;
    std::visit([&](const auto &value) { options.set(option.name, value); }, option.standard);
    CHECK(options.is_set(option.name));
  }
}

TEST_CASE("an option that is not set has the table's value, and one that is has its own") {
  Options options;
  CHECK(options.get_int("max_tokens") == 256);
  CHECK(options.get_double("top_p") == 1);
  CHECK(options.get_string("compute") == "auto");
  CHECK(!options.is_set("max_tokens"));
  options.set("max_tokens", int64_t{7});
  options.set("top_p", 0.5);
  options.set("compute", std::string("f32"));
  CHECK(options.get_int("max_tokens") == 7);
  CHECK(options.get_double("top_p") == 0.5);
  CHECK(options.get_string("compute") == "f32");
  CHECK_THROWS_WITH_AS(options.get_int("top_p"), doctest::Contains("takes a number"), Error);
  CHECK_THROWS_WITH_AS(options.get_string("top_k"), doctest::Contains("takes an integer"), Error);
}

TEST_CASE("a number may stand at each end of its range, and not beyond") {
  for (const OptionSpec &option : option_table()) {
    CAPTURE(option.name);
    if (std::holds_alternative<double>(option.standard)) {
      CHECK(answer(option.name, option.least) == "");
      CHECK(answer(option.name, option.greatest) == "");
      for (const double beyond : {std::nextafter(option.least, -HUGE_VAL), std::nextafter(option.greatest, HUGE_VAL),
                                  HUGE_VAL, -HUGE_VAL, std::nan("")})
        CHECK(has(answer(option.name, beyond), "must lie between"));
    } else if (std::holds_alternative<int64_t>(option.standard)) {
      const auto least = static_cast<int64_t>(option.least);
      const bool bounded = option.greatest < 0x1p63;
      const int64_t greatest = bounded ? static_cast<int64_t>(option.greatest) : INT64_MAX;
      CHECK(answer(option.name, least) == "");
      CHECK(answer(option.name, greatest) == "");
      CHECK(has(answer(option.name, least - 1), cat("must lie between ", least, " and ", greatest)));
      if (bounded) CHECK(has(answer(option.name, greatest + 1), "must lie between"));
      for (const double beyond : {0x1p63, -0x1p63, 1e300, HUGE_VAL}) CHECK(answer(option.name, beyond) != "");
    }
  }
}

TEST_CASE("hosts without integers may give whole numbers, and those without fractions integers") {
  Options options;
  options.set("top_k", 40.0);
  CHECK(options.get_int("top_k") == 40);
  options.set("temperature", int64_t{2});
  CHECK(options.get_double("temperature") == 2);
  CHECK(has(answer(options, "top_k", 40.5), "takes an integer, not a number with a fraction"));
  CHECK(has(answer(options, "top_k", std::nan("")), "takes an integer"));
  CHECK(options.get_int("top_k") == 40);
}

TEST_CASE("a value of another type, a choice that is none and a name that is none are refused by name") {
  CHECK(has(answer("top_k", std::string("many")), "'top_k' takes an integer, not a text"));
  CHECK(has(answer("compute", int64_t{1}), "'compute' takes a text, not an integer"));
  CHECK(has(answer("compute", 0.5), "'compute' takes a text, not a number"));
  CHECK(has(answer("compute", std::string("f64")), "'f64', but must be one of auto|f32|bf16|int8"));
  for (const char *part : {"", "auto|f32", "|", "AUTO", "f3"}) CHECK(answer("compute", std::string(part)) != "");
  const std::string unknown = answer("tempreature", 1.0, Status::UNKNOWN_OPTION);
  CHECK(has(unknown, "no option is named 'tempreature'"));
  CHECK(has(unknown, "did you mean 'temperature'?"));
  for (const OptionSpec &option : option_table()) CHECK(has(unknown, option.name));
}

TEST_CASE("options of a model are refused by sessions, and those of sessions by models; threads belong to both") {
  Options model, session;
  model.set("threads", int64_t{1});
  model.set("compute", std::string("f32"));
  session.set("threads", int64_t{1});
  session.set("temperature", 0.5);
  model.check_for(OptionTaker::MODEL);
  session.check_for(OptionTaker::SESSION);
  CHECK_THROWS_WITH_AS(model.check_for(OptionTaker::SESSION), doctest::Contains("'compute' belongs to a model"), Error);
  CHECK_THROWS_WITH_AS(session.check_for(OptionTaker::MODEL), doctest::Contains("'temperature' belongs to a session"),
                       Error);
}

TEST_CASE("merging takes what is set, and leaves the rest") {
  Options first, second;
  first.set("top_k", int64_t{1});
  first.set("seed", int64_t{2});
  second.set("seed", int64_t{3});
  second.set("min_p", 0.25);
  first.merge(second);
  CHECK(first.get_int("top_k") == 1);
  CHECK(first.get_int("seed") == 3);
  CHECK(first.get_double("min_p") == 0.25);
  CHECK(!second.is_set("top_k"));
}

TEST_CASE("a struct of options has what is set, and the rest as it is by default") {
  Options options;
  options.set("threads", int64_t{3});
  options.set("deterministic", int64_t{1});
  options.set("temperature", 0.25);
  options.set("frequency_penalty", 0.1);
  options.set("stop", std::string("x"));
  const auto model = options.as<ModelOptions>();
  CHECK((model.threads == 3 && model.compute == "auto" && model.carry == -1));
  const auto session = options.as<SessionOptions>();
  CHECK((session.threads == 3 && session.exact && !session.rewind_sampler && session.chunk == 512));
  const auto generation = options.as<GenerationOptions>();
  CHECK((generation.temperature == 0.25 && generation.frequency_penalty == 0.1f && generation.stop == "x"));
  CHECK((generation.top_p == 1 && generation.max_tokens == 256 && !generation.ignore_end));
}
