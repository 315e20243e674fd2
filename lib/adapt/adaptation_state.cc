// The files from which an adaptation is continued: a JSON file, and of each stage the checkpoint of its trainer and the
// model that it made.
#include <filesystem>
#include <fstream>
#include <limits>

#include "adapt/adaptation.h"
#include "base/file.h"
#include "base/json.h"
#include "base/schema.h"

namespace infini {

using nlohmann::json;

// The settings that must be the same when it is continued.
JsonObject Adaptation::asked() const {
  // What comes after the stages that are done may change, where it is kept too; each stage's trainer compares its own.
  constexpr const char *kFree =
      "checkpoint|checkpoint_every|type|names|carry_steps|carry_rate|teach_sequences|teach_steps|"
      "teach_rate|steps|rate|gate_rate";
  const auto all = parse_json(settings_json(settings_).text(), Status::INTERNAL, "the settings");
  JsonObject asked;
  for (const auto &[name, value] : all->items())
    if (!is_choice(name, kFree)) asked.add(name, JsonText{text_of(value)});
  return asked.add("model", model_->fingerprint());
}

void Adaptation::add_findings(JsonObject &out) const {
  if (!found_.empty()) out.add("found", found_);
  if (full_attention_recall_) out.add("full_attention_recall", full_attention_recall_);
  if (!no_task_.empty()) out.add("no_task", no_task_);
  out.add("carriers", WriteFields::written(heads_.carriers)).add("heads", WriteFields::written(heads_.memory));
  out.add("first", heads_.first).add("last", heads_.last);
  if (share_) out.add("share", share_);
  if (before_) out.add("before", before_);
  if (after_) out.add("after", after_);
  if (!gates_.empty()) out.add("gates", gates_);
}

JsonObject Adaptation::state() const {
  JsonObject out;
  out.add("asked", asked()).add("seconds", seconds_).add("tokens", tokens_);
  add_findings(out);
  return out.add("names", settings_.names).add("done", done_).add("stage", stage_);
}

JsonObject Adaptation::info() const {
  JsonObject out;
  out.add("borders", settings_.borders);
  add_findings(out);
  JsonList names;
  if (found_heads_)
    for (const Stage &stage : stages()) names.add(stage.name());
  return out.add("phase_seconds", seconds_)
      .add("phase_tokens", tokens_)
      .add("stages", names)
      .add("stages_done", done_)
      .add("complete", after_.has_value());
}

void Adaptation::write_state() const {
  if (!saves()) return;
  AtomicFile file(state_file());
  const std::string text = state().text() + "\n";
  file.write(text.data(), text.size());
  file.commit();
}

void Adaptation::save() {
  if (!saves() || !found_heads_ || !before_) return;
  const std::vector<Stage> all = stages();
  if (trainer_ && done_ < all.size()) {
    trainer_->save(stage_file(all[done_], ".trainer"));
    stage_ = all[done_].name();  // of which there is a state: a file that is left of other runs is none
  }
  write_state();
}

void Adaptation::discard() {
  if (!saves()) return;
  std::error_code none;
  std::filesystem::remove(state_file(), none);
  if (!found_heads_) return;
  for (const Stage &stage : stages())
    for (const char *const kind : {".trainer", ".gguf"}) {
      // The result of the last stage is not one of these.
      if (stage.kind != Stage::Kind::TRAIN || std::string(kind) == ".trainer")
        std::filesystem::remove(stage_file(stage, kind), none);
    }
}

void Adaptation::resume() {
  if (!std::filesystem::exists(state_file())) return;
  std::ifstream file(std::filesystem::path(state_file()), std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::string other;
  try {
    const auto state = parse_json(text, Status::FORMAT, state_file());
    other = differences(state->at("asked"), *parse_json(asked().text(), Status::INTERNAL, "the settings"));
    if (other.empty()) restore(*state);
  } catch (const std::exception &) { fail(Status::FORMAT, state_file(), " is damaged; remove it to begin anew"); }
  if (!other.empty())
    fail(Status::MODEL_MISMATCH, state_file(), " was begun otherwise:", other,
         " give what was given then, or remove the file to begin anew");
}

void Adaptation::restore(const json &state) {
  const auto measured = [](const json *m) -> std::optional<Measured> {
    if (!m) return std::nullopt;
    Measured out;
    if (m->at("nll").is_number()) out.nll = m->at("nll").get<double>();
    for (const json &share : m->at("recall"))
      out.recall.push_back(share.is_number() ? std::optional(share.get<double>()) : std::nullopt);
    return out;
  };
  const Config &model = model_->config();
  const auto whole = [](const json &value, int64_t least, int64_t most) {
    if (!fits<int64_t>(value) || !value.is_number_integer() || value.get<int64_t>() < least ||
        value.get<int64_t>() > most)
      fail(Status::FORMAT, "a number is out of range");
    return static_cast<int>(value.get<int64_t>());
  };
  AdaptHeads heads;
  for (const json &head : state.at("carriers"))
    heads.carriers.push_back({whole(head.at(0), 0, model.layers - 1), whole(head.at(1), 0, model.heads - 1)});
  for (const json &head : state.at("heads"))
    heads.memory.push_back(
        {whole(head.at(0), 0, model.layers - 1), whole(head.at(1), 0, model.heads - 1), whole(head.at(2), 0, 1000)});
  if (heads.carriers.empty() != heads.memory.empty()) fail(Status::FORMAT, "heads are missing");
  heads.first = whole(state.at("first"), 0, model.layers - 1);
  heads.last = whole(state.at("last"), heads.first, model.layers - 1);
  heads_ = std::move(heads);
  settings_.names = whole(state.at("names"), 1, 1000);
  const auto phases = [&](const char *name, auto &values) {
    for (auto &[phase, value] : values) state.at(name).at(phase).get_to(value);
  };
  phases("seconds", seconds_);
  phases("tokens", tokens_);
  done_ = static_cast<size_t>(whole(state.at("done"), 0, static_cast<int64_t>(stages().size())));
  const auto find = [&](const char *name) {
    const auto found = state.find(name);
    return found == state.end() || found->is_null() ? nullptr : &*found;
  };
  // Numbers that are not finite are written as null.
  const auto real = [](const json &value) {
    return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
  };
  const auto maybe = [&](const char *name) { return find(name) ? std::optional(real(*find(name))) : std::nullopt; };
  std::vector<FoundHead> found;
  if (const json *const list = find("found"))
    for (const json &head : *list)
      found.push_back({head.at("layer").get<size_t>(), head.at("head").get<size_t>(), real(head.at("weight")),
                       real(head.at("name_weight"))});
  std::vector<std::vector<double>> gates;
  if (const json *const layers = find("gates"))
    for (const json &layer : *layers) {
      gates.emplace_back();
      for (const json &weight : layer) gates.back().push_back(real(weight));
    }
  before_ = measured(find("before"));
  after_ = measured(find("after"));
  no_task_ = state.value("no_task", "");
  found_ = std::move(found);
  full_attention_recall_ = maybe("full_attention_recall");
  share_ = maybe("share");
  gates_ = std::move(gates);
  stage_ = state.value("stage", "");
  found_heads_ = true;
}

}  // namespace infini
