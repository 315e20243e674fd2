// The files from which an adaptation is continued: a JSON file, and of each stage the checkpoint of its trainer and the
// model that it made.
#include <algorithm>
#include <filesystem>
#include <fstream>

#include "adapt/adaptation.h"
#include "base/file.h"

namespace infini {

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

template <class Self, class Visitor>
void Adaptation::visit_findings(Self &self, Visitor &v) {
  v("found", self.found_, "");
  v("full_attention_recall", self.full_attention_recall_);
  v("no_task", self.no_task_, "", "");
  v("carriers", self.heads_.carriers, 2, "[layer, head]", "");
  v("heads", self.heads_.memory, 3, "[layer, head, offset]", "");
  v("first", self.heads_.first, 0, kMostLayers, "");
  v("last", self.heads_.last, 0, kMostLayers, "");
  v("share", self.share_);
  v("before", self.before_, "");
  v("after", self.after_, "");
  v("gates", self.gates_);
}

template <class Self, class Visitor>
void Adaptation::visit_state(Self &self, Visitor &v) {
  JsonText asked = self.asked().json();
  v("asked", asked, "");
  v("seconds", self.seconds_, "");
  v("tokens", self.tokens_, "");
  visit_findings(self, v);
  v("names", self.settings_.names, 1, 1000, "");
  v("done", self.done_, 0, kMostLayers, "");
  v("stage", self.stage_, "", "");
}

namespace {

// Leaves out what is not known yet.
struct WriteKnown : WriteFields {
  using WriteFields::operator();
  template <class T, class... About>
  void operator()(const char *name, const std::optional<T> &value, const About &...about) {
    if (value) WriteFields::operator()(name, *value, about...);
  }
};

}  // namespace

JsonObject Adaptation::info() const {
  WriteKnown findings;
  visit_findings(*this, findings);
  JsonList names;
  if (found_heads_)
    for (const Stage &stage : stages()) names.add(stage.name());
  return JsonObject()
      .add("borders", settings_.borders)
      .add(findings.object)
      .add("phase_seconds", seconds_)
      .add("phase_tokens", tokens_)
      .add("stages", names)
      .add("stages_done", done_)
      .add("complete", after_.has_value());
}

void Adaptation::write_state() const {
  if (!saves()) return;
  WriteKnown state;
  visit_state(*this, state);
  AtomicFile file(state_file());
  const std::string text = state.object.text() + "\n";
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

void Adaptation::restore(const nlohmann::json &state) {
  for (const char *const name : {"seconds", "tokens", "carriers", "heads", "first", "last", "names", "done"})
    state.at(name);  // must be there; what else is not there is not known yet
  ReadFields reader(state, "state");
  visit_state(*this, reader);
  reader.finish();
  const Config &model = model_->config();
  constexpr int kMostOffset = 1000;
  const auto known = [&](const auto &head) {
    return head.layer >= 0 && head.layer < model.layers && head.head >= 0 && head.head < model.heads;
  };
  const AdaptHeads &heads = heads_;
  found_heads_ =
      std::ranges::all_of(heads.carriers, known) && std::ranges::all_of(heads.memory, known) &&
      std::ranges::all_of(heads.memory,
                          [](const SupervisedHead &head) { return head.offset >= 0 && head.offset <= kMostOffset; }) &&
      heads.carriers.empty() == heads.memory.empty() && heads.first <= heads.last && heads.last < model.layers &&
      done_ <= stages().size();
  if (!found_heads_) fail(Status::FORMAT, "heads, layers or stages are not those of the model");
}

}  // namespace infini
