// --load and --save: a session that goes on where a snapshot stopped, and is kept in one.
#pragma once

#include <string>

#include "common.h"

namespace cli {

class Keeping {
 public:
  // Adds the flags --load, --save, --save-every, --name, --note and --memory-only to a command.
  void add(CLI::App &command, ModelArguments &arguments);
  // Adds --session too: --load, if the file is there, and --save.
  void add_session(CLI::App &command, ModelArguments &arguments);
  // Before the model is opened, so that nothing is read in vain: the snapshot to load, and the place of the one to
  // save.
  void check_early();

  bool loads() const { return !load_path_.empty(); }
  bool saves() const { return !save_path_.empty(); }
  bool is_session() const { return !session_path_.empty(); }
  const std::string &path() const { return save_path_; }
  void save_as(const std::string &path);
  // What the loaded snapshot holds, as infini_snapshot_json tells; empty without --load.
  const Json &loaded() const { return loaded_; }
  void load(infini_session *session);
  // Saves, also after an interrupt; one more, or two if there was none, gives that up.
  void save(const infini_session *session);
  // By --save-every: saves if that is due.
  void save_if_due(const infini_session *session);
  bool due(int64_t position) const;
  // Tokens until the next save; INT64_MAX if none is known.
  int64_t until_due(int64_t position) const;
  // After an interrupt: saves, and says so in what it throws. `more` is added to that.
  [[noreturn]] void save_interrupted(const infini_session *session, const std::string &more = "");
  // The keys that --save adds to the JSON of a command.
  void describe(Json &json) const;

 private:
  std::string load_path_, save_path_, session_path_, every_, name_, note_;
  CLI::Option *name_flag_ = nullptr, *note_flag_ = nullptr;
  bool memory_only_ = false;
  int64_t every_tokens_ = 0, saved_position_ = 0;
  double every_seconds_ = 0;
  Stopwatch since_saved_;
  Json loaded_ = Json::object();
};

}  // namespace cli
