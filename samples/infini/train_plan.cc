#include "train_plan.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace cli {
namespace {

[[noreturn]] void fail(const std::string &message) { throw std::runtime_error(message); }

Json read_object(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("cannot open " + path + ": " + std::strerror(errno));
  Json json = parse_json({std::istreambuf_iterator<char>(file), {}}, path);
  if (!json.is_object()) fail(path + ": is not a JSON object");
  return json;
}

void resolve(Json &path, const std::filesystem::path &folder) {
  if (path.is_string() && path != "") path = (folder / path.get<std::string>()).lexically_normal().string();
}

// f(source) for a source of data, and for those in a mixture.
template <class Function>
void each_source(Json &source, const Function &f) {
  if (!source.is_object()) return;
  f(source);
  if (!source.contains("sources") || !source["sources"].is_array()) return;
  for (Json &part : source["sources"])
    if (part.is_object() && part.contains("source")) each_source(part["source"], f);
}

void resolve_data(Json &data, const std::string &file) {
  each_source(data, [&](Json &source) {
    for (const char *const key : {"files", "prose"})
      if (source.contains(key) && source[key].is_array())
        for (Json &path : source[key]) resolve(path, std::filesystem::path(file).parent_path());
  });
}

// Fields of "training" that are flags too.
bool is_flag(const std::string &field) {
  static const char *const names[] = {"train",  "optimizer", "rate",    "muon_rate", "gate_rate", "schedule",
                                      "warmup", "tokens",    "segment", "segments",  "carry",     "sinks"};
  return std::find(std::begin(names), std::end(names), field) != std::end(names);
}
constexpr const char *kOwnWarmup = "; else 100, or a tenth of --steps if that is less";

Json text_source(const char *type, const std::vector<std::string> &files) {
  Json source = {{"type", type}, {"files", files}, {"unknown_text", "skip"}};
  if (source["type"] == "text") source["order"] = "excerpts";
  return source;
}

Json recall_source(const std::vector<std::string> &prose) {
  Json source = {{"type", "recall"}};
  if (!prose.empty()) source["prose"] = prose;
  return source;
}

}  // namespace

void PlanFlags::add(CLI::App &command) {
  const char *const kData = "What it reads", *const kTraining = "How it learns; else what the description says";
  constexpr int kFiles = 100000;
  CLI::Option *const create = command.add_option("--create", create_, "JSON of a new model to train, instead of MODEL");
  create->type_name("FILE")->excludes(command.get_option("MODEL"));
  command.add_option("--description", description_, "JSON of training, curriculum, data and evaluation")
      ->type_name("FILE");
  command.add_option("--steps", steps_, "how many in all; else \"steps\" of the description")
      ->check(CLI::PositiveNumber);

  command
      .add_option("--text", text_, "plain text, in excerpts drawn at random; characters without a token are left out")
      ->expected(1, kFiles)
      ->type_name("FILE...")
      ->group(kData);
  command
      .add_option("--jsonl", jsonl_,
                  "documents {\"text\": ..., \"spans\": [[begin, end, weight]], \"links\": [[from_begin, from_end, "
                  "to_begin, to_end, weight, kind]], \"values\": [[begin, end, label]]}, one a line")
      ->expected(1, kFiles)
      ->type_name("FILE...")
      ->group(kData);
  CLI::Option *const recall =
      command.add_flag("--recall", recall_,
                       "values that are told under a name and asked for later, in sequences that grow as recall does");
  recall->group(kData);
  command.add_option("--prose", prose_, "with --recall: hide half of them in the prose of these books")
      ->expected(1, kFiles)
      ->type_name("FILE...")
      ->group(kData)
      ->needs(recall);
  command.add_option("--held-out", held_out_, "texts that are not trained on, to measure perplexity")
      ->expected(1, kFiles)
      ->type_name("FILE...")
      ->group(kData);
  command.add_option("--evaluate", evaluate_, "JSON of what is measured besides")->type_name("FILE")->group(kData);

  const Json table = json_of(infini_trainer_settings_json);
  for (const Json &field : table[0]["fields"]) {
    const std::string name = field["name"];
    if (is_flag(name))
      training_.add(command, field, "", name == "warmup" ? kOwnWarmup : "")->default_str("")->group(kTraining);
  }
  seed_flag_ = command.add_option("--seed", seed_, "of a new model, of what is drawn, and of adapters")
                   ->check(CLI::NonNegativeNumber);
  seed_flag_->group(kTraining);
}

