// The files from which an adaptation is continued: a JSON file, and of each phase the checkpoint of its trainer and the
// model that it made.
#include <algorithm>
#include <filesystem>
#include <fstream>

#include "adapt/adaptation.h"
#include "base/file.h"

namespace infini {

// The settings that must be the same when it is continued.
JsonObject Adaptation::asked() const {
  // What comes after the phases that are done may change, where it is kept too; each phase's trainer compares its own.
  constexpr const char *kFree =
      "checkpoint|checkpoint_every|type|names|carrier_steps|carrier_rate|teach_sequences|teach_steps|"
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
  v("phase", self.phase_, "", "");
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
    for (const Phase &phase : phases()) names.add(phase.name());
  return JsonObject()
      .add("borders", settings_.borders)
      .add(findings.object)
      .add("phase_seconds", settings_json(seconds_).json())
      .add("phase_tokens", settings_json(tokens_).json())
      .add("phases", names)
      .add("phases_done", done_)
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

void Adaptation::save(Task *task) {
  if (!saves() || !found_heads_ || !before_) return;
  const std::vector<Phase> all = phases();
  if (trainer_ && done_ < all.size()) {
    trainer_->save(phase_file(all[done_], ".trainer"), task);
    phase_ = all[done_].name();  // of which there is a state: a file that is left of other runs is none
  }
  write_state();
}

void Adaptation::discard() {
  if (!saves()) return;
  std::error_code none;
  std::filesystem::remove(state_file(), none);
  if (!found_heads_) return;
  for (const Phase &phase : phases())
    for (const char *const kind : {".trainer", ".gguf"}) {
      // The result of the last phase is not one of these.
      if (phase.kind != Phase::Kind::TRAIN || std::string(kind) == ".trainer")
        std::filesystem::remove(phase_file(phase, kind), none);
    }
}

namespace {

// Before version 0.1 came out, a phase was called a stage, and that of the carriers was `carry`. True where it was then
// that the state was written: its files have names of then, too.
bool rename_old(nlohmann::json &state) {
  if (!state.contains("stage")) return false;
  rename_member(state, "stage", "phase");
  if (is_text(state["phase"], "carry")) state["phase"] = "carriers";
  for (const char *const sums : {"seconds", "tokens"}) rename_member(state.at(sums), "carry", "carriers");
  rename_member(state.at("asked"), "carry_size", "carrier_size");
  return true;
}

void rename_old_files(const std::string &checkpoint) {
  for (const char *const kind : {".trainer", ".gguf"}) {
    const std::filesystem::path old = checkpoint + ".carry" + kind, now = checkpoint + ".carriers" + kind;
    std::error_code error;
    if (!std::filesystem::exists(old, error)) continue;
    std::filesystem::rename(old, now, error);
    if (error) fail(Status::IO, old.string(), " cannot be renamed to ", now.string(), ": ", error.message());
  }
}

}  // namespace

void Adaptation::resume() {
  if (!std::filesystem::exists(state_file())) return;
  std::ifstream file(std::filesystem::path(state_file()), std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::string other;
  bool old = false;
  try {
    const auto state = parse_json(text, Status::FORMAT, state_file());
    old = rename_old(*state);
    other = differences(state->at("asked"), *parse_json(asked().text(), Status::INTERNAL, "the settings"));
    if (other.empty()) restore(*state);
  } catch (const std::exception &) { fail(Status::FORMAT, state_file(), " is damaged; remove it to begin anew"); }
  if (!other.empty())
    fail(Status::MODEL_MISMATCH, state_file(), " was begun otherwise:", other,
         " give what was given then, or remove the file to begin anew");
  if (old) rename_old_files(settings_.checkpoint);
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
      done_ <= phases().size();
  if (!found_heads_) fail(Status::FORMAT, "heads, layers or phases are not those of the model");
}

}  // namespace infini
