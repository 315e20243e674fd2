// What is trained, on what, for how long, and how it is judged: from files, and from flags that go before them.
#pragma once

#include "common.h"

namespace cli {

// Data that is not trained on, and how much of it is read to see how good the model has become.
struct Examination {
  std::string name;
  Json data;  // as in infini_trainer_create
  int sequences = 16;
  std::vector<int> segments;  // of a sequence, one examination each; 0: as many as in training
};

struct TrainPlan {
  std::string create;  // what infini_model_create takes; "": the model is opened
  Json description;    // what infini_trainer_create takes
  std::vector<Examination> examinations;
  int64_t steps = 0;

  Json json() const;
};

// The flags that say it. Files are JSON, and paths in one are relative to its folder:
//
//   --create       a configuration as infini_model_create takes it
//   --description  {"training": {...}, "curriculum": {...}, "data": {...}} as infini_trainer_create takes it
//   --evaluate     {NAME: {"data": {...}, "segments": 16 or [2, 4, 16], "sequences": 16}, ...}
class PlanFlags {
 public:
  void add(CLI::App &command);
  TrainPlan plan() const;
  bool creates() const { return !create_.empty(); }

 private:
  Json described() const;
  Json data() const;
  void set_seed(Json &data) const;
  std::vector<Examination> examinations() const;

  std::string create_, description_, evaluate_;
  std::vector<std::string> text_, jsonl_, prose_, held_out_;
  bool recall_ = false;
  int64_t steps_ = 0, seed_ = 1;
  CLI::Option *seed_flag_ = nullptr;
  TableFlags training_;
};

}  // namespace cli