TrainPlan PlanFlags::plan() const {
  TrainPlan plan;
  if (creates()) {
    Json config = read_object(create_);
    if (config.contains("tokenizer")) resolve(config["tokenizer"], std::filesystem::path(create_).parent_path());
    if (seed_flag_->count()) config["seed"] = seed_;
    plan.create = json_text(config, create_);
  }
  plan.description = described();
  Json &training = plan.description["training"];
  const Json planned = training.value("steps", Json());
  plan.steps = steps_ > 0 ? steps_ : planned.is_number_integer() ? planned.get<int64_t>() : 0;
  if (plan.steps < 1) fail("--steps: say how many steps to train");
  if (planned.is_null()) {
    if (training.value("schedule", Json("constant")) != "constant") training["steps"] = plan.steps;
    if (!training.contains("warmup") && plan.steps < 1000) training["warmup"] = plan.steps / 10;
  }
  if (Json all = evaluation(plan.description.value("evaluation", Json::object())); !all.empty())
    plan.description["evaluation"] = std::move(all);
  return plan;
}

Json PlanFlags::described() const {
  Json json = description_.empty() ? Json::object() : read_object(description_);
  Json training = json.value("training", Json::object());
  if (!training.is_object()) fail(description_ + ": \"training\" is not an object");
  training_.write(training);
  if (json.contains("data")) resolve_data(json["data"], description_);
  if (!text_.empty() || !jsonl_.empty() || recall_) {
    json["data"] = data();
  } else if (!json.contains("data")) {
    fail("nothing to read: give --text, --jsonl, --recall, or a --description with \"data\"");
  }
  const bool shaped = training_.given("segment") || training_.given("segments");
  if (json.contains("curriculum") && shaped)
    fail("--segment and --segments do not go with the curriculum of " + description_ +
         ", which says how long sequences are");
  if (recall_ && !shaped && !json.contains("curriculum")) json["curriculum"] = Json::object();
  if (seed_flag_->count()) {
    training["seed"] = seed_;
    set_seed(json["data"]);
  }
  json["training"] = std::move(training);
  return json;
}

// Of several kinds of data each is as frequent.
Json PlanFlags::data() const {
  std::vector<Json> sources;
  if (!text_.empty()) sources.push_back(text_source("text", text_));
  if (!jsonl_.empty()) sources.push_back(text_source("jsonl", jsonl_));
  if (recall_) sources.push_back(recall_source(prose_));
  if (sources.size() == 1) return sources[0];
  Json mixture = {{"type", "mixture"}, {"sources", Json::array()}};
  for (const Json &source : sources) mixture["sources"].push_back({{"ratio", 1}, {"source", source}});
  return mixture;
}

void PlanFlags::set_seed(Json &data) const {
  each_source(data, [&](Json &source) {
    const Json type = source.value("type", Json());
    if (type != "jsonl" && (type != "text" || source.value("order", Json()) == "excerpts")) source["seed"] = seed_;
  });
}

// What is measured: what the description says, and flags.
Json PlanFlags::evaluation(const Json &described) const {
  Json all = Json::object();
  if (!held_out_.empty()) all["held out"]["data"] = text_source("text", held_out_);
  const auto take = [&](const Json &given, const std::string &file) {
    for (const auto &[name, one] : given.items()) {
      if (!one.is_object() || !one.contains("data")) fail(file + ": \"" + name + "\" has no \"data\"");
      if (all.contains(name)) fail(file + ": \"" + name + "\" is measured already: give it another name");
      Json &entry = all[name] = one;
      resolve_data(entry["data"], file);
      if (const Json segments = entry.value("segments", Json()); segments.is_number())
        entry["segments"] = segments == 0 ? Json::array() : Json::array({segments});
    }
  };
  take(described, description_);
  if (!evaluate_.empty()) take(read_object(evaluate_), evaluate_);
  if (!recall_ || !evaluate_.empty() || !described.empty()) return all;
  Json source = recall_source(held_out_);
  source["seed"] = 1 << 20;  // not what is trained on
  source["density"] = {6, 12};
  all["values"] = {{"data", std::move(source)}, {"segments", {4, 16, 64}}};
  return all;
}

}  // namespace cli
