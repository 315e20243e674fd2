// Settings: what they say once is read, checked, written, described and compared.
#include "base/schema.h"

#include <functional>
#include <map>
#include <tuple>

#include "adapt/make_trainer.h"
#include "adapt/settings.h"
#include "decaying_memory.h"
#include "model/keep_fit.h"
#include "support.h"
#include "training.h"

using namespace infini;
using nlohmann::json;

namespace {

enum class Colour { RED, GREEN, BLUE };

struct Point {
  int x, y;
  double height = 7;
  auto columns() { return std::tie(x, y, height); }
};

struct Inner {
  int depth = 3;
  template <class Visitor>
  void fields(Visitor &v) {
    v("depth", depth, 1, 9, "how deep");
  }
};

struct Example {
  int64_t count = 5;
  uint64_t seed = 1;
  double rate = 0.5, twice = 1, gate = 0;
  double least = 1, greatest = 2;
  Colour colour = Colour::GREEN;
  std::string name = "none";
  std::vector<std::string> letters = {"a"};
  std::vector<int64_t> sizes = {1, 2};
  bool wide = false;
  Inner inner;
  std::vector<Inner> list = {{4}, {5}};
  std::vector<Point> points;

  template <class Visitor>
  void fields(Visitor &v) {
    v("count", count, -3, 10, "how many");
    v("seed", seed, 0, 0x1p63, "of random numbers");
    v("rate", rate, 0, 10, "how fast");
    v.otherwise(twice, 2 * rate);
    v("twice", twice, 0, 100, "else twice the rate");
    v("gate", gate, "-inf", -9, 9, "of a head");
    v("range", std::tie(least, greatest), 0, 8, "from and to");
    v("colour", colour, "red|green|blue", "of it");
    v("name", name, "", "of anything");
    v("letters", letters, "a|b|c", "some");
    v("sizes", sizes, 0, 99, "a few");
    v("wide", wide, "whether");
    v("inner", inner, "what is within");
    v("list", list, "more of it");
    v("points", points, 2, "[x, y, height]", "where");
  }
  void complete(const Fields &given) {
    if (least > greatest) given.refuse("range", "ascending");
    if (wide && points.empty()) given.refuse("points", "a list with a point, which wide needs");
  }
};

struct Needy {
  static constexpr const char *kName = "needy";
  std::vector<std::string> files;
  std::map<std::string, Inner> parts;
  JsonText data{"null"};
  template <class Visitor>
  void fields(Visitor &v) {
    v.required("files", files, "", "which are read");
    v("parts", parts, "by name");
    v.required(
        "data", data, [] { return JsonObject().add("deep", describe_settings<Inner>()); }, "of a type");
  }
};

template <class T = Example>
std::string error_of(const char *text) {
  try {
    read_settings<T>(json::parse(text), "it");
  } catch (const Error &error) {
    CHECK(error.status() == Status::INVALID_ARGUMENT);
    return error.what();
  }
  return "";
}

json written(const Example &settings) { return json::parse(settings_json(settings).text()); }

const json &field(const json &table, const std::string &name) {
  for (const json &one : table)
    if (one["name"] == name) return one;
  FAIL("no field ", name);
  return table;
}

}  // namespace

TEST_CASE("settings are read from JSON, and written as they were read") {
  const char *const text =
      R"({"count":-3,"seed":9223372036854775807,"rate":0.25,"twice":0.5,"gate":"-inf","range":[3.0,4.5],"colour":"blue","name":"x",)"
      R"("letters":["c","b"],"sizes":[],"wide":true,"inner":{"depth":9},"list":[{"depth":1}],"points":[[-1,2,null],[0,1,0.5]]})";
  const Example e = read_settings<Example>(json::parse(text), "it");
  CHECK(e.colour == Colour::BLUE);
  CHECK(e.gate == -std::numeric_limits<double>::infinity());
  CHECK(e.points.at(0).height == -std::numeric_limits<double>::infinity());
  CHECK(e.seed == 0x7fffffffffffffff);
  CHECK(settings_json(e).text() == text);
  // What is absent keeps its value, or follows another field.
  const Example absent = read_settings<Example>(json::parse(R"({"rate": 3, "points": [[1, 2]], "list": [{}]})"), "it");
  CHECK(absent.twice == 6);
  CHECK(absent.points.at(0).height == 7);
  CHECK(absent.list.at(0).depth == 3);
  CHECK(settings_json(read_settings<Example>(json::object(), "it")).text() == settings_json(Example()).text());
}

