// Flags of what the library's tables describe: options, and fields of settings.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "handles.h"

namespace cli {

using Json = nlohmann::ordered_json;

// What a row of a table says about an option or a field.
std::string help_of(const Json &row);

// A flag, and the row of a table that it stands for.
struct TableFlag {
  Json row;
  CLI::Option *option;
  std::string name() const { return row["name"]; }
  bool given() const { return option->count() > 0; }
  // As it was given: a number, a text, a list of either; rows of numbers are written "18:3,23:3".
  Json value() const;
};

class TableFlags {
 public:
  // Adds a flag of the row's type: "muon_rate" is --muon-rate, unless `flag` names it. Ranges are the library's to
  // refuse. `more` stands behind the help.
  CLI::Option *add(CLI::App &command, const Json &row, std::string flag = "", const std::string &more = "");
  // A flag that the command has already stands for the row too.
  void share(CLI::App &command, const Json &row, const std::string &flag);
  bool given(const std::string &name) const;
  // Writes what was given into an object of settings.
  void write(Json &settings) const;
  // What the library says of "adapt.texts", where `settings` is "adapt", as said of the flag.
  std::string of_flags(std::string message, const std::string &settings) const;

 protected:
  std::vector<TableFlag> flags_;
};

// Flags that set options.
class OptionFlags : private TableFlags {
 public:
  void add(CLI::App &command, const std::vector<std::string> &names, const std::string &group);
  // A value that the command takes where the flag is not given, instead of the library's. `weak`: one of a snapshot
  // goes before it, see weak_defaults().
  void set_default(const std::string &name, const Json &value, bool weak = false);
  // The options whose flags were given, and defaults of the command's, that a model, a session or a trainer takes.
  Options model_options() const;
  Options session_options() const;
  Options trainer_options() const;
  // The weak defaults of flags that were not given, but for options that `set` holds.
  Options weak_defaults(const Json &set) const;

 private:
  template <class Takes>
  Options options(const Takes &takes) const;
  std::map<std::string, std::pair<Json, bool>> defaults_;  // and whether they are weak
};

}  // namespace cli
