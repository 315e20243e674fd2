#include "adapt/make_trainer.h"

#include "base/schema.h"
#include "adapt/curriculum.h"
#include "adapt/make_source.h"
#include "train/report.h"

namespace infini {

namespace {

// What a host measures by infini_trainer_evaluate_json; it is checked before anything is read.
struct Evaluation {
  JsonText data{"null"};
  int64_t sequences = 16;
  std::vector<int64_t> segments;
  template <class Visitor>
  void fields(Visitor &v) {
    constexpr double kMost = 1 << 20;
    v.required("data", data, "what is read, described as what is trained on");
    v("sequences", sequences, 1, kMost, "how many");
    v("segments", segments, 1, kMost, "of a sequence, one measurement each; none: as many as in training");
  }
};

struct TrainerSettings {
  RecallConfig training;
  JsonText data{"null"};
  Curriculum::Settings curriculum;
  bool has_curriculum = false;
  std::map<std::string, Evaluation> evaluation;
  // No aggregate: of one, GCC 12 destroys lists that were not made yet, where memory ends in its initialisers.
  TrainerSettings() {}
  template <class Visitor>
  void fields(Visitor &v) {
    v("training", training, "what is trained, and how");
    v.required("data", data, describe_sources,
               "where sequences come from: an object of one of these types; must be there");
    v("curriculum", curriculum,
      "sequences of tasks grow longer and sparser as recall allows; absent: they are as training and data say");
    v("evaluation", evaluation, "by name, what is to be measured now and then; the caller does it");
  }
  void complete(const Fields &given) { has_curriculum = given.has("curriculum"); }
};

}  // namespace

std::unique_ptr<RecallTrainer> make_trainer(std::shared_ptr<const Model> model, std::string_view description,
                                            const Options &options, TokenCache *cache, Task *task) {
  auto settings = parse_settings<TrainerSettings>(description, "trainer");
  RecallConfig &config = settings.training;
  if (options.is_set("compute")) config.compute = options.get_string("compute");
  std::shared_ptr<Curriculum> course;
  if (settings.has_curriculum) course = std::make_shared<Curriculum>(settings.curriculum);
  model->config();  // STATE where there is nothing to train
  const auto data = parse_json(settings.data.text, Status::INVALID_ARGUMENT, "source");
  std::unique_ptr<SequenceSource> source = make_source(*data, *model, course, cache, task);
  auto trainer = std::make_unique<RecallTrainer>(std::move(model), config, std::move(source), std::move(course),
                                                 static_cast<int>(options.get_int("threads")), task);
  trainer->evaluation = WriteFields::written(settings.evaluation);
  return trainer;
}

JsonText describe_trainer() { return describe_settings<TrainerSettings>(); }

JsonObject describe(const RecallTrainer &trainer) {
  return describe(static_cast<const Trainer &>(trainer)).add("evaluation", trainer.evaluation);
}

}  // namespace infini
