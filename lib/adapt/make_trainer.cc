#include "adapt/make_trainer.h"

#include "base/schema.h"
#include "base/random.h"
#include "adapt/curriculum.h"
#include "adapt/make_source.h"
#include "train/source_helpers.h"

namespace infini {
namespace {

class CurriculumLengths : public SequenceLengths {
 public:
  explicit CurriculumLengths(std::shared_ptr<Curriculum> curriculum) : curriculum_(std::move(curriculum)) {}
  int segment() const override { return curriculum_->segment(); }
  int segments() const override { return curriculum_->segments(); }
  void observe(const Tally &seen) override {
    const bool whole = curriculum_->whole_answers();
    const int64_t right = whole ? seen.exact_across : seen.across_right,
                  all = whole ? seen.answers_across : seen.across;
    if (all > 0) curriculum_->observe(static_cast<double>(right) / static_cast<double>(all));
  }
  std::string save() const override { return curriculum_->save(); }
  void restore(const std::string &state) override { curriculum_->restore(state); }

 private:
  std::shared_ptr<Curriculum> curriculum_;
};

// Tokens drawn at random: what a benchmark reads.
class RandomSource : public SequenceSource {
 public:
  RandomSource(uint64_t seed, double share, int vocabulary) : random_(seed), share_(share), vocabulary_(vocabulary) {}
  Sequence next(int segment, int segments) override {
    Sequence s;
    const size_t size = static_cast<size_t>(sequence_size(segment, segments));
    for (size_t t = 0; t < size; ++t) {
      s.tokens.push_back(static_cast<int32_t>(draw_below(random_, static_cast<size_t>(vocabulary_))));
      s.weight.push_back(random_.uniform() < share_ ? 1.0f : 0.0f);
    }
    s.answer.assign(size, 0);
    return s;
  }
  std::string save() const override { return save_random(random_); }
  void restore(const std::string &state) override { restore_random(*parse_state(state), random_); }

 private:
  Random random_;
  const double share_;
  const int vocabulary_;
};

struct RandomSettings {
  std::string type = "random";
  uint64_t seed = 1;
  double share = 1;
  template <class Visitor>
  void fields(Visitor &v) {
    v("type", type, "random", "tokens at random, to measure speed; needs no tokenizer");
    v("seed", seed, 0, 0x1p63, "of what is drawn");
    v("share", share, 0, 1, "of the tokens that are predicted");
  }
};

std::unique_ptr<SequenceSource> make(const nlohmann::json &data, const Model &model,
                                     std::shared_ptr<const Curriculum> curriculum, TokenCache *cache, Task *task) {
  if (data.is_object() && data.contains("type") && is_text(data["type"], "random")) {
    const auto settings = read_settings<RandomSettings>(data, "data");
    return std::make_unique<RandomSource>(settings.seed, settings.share, model.config().vocabulary);
  }
  return source_of(data, model.tokenizer(), std::move(curriculum), cache, task);
}

}  // namespace

std::unique_ptr<SequenceSource> make_training_source(std::string_view data, const Model &model, TokenCache *cache,
                                                     Task *task) {
  return make(*parse_json(data, Status::INVALID_ARGUMENT, "the description of data"), model, nullptr, cache, task);
}

JsonText describe_trainer() {
  const auto part = [](const char *name) { return JsonObject().add("name", name).add("type", "object"); };
  const JsonObject sources = describe_sources().add("random", describe_settings<RandomSettings>());
  return JsonList()
      .add(part("training").add("fields", describe_settings<TrainConfig>()).add("help", "what is trained, and how"))
      .add(part("data")
               .add("types", sources)
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

std::unique_ptr<Trainer> make_trainer(std::shared_ptr<const Model> model, std::string_view description,
                                      const Options &options, TokenCache *cache, Task *task) {
  check_options(options);
  const auto json = parse_json(description, Status::INVALID_ARGUMENT, "the description of the training");
  Fields fields(*json, "trainer");
  const nlohmann::json *training = fields.find("training"), *data = fields.find("data"),
                       *curriculum = fields.find("curriculum");
  fields.finish();
  if (!data) fail(Status::INVALID_ARGUMENT, "trainer.data is missing: it says what is read");
  TrainConfig config = training ? read_settings<TrainConfig>(*training, "train") : TrainConfig();
  if (options.is_set("compute")) config.compute = options.get_string("compute");
  std::shared_ptr<Curriculum> course;
  std::unique_ptr<SequenceLengths> lengths;
  if (curriculum) {
    course = std::make_shared<Curriculum>(Curriculum::parse(*curriculum, "trainer.curriculum"));
    lengths = std::make_unique<CurriculumLengths>(course);
  }
  model->config();  // STATE where there is nothing to train
  std::unique_ptr<SequenceSource> source = make(*data, *model, course, cache, task);
  return std::make_unique<Trainer>(std::move(model), config, std::move(source), std::move(lengths),
                                   static_cast<int>(options.get_int("threads")), task);
}

}  // namespace infini
