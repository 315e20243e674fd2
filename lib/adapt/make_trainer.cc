#include "adapt/make_trainer.h"

#include "base/schema.h"
#include "adapt/curriculum.h"
#include "adapt/make_source.h"

namespace infini {

JsonText describe_trainer() {
  const auto part = [](const char *name) { return JsonObject().add("name", name).add("type", "object"); };
  return JsonList()
      .add(part("training").add("fields", describe_settings<RecallConfig>()).add("help", "what is trained, and how"))
      .add(part("data")
               .add("types", describe_sources())
               .add("help", "where sequences come from: an object of one of these types; must be there"))
      .add(part("curriculum")
               .add("fields", describe_settings<Curriculum::Settings>())
               .add("help",
                    "sequences of tasks grow longer and sparser as recall allows; absent: they are as "
                    "training and data say"))
      .json();
}

namespace {

constexpr const char *kOptions = "compute|threads";

void check_options(const Options &options) {
  for (const OptionSpec &option : option_table()) {
    if (!options.is_set(option.name) || is_choice(option.name, kOptions)) continue;
    fail(Status::INVALID_ARGUMENT, "option '", option.name, "' belongs to ",
         option.scope == OptionScope::MODEL ? "a model: give it where the model is opened or created"
                                            : "a session: give it where the session is created",
         "; a trainer takes compute and threads");
  }
}

}  // namespace

std::unique_ptr<RecallTrainer> make_trainer(std::shared_ptr<const Model> model, std::string_view description,
                                            const Options &options, TokenCache *cache, Task *task) {
  check_options(options);
  const auto json = parse_json(description, Status::INVALID_ARGUMENT, "the description of the training");
  Fields fields(*json, "trainer");
  const nlohmann::json *training = fields.find("training"), *data = fields.find("data"),
                       *curriculum = fields.find("curriculum");
  fields.finish();
  if (!data) fail(Status::INVALID_ARGUMENT, "trainer.data is missing: it says what is read");
  RecallConfig config = training ? read_settings<RecallConfig>(*training, "train") : RecallConfig();
  if (options.is_set("compute")) config.compute = options.get_string("compute");
  std::shared_ptr<Curriculum> course;
  if (curriculum) course = std::make_shared<Curriculum>(Curriculum::parse(*curriculum, "trainer.curriculum"));
  model->config();  // STATE where there is nothing to train
  std::unique_ptr<SequenceSource> source = make_source(*data, *model, course, cache, task);
  return std::make_unique<RecallTrainer>(std::move(model), config, std::move(source), std::move(course),
                                         static_cast<int>(options.get_int("threads")), task);
}

}  // namespace infini