TEST_CASE("a setting that is wrong is refused by name, with what is allowed") {
  const std::pair<const char *, const char *> wrong[] = {
      {"[]", "it is not a JSON object"},
      {R"({"count": 11})", "it.count is 11, but must be a whole number from -3 to 10"},
      {R"({"count": 1.5})", "it.count is 1.5"},
      {R"({"seed": -1})", "it.seed is -1, but must be a whole number from 0 to 9223372036854775807"},
      {R"({"seed": 18446744073709551615})", "it.seed is 18446744073709551615"},
      {R"({"rate": "fast"})", "it.rate is \"fast\", but must be a number from 0 to 10"},
      {R"({"gate": "inf"})", "it.gate is \"inf\", but must be a number or \"-inf\""},
      {R"({"gate": 10})", "it.gate is 10, but must be a number from -9 to 9"},
      {R"({"range": [1]})", "it.range is [1], but must be a list of 2 numbers from 0 to 8"},
      {R"({"range": [1, 2, 3]})", "it.range"},
      {R"({"range": [1, 9]})", "it.range"},
      {R"({"range": [4, 3]})", "it.range is [4,3], but must be ascending"},
      {R"({"colour": "pink"})", "it.colour is \"pink\", but must be red, green or blue"},
      {R"({"colour": 1})", "it.colour is 1, but must be a text"},
      {R"({"name": null})", "it.name is null, but must be a text"},
      {R"({"letters": ["a", "d"]})", "it.letters is [\"a\",\"d\"], but must be some of a, b or c"},
      {R"({"letters": "a"})", "it.letters is \"a\", but must be a list of texts"},
      {R"({"sizes": [100]})", "it.sizes is [100], but must be a list of whole numbers from 0 to 99"},
      {R"({"sizes": 3})", "it.sizes is 3"},
      {R"({"wide": 1})", "it.wide is 1, but must be true or false"},
      {R"({"wide": true})", "it.points is missing, but must be a list with a point, which wide needs"},
      {R"({"inner": {"depth": 0}})", "it.inner.depth is 0"},
      {R"({"inner": 3})", "it.inner is not a JSON object"},
      {R"({"list": [{}, {"dept": 1}]})",
       "it.list[1] has a field '\"dept\"', which is none of: depth; did you mean 'depth'?"},
      {R"({"list": {}})", "it.list is {}, but must be a list of objects"},
      {R"({"points": [[1]]})", "it.points is [[1]], but must be a list of [x, y, height]"},
      {R"({"points": [[1, 2, 3, 4]]})", "it.points"},
      {R"({"points": [[1, -2]]})", "it.points"},
      {R"({"points": [[1, 0.5]]})", "it.points"},
      {R"({"points": [[1, 2, 1e5]]})", "it.points"},
      {R"({"points": 3})", "it.points"},
      {R"({"colours": "red"})", "did you mean 'colour'?"},
  };
  for (const auto &one : wrong) {
    const char *const text = one.first, *const says = one.second;
    CAPTURE(text);
    CHECK_MESSAGE(error_of(text).find(says) != std::string::npos, error_of(text));
  }
  CHECK(error_of(R"({"entirely_other": 1})").find("did you mean") == std::string::npos);
  CHECK(error_of(("{\"" + std::string(100000, 'r') + "\": 1}").c_str()).find("did you mean") == std::string::npos);
}

TEST_CASE("settings are described by a table") {
  const json table = json::parse(describe_settings<Example>().text);
  CHECK(table.size() == 14);
  CHECK(
      field(table, "count") ==
      json(
          {{"name", "count"}, {"type", "int"}, {"default", 5}, {"least", -3}, {"greatest", 10}, {"help", "how many"}}));
  CHECK(!field(table, "seed").contains("greatest"));
  CHECK(field(table, "gate")["or"] == "-inf");
  CHECK(field(table, "range")["type"] == "doubles");
  CHECK(field(table, "range")["default"] == json({1.0, 2.0}));
  CHECK(field(table, "range")["length"] == 2);
  CHECK(field(table, "colour")["default"] == "green");
  CHECK(field(table, "colour")["choices"] == json({"red", "green", "blue"}));
  CHECK(!field(table, "name").contains("choices"));
  CHECK(field(table, "letters")["type"] == "strings");
  CHECK(field(table, "sizes")["type"] == "ints");
  CHECK(field(table, "wide")["type"] == "bool");
  CHECK(field(table, "inner")["fields"][0]["name"] == "depth");
  CHECK(field(table, "list")["type"] == "objects");
  CHECK(field(table, "list")["default"] == json::parse(R"([{"depth": 4}, {"depth": 5}])"));
  CHECK(field(table, "list")["fields"][0]["default"] == 3);
  CHECK(field(table, "points")["type"] == "rows");
  CHECK(field(table, "points")["shape"] == "[x, y, height]");
}

TEST_CASE("what must be there is refused by name where it is not; maps are read by name") {
  const char *const text = R"({"files":["a"],"parts":{"one":{"depth":2},"two":{"depth":3}},"data":{"x":[1]}})";
  const auto read = read_settings<Needy>(
      json::parse(R"({"files":["a"],"parts":{"two":{},"one":{"depth":2}},"data":{"x":[1]}})"), "it");
  CHECK(settings_json(read).text() == text);
  const std::pair<const char *, const char *> wrong[] = {
      {"{}", "needy.files must be a list with one at least"},
      {R"({"files": [], "data": 1})", "needy.files must be a list with one at least"},
      {R"({"files": ["a"]})", "needy.data is missing"},
      {R"({"files": ["a"], "dat": 1})", "'data'?"},
      {R"({"files": ["a"], "data": 1, "parts": [1]})", "needy.parts is [1], but must be an object of objects"},
      {R"({"files": ["a"], "data": 1, "parts": {"one": {"depth": 0}}})", "needy.parts.one.depth is 0"},
  };
  for (const auto &one : wrong) {
    const char *const given = one.first, *const says = one.second;
    CAPTURE(given);
    CHECK_MESSAGE(error_of<Needy>(given).find(says) != std::string::npos, error_of<Needy>(given));
  }
  const json table = json::parse(describe_settings<Needy>().text);
  CHECK(field(table, "files")["required"] == true);
  CHECK(field(table, "parts")["type"] == "map");
  CHECK(field(table, "parts")["fields"][0]["name"] == "depth");
  CHECK(!field(table, "parts").contains("required"));
  CHECK(field(table, "data")["types"]["deep"][0]["name"] == "depth");
}

