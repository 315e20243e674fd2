// What is trained, on what, for how long, and how it is judged: from files, and from flags that go before them.
#pragma once

#include "common.h"

namespace cli {

struct TrainPlan {
  std::string create;  // what infini_model_create takes; "": the model is opened
  Json description;    // what infini_trainer_create takes
  int64_t steps = 0;
};

// The flags that say it. Files are JSON, and paths in one are relative to its folder:
//
//   --create       a configuration as infini_model_create takes it
//   --description  {"training": {...}, "curriculum": {...}, "data": {...}, ...} as infini_trainer_create takes it
//   --evaluate     {NAME: {"data": {...}, "segments": 16 or [2, 4, 16], "sequences": 16}, ...}, as its "evaluation",
//                  but that one number of segments needs no list
class PlanFlags {
 public:
  void add(CLI::App &command);
  TrainPlan plan() const;
  bool creates() const { return !create_.empty(); }

 private:
  Json described() const;
  Json data() const;
  void set_seed(Json &data) const;
  Json evaluation(const Json &described) const;

  std::string create_, description_, evaluate_;
  std::vector<std::string> text_, jsonl_, prose_, held_out_;
  bool recall_ = false;
  int64_t steps_ = 0, seed_ = 1;
  CLI::Option *seed_flag_ = nullptr;
  TableFlags training_;
};

}  // namespace cli
