// Flags of the fields of a table that the library writes, such as infini_keep_settings_json.
#pragma once

#include <map>
#include <string>

#include "common.h"

namespace cli {

class SettingFlags {
 public:
  // "muon_rate" is --muon-rate. `more` stands behind the field's help.
  CLI::Option *add(CLI::App &command, const Json &field, const std::string &more = "") {
    const std::string name = field["name"], flag = flag_of(name), help = help_of(field, false) + more;
    return flags_[name] = field["type"] == "string"   ? command.add_option(flag, texts_[name], help)
                          : field["type"] == "double" ? command.add_option(flag, numbers_[name], help)
                                                      : command.add_option(flag, wholes_[name], help);
  }
  bool given(const std::string &name) const { return flags_.at(name)->count() > 0; }
  // Writes what was given into an object of settings.
  void write(Json &settings) const {
    for (const auto &[name, flag] : flags_) {
      if (flag->count() == 0) continue;
      if (texts_.count(name)) settings[name] = texts_.at(name);
      else if (numbers_.count(name)) settings[name] = numbers_.at(name);
      else settings[name] = wholes_.at(name);
    }
  }

 private:
  std::map<std::string, std::string> texts_;
  std::map<std::string, double> numbers_;
  std::map<std::string, int64_t> wholes_;
  std::map<std::string, CLI::Option *> flags_;
};

}  // namespace cli
