#include "adapt/curriculum.h"

#include <algorithm>
#include <cmath>

#include "base/fields.h"
#include "base/status.h"
#include "train/source.h"

namespace infini {
namespace {

constexpr double kSmoothing = 0.05;  // weight of the newest recall
constexpr int64_t kEvery = 5;        // observations between two steps at least

}  // namespace

Curriculum::Curriculum(const Settings &settings) : settings_(settings), distance_(settings.distance) {
  if (settings.stages.empty()) fail(Status::INVALID_ARGUMENT, "a curriculum needs a stage");
}

Curriculum Curriculum::parse(const nlohmann::json &description, const std::string &where) {
  Fields fields(description, where);
  Settings s;
  s.threshold = fields.number("threshold", s.threshold, 0, 1);
  const std::string recall = fields.text("recall", "digits");
  if (recall != "digits" && recall != "answers") fields.refuse("recall", "digits or answers");
  s.whole_answers = recall == "answers";
  s.distance = fields.number("distance", s.distance, 1, 1e9);
  s.stretch = fields.number("stretch", s.stretch, 1.001, 1e9);
  s.fold = fields.number("fold", s.fold, 1, 1e12);
  s.fold_step = fields.number("fold_step", s.fold_step, 1e-3, 1e3);
  if (const nlohmann::json *stages = fields.find("stages")) {
    if (!stages->is_array() || stages->empty()) fields.refuse("stages", "a list of stages");
    s.stages.clear();
    for (const nlohmann::json &description_of_stage : *stages) {
      Fields stage(description_of_stage, cat(fields.path("stages"), "[", s.stages.size(), "]"));
      const int64_t segment = stage.whole("segment", 64, 1, 1 << 20),
                    segments = stage.whole("segments", 16, 1, 1 << 20);
      std::vector<double> density = stage.numbers("density", 2, 1e-6, 1000);
      if (density.empty()) density = {0.7, 12};
      if (density[0] > density[1]) stage.refuse("density", "the least, then the greatest");
      if (segment * segments > kLongestSequence)
        stage.refuse("segments", cat("fewer: a sequence holds up to ", kLongestSequence, " tokens"));
      stage.finish();
      s.stages.push_back({static_cast<int>(segment), static_cast<int>(segments), density[0], density[1]});
    }
  }
  fields.finish();
  return Curriculum(s);
}

Difficulty Curriculum::difficulty() const {
  const Stage &stage = settings_.stages[stage_];
  return {std::min(distance_, whole()), stage.density_least, stage.density_greatest, fold_};
}

bool Curriculum::complete() const {
  return stage_ + 1 == settings_.stages.size() && distance_ >= whole() && fold_ >= std::log(settings_.fold);
}

void Curriculum::observe(double recall) {
  if (!(recall >= 0 && recall <= 1)) fail(Status::INVALID_ARGUMENT, "a recall of ", recall, " is not between 0 and 1");
  recall_ += kSmoothing * (recall - recall_);
  if (++observed_ % kEvery != 0 || recall_ <= settings_.threshold || complete()) return;
  if (distance_ < whole()) {
    distance_ = std::min(distance_ * settings_.stretch, whole());
    recall_ -= 0.05;
  } else if (stage_ + 1 < settings_.stages.size()) {
    ++stage_;
    recall_ -= 0.15;
  } else {
    fold_ = std::min(fold_ + settings_.fold_step, std::log(settings_.fold));
    recall_ -= 0.05;
  }
}

std::string Curriculum::save() const {
  return nlohmann::json{
      {"stage", stage_}, {"distance", distance_}, {"fold", fold_}, {"recall", recall_}, {"observed", observed_}}
      .dump();
}

void Curriculum::restore(const std::string &state) try {
  const nlohmann::json json = parse_json(state, Status::INVALID_ARGUMENT, "state");
  Fields fields(json, "state");
  const auto stage = fields.whole("stage", -1, 0, static_cast<int64_t>(settings_.stages.size()) - 1);
  const double distance = fields.number("distance", -1, 1, 1e300);
  const double fold = fields.number("fold", -1, 0, std::log(settings_.fold));
  const double recall = fields.number("recall", -2, -1, 1);
  const int64_t observed = fields.whole("observed", -1, 0, int64_t{1} << 50);
  fields.finish();
  if (stage < 0 || distance < 0 || fold < 0 || recall < -1 || observed < 0) fail(Status::FORMAT, "a field is missing");
  stage_ = static_cast<size_t>(stage);
  distance_ = distance;
  fold_ = fold;
  recall_ = recall;
  observed_ = observed;
} catch (const Error &error) { fail(Status::FORMAT, "the curriculum's ", error.what()); }

}  // namespace infini
