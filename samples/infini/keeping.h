// --load and --save: a session that goes on where a snapshot stopped, and is kept in one.
#pragma once

#include <string>

#include "common.h"

namespace cli {

class Keeping {
 public:
  // Adds the flags --load, --save, --name, --note and --memory-only to a command.
  void add(CLI::App &command, ModelArguments &arguments);
  // Before the model is opened, so that nothing is read in vain: the snapshot to load, and the place of the one to save.
  void check_early();

  bool loads() const { return !load_path_.empty(); }
  bool saves() const { return !save_path_.empty(); }
  // What the loaded snapshot holds, as infini_snapshot_inspect tells; empty without --load.
  const Json &loaded() const { return loaded_; }
  void load(infini_session *session) const;
  // Saves also after an interrupt.
  void save(const infini_session *session) const;
  // After an interrupt: saves, and says so in what it throws. `more` is added to that.
  [[noreturn]] void save_interrupted(const infini_session *session, const std::string &more = "") const;
  // The keys that --save adds to the JSON of a command.
  void describe(Json &json) const;

 private:
  std::string load_path_, save_path_, name_, note_;
  CLI::Option *name_flag_ = nullptr, *note_flag_ = nullptr;
  bool memory_only_ = false;
  Json loaded_ = Json::object();
};

}  // namespace cli
