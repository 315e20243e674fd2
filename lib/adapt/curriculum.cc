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

Curriculum::Curriculum(const Settings &settings) : settings_(settings) {
  state_.distance = settings.distance;
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
  const Stage &stage = settings_.stages[state_.stage];
  return {std::min(state_.distance, whole()), stage.density_least, stage.density_greatest, state_.log_repeat};
}

bool Curriculum::complete() const {
  return state_.stage + 1 == settings_.stages.size() && state_.distance >= whole() &&
         state_.log_repeat >= std::log(settings_.virtual_length);
}

void Curriculum::observe(double recall) {
  if (!(recall >= 0 && recall <= 1)) fail(Status::INVALID_ARGUMENT, "a recall of ", recall, " is not between 0 and 1");
  state_.recall += kSmoothing * (recall - state_.recall);
  if (++state_.observed % kEvery != 0 || state_.recall <= settings_.threshold || complete()) return;
  if (state_.distance < whole()) {
    state_.distance = std::min(state_.distance * settings_.stretch, whole());
    state_.recall -= 0.05;
  } else if (state_.stage + 1 < settings_.stages.size()) {
    ++state_.stage;
    state_.recall -= 0.15;
  } else {
    state_.log_repeat = std::min(state_.log_repeat + settings_.virtual_length_step, std::log(settings_.virtual_length));
    state_.recall -= 0.05;
  }
}

void Curriculum::observe(const Tally &seen) {
  const int64_t right = whole_answers() ? seen.exact_across : seen.across_right,
                all = whole_answers() ? seen.answers_across : seen.across;
  if (all > 0) observe(static_cast<double>(right) / static_cast<double>(all));
}

std::string Curriculum::save() const { return settings_json(state_).text(); }

void Curriculum::restore(const std::string &state) try {
  const auto read = parse_settings<State>(state, "state");
  if (read.stage >= settings_.stages.size() || read.log_repeat > std::log(settings_.virtual_length))
    fail(Status::FORMAT, "state is of another curriculum");
  state_ = read;
} catch (const Error &error) { fail(Status::FORMAT, "the curriculum's ", error.what()); }

}  // namespace infini
