// The adaptation of a plain model: what it found and measured outlives the process.
#include "support.h"

#include "adapt/adaptation.h"
#include "base/json.h"
#include "temporary_folder.h"
#include "training.h"

using namespace infini;

namespace {

// A model at random, whose tokenizer has the digits and many names.
void write_model(const std::string &path) {
  CreateConfig c;
  c.layers = 4, c.width = 32, c.heads = 4, c.kv_heads = 2, c.hidden = 48, c.context = 512, c.segment = 32;
  c.tokenizer = test::words_path;
  Model::create(c, {})->save(path);
}

// Makes the files of an adaptation what they were before version 0.1 came out: a phase was called a stage, and that of
// the carriers `carry`. How many got another name.
int make_old(const std::string &checkpoint) {
  auto state = *parse_json(test::read_text(checkpoint + ".json"), Status::INTERNAL, "the state");
  const auto rename = [](nlohmann::json &object, const char *now, const char *old) {
    object[old] = object.at(now);
    object.erase(now);
  };
  rename(state, "phase", "stage");
  if (state["stage"] == "carriers") state["stage"] = "carry";
  rename(state["seconds"], "carriers", "carry"), rename(state["tokens"], "carriers", "carry");
  rename(state["asked"], "carrier_size", "carry_size");
  std::ofstream(checkpoint + ".json", std::ios::binary) << state.dump();
  int renamed = 0;
  for (const std::string kind : {".trainer", ".gguf"}) {
    if (!std::filesystem::exists(checkpoint + ".carriers" + kind)) continue;
    std::filesystem::rename(checkpoint + ".carriers" + kind, checkpoint + ".carry" + kind);
    ++renamed;
  }
  return renamed;
}

}  // namespace

TEST_CASE(
    "an adaptation that goes on from its files, or from those of an older version, says what the one before had found, "
    "to the last number") {
  const test::TemporaryFolder folder;
  write_model(folder.file("plain.gguf"));
  AdaptSettings settings;
  settings.texts = {test::novel_path};
  settings.checkpoint = folder.file("kept");
  settings.segment = 32, settings.segments = 8;
  settings.least = 0, settings.find_sequences = 1;
  settings.carrier_steps = settings.teach_steps = settings.steps = 1;
  settings.teach_sequences = 8, settings.borders = {1}, settings.evaluate_sequences = 1;
  Options options;
  options.set("compute", std::string("f32"));
  const auto made = [&] { return std::make_unique<Adaptation>(folder.file("plain.gguf"), settings, options); };

  auto adaptation = made();
  const auto info = [&] { return adaptation->info().text(); };
  CHECK(info().find("\"found\"") == std::string::npos);
  std::vector<std::string> phases;
  int fitted = 0, renamed = 0;
  while (phases.empty() || phases.back() != "after") {
    REQUIRE(adaptation->step(nullptr));
    const auto report = parse_json(adaptation->report().text, Status::INTERNAL, "the report");
    const auto phase = report->at("phase").get<std::string>();
    if (phases.empty() || phases.back() != phase) phases.push_back(phase);
    fitted += report->contains("fitted");
    REQUIRE(fitted <= 4);
    // What was found is kept once there is a measurement beside it; one that is made anew first opens its trainer
    // again, which is a step.
    if (phase == "find" || phase == "open" || phase == "train") continue;
    adaptation->save();
    const std::string before = info();
    if (phases.size() < 6) renamed += make_old(folder.file("kept"));
    adaptation = made();
    CHECK(info() == before);
  }
  CHECK(phases ==
        std::vector<std::string>{"find", "before", "carriers", "teach1", "teach2", "teach3", "train", "after"});
  CHECK(fitted == 4);
  CHECK(renamed > 2);  // the trainer alone, then its model too
  const auto all = parse_json(info(), Status::INTERNAL, "what it found");
  CHECK(all->at("found").size() == 10);
  CHECK(all->at("found")[0].at("weight") >= all->at("found")[9].at("weight"));
  CHECK(all->at("gates").size() == 4);
  CHECK(all->at("gates")[0].size() == 4);
  for (const char *const number : {"full_attention_recall", "share"}) CHECK(all->at(number).is_number());

  const std::string file = folder.file("kept.json"), text = test::read_text(file);
  for (const char *const name : {"asked", "seconds", "tokens", "carriers", "heads", "first", "last", "names", "done"}) {
    CAPTURE(name);
    auto state = *parse_json(text, Status::INTERNAL, "the state");
    REQUIRE(state.erase(name) == 1);
    std::ofstream(file, std::ios::binary) << state.dump();
    CHECK_THROWS_WITH_AS(made(), doctest::Contains("is damaged"), Error);
  }
  CHECK(all->at("complete") == true);
  CHECK(!adaptation->step(nullptr));
  CHECK(!adaptation->step(nullptr));
  adaptation->discard();
}
