#include "keeping.h"

#include <filesystem>

namespace cli {

void Keeping::add(CLI::App &command, ModelArguments &arguments) {
  const char *const group = "Keeping";
  command.add_option("--load", load_path_, "a snapshot to go on from")->group(group);
  CLI::Option *const save = command.add_option("--save", save_path_, "keep the session in this file")->group(group);
  name_flag_ =
      command.add_option("--name", name_, "a name for what is saved; else that of --load")->group(group)->needs(save);
  note_flag_ = command.add_option("--note", note_, "a note beside it; else that of --load")->group(group)->needs(save);
  command.add_flag("--memory-only", memory_only_, "save the memory alone: small, but local attention starts anew")
      ->group(group)
      ->needs(save);
  arguments.flags.add(command, {"compress"}, group);
}

void Keeping::check_early() {
  if (saves()) check_writable("--save", save_path_);
  if (!loads()) return;
  loaded_ = Json::parse(all_of(infini_snapshot_inspect, load_path_.c_str(), 0));
  if (!name_flag_->count()) name_ = loaded_["name"];
  if (!note_flag_->count()) note_ = loaded_["note"];
}

void Keeping::load(infini_session *session) const {
  if (loads()) check(infini_session_restore(session, load_path_.c_str(), nullptr));
}

void Keeping::save(const infini_session *session) const {
  if (saves())  // without a task, which an interrupt would cancel
    check(infini_session_save(session, save_path_.c_str(), int{memory_only_}, name_.c_str(), note_.c_str(), nullptr));
}

void Keeping::save_interrupted(const infini_session *session, const std::string &more) const {
  if (!saves()) throw Cancelled();
  save(session);
  throw std::runtime_error("cancelled; what was read so far, " +
                           grouped(value_of<int64_t>(infini_session_position, session)) +
                           " tokens in all, is saved in " + save_path_ + more);
}

void Keeping::describe(Json &json) const {
  if (!saves()) return;
  json["file"] = save_path_;
  json["bytes"] = std::filesystem::file_size(save_path_);
}

}  // namespace cli
