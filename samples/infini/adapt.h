// infini train MODEL --adapt: a plain model learns to use its memory. The library does it (infini_train.h); this gives
// it what flags say, shows how it goes, and writes what comes out.
#pragma once

#include <string>

#include "common.h"

namespace cli {

class AdaptFlags {
 public:
  // Adds --adapt and what goes with it; flags that the command has already are shared. `arguments`: of the same
  // command.
  void add(CLI::App &command, const ModelArguments &arguments);
  bool wanted() const { return wanted_; }
  void run() const;

 private:
  void adapt(const Json &settings, const std::string &out, const std::string &log) const;

  const CLI::App *command_ = nullptr;
  const ModelArguments *arguments_ = nullptr;
  TableFlags flags_;
  bool wanted_ = false;
};

}  // namespace cli
