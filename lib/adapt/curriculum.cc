#include "adapt/curriculum.h"

#include <algorithm>
#include <cmath>

#include "base/schema.h"
#include "base/status.h"
#include "train/source_helpers.h"

namespace infini {
namespace {

constexpr double kSmoothing = 0.05;  // weight of the newest recall in the moving average
constexpr int64_t kEvery = 5;        // sequences become harder after so many observations at the earliest

}  // namespace

Curriculum::Curriculum(const Settings &settings) : settings_(settings), distance_(settings.distance) {
  if (settings.stages.empty()) fail(Status::INVALID_ARGUMENT, "a curriculum needs a stage");
}

void Curriculum::Stage::complete(const Fields &given) {
  if (density_least > density_greatest) given.refuse("density", "the least, then the greatest");
  if (segment > kLongestSequence / segments)
    given.refuse("segments", cat("fewer: a sequence holds up to ", kLongestSequence, " tokens"));
}

void Curriculum::Settings::complete(const Fields &given) {
  if (stages.empty()) given.refuse("stages", "a list with a stage at least");
}

Difficulty Curriculum::difficulty() const {
  const Stage &stage = settings_.stages[stage_];
  return {std::min(distance_, whole()), stage.density_least, stage.density_greatest, log_repeat_};
}

bool Curriculum::complete() const {
  return stage_ + 1 == settings_.stages.size() && distance_ >= whole() &&
         log_repeat_ >= std::log(settings_.virtual_length);
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
    log_repeat_ = std::min(log_repeat_ + settings_.virtual_length_step, std::log(settings_.virtual_length));
    recall_ -= 0.05;
  }
}

void Curriculum::observe(const Tally &seen) {
  const int64_t right = whole_answers() ? seen.exact_across : seen.across_right,
                all = whole_answers() ? seen.answers_across : seen.across;
  if (all > 0) observe(static_cast<double>(right) / static_cast<double>(all));
}

std::string Curriculum::save() const {
  return JsonObject()
      .add("stage", stage_)
      .add("distance", distance_)
      .add("fold", log_repeat_)
      .add("recall", recall_)
      .add("observed", observed_)
      .text();
}

void Curriculum::restore(const std::string &state) try {
  const auto json = parse_json(state, Status::INVALID_ARGUMENT, "state");
  Fields fields(*json, "state");
  const auto stage = fields.whole("stage", -1, 0, static_cast<int64_t>(settings_.stages.size()) - 1);
  const double distance = fields.number("distance", -1, 1, 1e300);
  const double log_repeat = fields.number("fold", -1, 0, std::log(settings_.virtual_length));
  const double recall = fields.number("recall", -2, -1, 1);
  const int64_t observed = fields.whole("observed", -1, 0, int64_t{1} << 50);
  fields.finish();
  if (stage < 0 || distance < 0 || log_repeat < 0 || recall < -1 || observed < 0)
    fail(Status::FORMAT, "a field is missing");
  stage_ = static_cast<size_t>(stage);
  distance_ = distance;
  log_repeat_ = log_repeat;
  recall_ = recall;
  observed_ = observed;
} catch (const Error &error) { fail(Status::FORMAT, "the curriculum's ", error.what()); }

}  // namespace infini
