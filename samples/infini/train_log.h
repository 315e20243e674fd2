// The log of a training, as JSON, one object a line:
//
//   {"run": {...}}                                       what is trained and how: the first line
//   {"step": 1, "loss", "recall_across", ...}            what infini_trainer_report_json says, after steps
//   {"step": 0, "evaluation": [...], "gates": [[...]]}   what was measured after so many steps, and each layer's gates
#pragma once

#include <fstream>

#include "common.h"

namespace cli {

class TrainLog {
 public:
  // A training that stands at step 0 begins the log anew; from a later step on it is continued, and what it says of
  // steps that have not happened is cut off. A file that is something else is refused.
  TrainLog(const std::string &path, int64_t step, const Json &run);
  void write(const Json &line);
  int64_t evaluated() const { return evaluated_; }  // the last step with an evaluation; -1: none

 private:
  // Bytes of the log that hold up to that step.
  int64_t kept(int64_t step);

  std::string path_;
  std::ofstream file_;
  int64_t evaluated_ = -1;
};

}  // namespace cli
