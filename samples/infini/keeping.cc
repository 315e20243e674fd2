#include "keeping.h"

#include <filesystem>

namespace cli {
void Keeping::add(CLI::App &command, ModelArguments &arguments) {
  const char *const group = "Keeping";
  command.add_option("--load", load_path_, "a snapshot to go on from")->type_name("FILE")->group(group);
  command.add_option("--save", save_path_, "keep the session in this file")->type_name("FILE")->group(group);
  command
      .add_option("--save-every", every_,
                  "save on the way too: 100000 tokens, or 30s, 5min or 1h; else only at the end")
      ->type_name("N")
      ->group(group);
  name_flag_ = command.add_option("--name", name_, "a name for what is saved; else that of --load")->group(group);
  note_flag_ = command.add_option("--note", note_, "a note beside it; else that of --load")->group(group);
  command.add_flag("--memory-only", memory_only_, "save the memory alone: small, but local attention starts anew")
      ->group(group);
  arguments.flags.add(command, {"compress"}, group);
}

void Keeping::add_session(CLI::App &command, ModelArguments &arguments) {
  CLI::Option *const session =
      command.add_option("--session", session_path_,
                         "the conversation's file: gone on with if it is there, saved each minute and at the end");
  session->type_name("FILE")->group("Keeping");
  add(command, arguments);
  for (const char *const other : {"--load", "--save"}) session->excludes(command.get_option(other));
}

void Keeping::check_early() {
  if (!session_path_.empty()) {
    save_path_ = session_path_;
    std::error_code error;
    if (std::filesystem::exists(session_path_, error)) load_path_ = session_path_;
    if (every_.empty()) every_ = "60s";
  }
  if (!every_.empty()) {
    double number = 0;
    const char *const end = every_.data() + every_.size();
    const auto [stop, error] = read_number(every_.data(), end, number);
    const std::string unit(stop, end);
    const double seconds = unit == "s" ? 1 : unit == "min" ? 60 : unit == "h" ? 3600 : 0;
    if (error != std::errc() || !(number > 0 && number < 1e15) || (seconds == 0 && !unit.empty()))
      throw std::runtime_error("--save-every takes tokens (100000) or a time (30s, 5min, 1h), not '" + every_ + "'");
    if (unit.empty()) every_tokens_ = std::max<int64_t>(1, static_cast<int64_t>(number));
    else every_seconds_ = number * seconds;
  }
  if (!saves() && (name_flag_->count() || note_flag_->count() || memory_only_ || !every_.empty()))
    throw std::runtime_error("--name, --note, --memory-only and --save-every go with --save or --session");
  if (saves()) check_writable(session_path_.empty() ? "--save" : "--session", save_path_);
  if (!loads()) return;
  loaded_ = json_of(infini_snapshot_json, load_path_.c_str(), 0, nullptr);
  if (!name_flag_->count()) name_ = loaded_["name"];
  if (!note_flag_->count()) note_ = loaded_["note"];
}

void Keeping::save_as(const std::string &path) {
  check_writable("/save", path);
  save_path_ = path;
}

void Keeping::load(infini_session *session) {
  if (loads()) check(infini_session_restore(session, load_path_.c_str(), nullptr));
  saved_position_ = position_of(session);
  since_saved_ = Stopwatch();
}

void Keeping::save(const infini_session *session) {
  if (!saves()) return;
  const Patience patience;
  const Progress progress;
  check(infini_session_save(session, save_path_.c_str(), memory_only_ ? INFINI_SNAPSHOT_MEMORY : 0, name_.c_str(),
                            note_.c_str(), progress.task()));
  saved_position_ = position_of(session);
  since_saved_ = Stopwatch();
}

int64_t Keeping::until_due(int64_t position) const {
  return every_tokens_ > 0 ? std::max<int64_t>(1, saved_position_ + every_tokens_ - position) : INT64_MAX;
}

bool Keeping::due(int64_t position) const {
  return saves() && ((every_tokens_ > 0 && position >= saved_position_ + every_tokens_) ||
                     (every_seconds_ > 0 && position > saved_position_ && since_saved_.seconds() >= every_seconds_));
}

void Keeping::save_if_due(const infini_session *session) {
  if (due(position_of(session))) save(session);
}

void Keeping::save_interrupted(const infini_session *session, const std::string &more) {
  if (!saves()) throw Cancelled();
  save(session);
  throw std::runtime_error("cancelled; what was read so far, " + grouped(position_of(session)) +
                           " tokens in all, is saved in " + save_path_ + more);
}

void Keeping::describe(Json &json) const {
  if (!saves()) return;
  std::error_code error;
  const auto bytes = std::filesystem::file_size(save_path_, error);
  json["file"] = save_path_;
  json["bytes"] = error ? Json() : Json(bytes);  // a pipe has none
}

}  // namespace cli
