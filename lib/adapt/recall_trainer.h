// A trainer whose attention is supervised as its settings say.
#pragma once

#include <memory>
#include <utility>

#include "adapt/recall_supervisor.h"
#include "base/json.h"
#include "train/trainer.h"

namespace infini {

class RecallTrainer : public Trainer {
 public:
  // As Trainer's. INVALID_ARGUMENT also for supervision that does not fit the model.
  RecallTrainer(std::shared_ptr<const Model> model, const RecallConfig &config, std::unique_ptr<SequenceSource> source,
                std::shared_ptr<SequenceLengths> lengths, int threads, Task *task = nullptr)
      : Trainer(model, config, describe(config), std::make_unique<RecallSupervisor>(config, model->config()),
                std::move(source), std::move(lengths), threads, task) {}

  JsonText evaluation{"{}"};  // what is to be measured, by name; it changes nothing here
  const RecallSupervisor &supervisor() const { return static_cast<const RecallSupervisor &>(Trainer::supervisor()); }
};

}  // namespace infini