TEST_CASE("what differs between two settings is said") {
  Example now;
  CHECK(differences(written(now), written(now)) == "");
  const json before = written(now);
  now.rate = 2;
  now.colour = Colour::RED;
  CHECK(differences(before, written(now)) == R"( "colour" was "green" and is "red"; "rate" was 0.5 and is 2.0;)");
  CHECK(differences(json(), {{"rate", 1}}) == R"( "rate" was null and is 1;)");
}

TEST_CASE("checkpoints know training by this text") {
  // As versions before wrote it: a checkpoint goes on only where it is the same.
  CHECK(
      describe(test::train_config(R"({"train": "lora", "layers": [0, 1], "lora": {"rank": 4, "targets": ["q", "down"]},
        "gates": [[-1, -1, null], [0, 1, 0.5]], "supervised": [[0, 1], [0, 0, 3]], "schedule": "cosine", "rate": 0.001,
        "muon_rate": 0.02, "optimizer": "adamw", "first_segment": "ungated", "compute": "f32", "activations_mb": 3,
        "local_supervised": [[0, -1]], "seed": 9223372036854775807})")) ==
      R"({"train":"lora","layers":[0,1],"lora":{"rank":4,"alpha":16.0,"targets":["q","down"]},"optimizer":"adamw",)"
      R"("rate":0.001,"muon_rate":0.02,"feature_rate":0.02,"gate_rate":0.005,"decay":0.05,"muon_decay":0.01,"momentum":0.95,)"
      R"("beta1":0.9,"beta2":0.95,"clip":1.0,"schedule":"cosine","warmup":100,"steps":0,"decay_from":0.0,"floor":0.02,)"
      R"("tokens":8192,"drawn":0,"repeat":1,"rows":1024,"segment":0,"segments":16,"carry":-1,"sinks":-1,"epsilon":-1.0,)"
      R"("first_segment":"ungated","supervision":0.0,"supervised":[[0,1,-1],[0,0,3]],"silence":0.0,"local_supervision":0.0,)"
      R"("local_supervised":[[0,-1]],"hand_on":0.0,"gates":[[-1,-1,null],[0,1,0.5]],"feature_scale":1.0,"compute":"f32",)"
      R"("activations_mb":3,"seed":9223372036854775807})");
  // Once a JSON error of the library's own, where the list was not there at all.
  CHECK_THROWS_WITH_AS(test::train_config(R"({"local_supervision": 1})"),
                       doctest::Contains("train.local_supervised is missing"), Error);
}

TEST_CASE("each field of a trainer, of each source, of an adaptation, a creation and a lesson has its help") {
  const std::function<size_t(const json &)> check = [&](const json &table) {
    size_t count = 0;
    for (const json &one : table) {
      CAPTURE(one["name"]);
      CHECK((one["help"] != "" || one["name"] == "type"));
      ++count;
      if (one.contains("fields")) count += check(one["fields"]);
      for (const json &fields : one.value("types", json::object())) count += check(fields);
    }
    return count;
  };
  const json trainer = json::parse(describe_trainer().text);
  CHECK(check(trainer) > 100);
  CHECK(trainer[1]["types"].size() == 6);
  CHECK(check(json::parse(describe_settings<AdaptSettings>().text)) == 31);
  const json creation = json::parse(describe_settings<CreateConfig>().text);
  CHECK(check(creation) == 24);
  CHECK(creation[1]["choices"][0] == "llama");
  CHECK(check(json::parse(describe_settings<KeepLesson>().text)) == 10);
}

TEST_CASE("the option `update`, and the setting of a new model, know each kind of memory that there is") {
  Options options;
  options.set("update", std::string("linear"));
  options.set("update", std::string("decaying"));
  CHECK_THROWS_WITH_AS(options.set("update", std::string("x")), doctest::Contains("file|linear|delta|decaying"), Error);
  CHECK(field(json::parse(describe_options().text), "update")["choices"] ==
        json({"file", "linear", "delta", "decaying"}));
  for (const json &field : json::parse(describe_settings<CreateConfig>().text))
    if (field["name"] == "update") CHECK(field["choices"] == json({"linear", "delta", "decaying"}));
  CHECK_THROWS_WITH_AS(options.set("tempreature", 1.0), doctest::Contains("did you mean 'temperature'?"), Error);
}
