// What an adaptation keeps, for a run that goes on: one JSON file, and of each stage the trainer's state and the model that
// came out.
#include <filesystem>
#include <fstream>

#include "adapt/adaptation.h"
#include "base/file.h"
#include "base/json.h"
#include "base/schema.h"

namespace infini {

using nlohmann::json;

// What must be the same for a run that goes on.
json Adaptation::asked() const {
  json all = settings_json(settings_);
  // What comes after the stages that are done may change, where it is kept too; each stage's trainer compares its own.
  for (const char *const free : {"checkpoint", "checkpoint_every", "type", "names", "carry_steps", "carry_rate",
                                 "teach_sequences", "teach_steps", "teach_rate", "steps", "rate", "gate_rate"})
    all.erase(free);
  all["model"] = model_->fingerprint();
  return all;
}

json Adaptation::state() const {
  const auto measured = [](const std::optional<Measured> &m) {
    if (!m) return json();
    json recall = json::array();
    for (const std::optional<double> &share : m->recall) recall.push_back(share ? json(*share) : json());
    return json{{"nll", m->nll ? json(*m->nll) : json()}, {"recall", recall}};
  };
  json out = {{"asked", asked()},
              {"seconds", seconds_},
              {"tokens", tokens_},
              {"carriers", WriteFields::json_of(heads_.carriers)},
              {"heads", WriteFields::json_of(heads_.memory)},
              {"first", heads_.first},
              {"last", heads_.last},
              {"names", settings_.names},
              {"done", done_},
              {"before", measured(before_)},
              {"after", measured(after_)},
              {"stage", stage_}};
  if (!no_task_.empty()) out["no_task"] = no_task_;
  const auto add = [&](const char *name, const nlohmann::ordered_json &value) {
    if (!value.is_null()) out[name] = json(value);
  };
  add("found", found_);
  add("full_attention_recall", full_attention_recall_);
  add("share", share_);
  add("gates", gates_);
  return out;
}

nlohmann::ordered_json Adaptation::info() const {
  const json all = state();
  nlohmann::ordered_json out = {{"borders", settings_.borders}};
  for (const char *key : {"found", "full_attention_recall", "no_task", "carriers", "heads", "first", "last", "share",
                          "before", "after", "gates"})
    if (all.contains(key) && !all[key].is_null()) out[key] = all[key];
  out["phase_seconds"] = seconds_;
  out["phase_tokens"] = tokens_;
  out["stages"] = nlohmann::ordered_json::array();
  if (found_heads_)
    for (const Stage &stage : stages()) out["stages"].push_back(stage.name());
  out["stages_done"] = done_;
  out["complete"] = after_.has_value();
  return out;
}

void Adaptation::write_state() const {
  if (!keeps()) return;
  AtomicFile file(state_file());
  const std::string text = text_of(state()) + "\n";
  file.write(text.data(), text.size());
  file.commit();
}

void Adaptation::keep() {
  if (!keeps() || !found_heads_ || !before_) return;
  const std::vector<Stage> all = stages();
  if (trainer_ && done_ < all.size()) {
    trainer_->save(stage_file(all[done_], ".trainer"));
    stage_ = all[done_].name();  // of which there is a state: a file that is left of other runs is none
  }
  write_state();
}

void Adaptation::discard() {
  if (!keeps()) return;
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
  std::ifstream file(state_file(), std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::string other;
  try {
    const json state = parse_json(text, Status::FORMAT, state_file());
    other = differences(state.at("asked"), asked());
    if (other.empty()) restore(state);
  } catch (const std::exception &) { fail(Status::FORMAT, state_file(), " is damaged; remove it to begin anew"); }
  if (!other.empty())
    fail(Status::MODEL_MISMATCH, state_file(), " was begun otherwise:", other,
         " give what was given then, or remove the file to begin anew");
}

void Adaptation::restore(const json &state) {
  const auto measured = [](const json &m) -> std::optional<Measured> {
    if (m.is_null()) return std::nullopt;
    Measured out;
    if (m.at("nll").is_number()) out.nll = m["nll"].get<double>();
    for (const json &share : m.at("recall"))
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
  before_ = measured(state.value("before", json()));
  after_ = measured(state.value("after", json()));
  no_task_ = state.value("no_task", "");
  found_ = state.value("found", json());
  full_attention_recall_ = state.value("full_attention_recall", json());
  share_ = state.value("share", json());
  gates_ = state.value("gates", json());
  stage_ = state.value("stage", "");
  found_heads_ = true;
}

}  // namespace infini
