#include <algorithm>

#include "adapt.h"
#include "input.h"

namespace cli {
namespace {

// Mean -ln p over the beginning of the held-out text, read as one stream.
Json held_out_nll(const infini_model *model, const infini_options *options, const AdaptSettings &settings) {
  if (settings.held_out.empty()) return nullptr;
  const Session session = make<Session>(infini_session_create, model, options);
  Progress progress("scoring", settings.held_out_tokens);
  double total = 0;
  int64_t scored = 0;
  Input(settings.held_out).read(false, false, [&](std::string_view piece) {
    std::vector<int32_t> tokens = tokens_of(model, piece, scored == 0);
    tokens.resize(std::min(tokens.size(), static_cast<size_t>(settings.held_out_tokens - scored)));
    std::vector<float> nll(tokens.size());
    check(infini_session_score(session.get(), tokens.data(), tokens.size(), progress.task(), nll.data(), nll.size()));
    progress.add_done(static_cast<int64_t>(tokens.size()));
    for (const float value : nll)
      if (value == value) total += static_cast<double>(value), ++scored;  // the first has nothing before it
    return scored + 1 < settings.held_out_tokens;
  });
  if (scored == 0) throw std::runtime_error(settings.held_out + " holds no token that has another before it");
  return total / static_cast<double>(scored);
}

int64_t segments_for(int64_t tokens, int64_t segment) { return (tokens + segment - 1) / segment; }

}  // namespace

Json measure_adapted(const infini_model *model, const OptionFlags &flags, const AdaptSettings &settings,
                     bool with_recall) {
  Json out = {{"nll", held_out_nll(model, flags.session_options().get(), settings)}, {"recall", Json::array()}};
  if (!with_recall) return out;
  // A trainer that only reads.
  const Json description = {
      {"training",
       {{"segment", settings.segment}, {"carry", settings.carry}, {"sinks", settings.sinks}, {"train", "gates"}}},
      {"data", {{"type", "random"}}}};
  const Trainer trainer = make<Trainer>(infini_trainer_create, model, json_text(description, "a path").c_str(),
                                        flags.model_options().get());
  const std::vector<std::string> prose(settings.held_out.empty() ? 0 : 1, settings.held_out);
  for (const int64_t borders : settings.borders) {
    double right = 0, answers = 0;
    for (const int64_t names : {1, 4, 12}) {
      constexpr int64_t kFact = 32, kQuestion = 20;  // tokens, at most
      const int64_t questions = std::min<int64_t>(names, 4);
      // Facts at the beginning, questions at the end; between them so many borders at least.
      const int64_t segments = borders + segments_for(names * kFact, settings.segment) +
                               segments_for(questions * kQuestion, settings.segment) - 1;
      const Json data = {{"type", "passkey"}, {"keys", names},  {"questions", questions},
                         {"depth", {0, 0}},   {"prose", prose}, {"seed", 1000 + borders}};
      Progress progress(format("recall over %lld borders", static_cast<long long>(borders)));
      const infini_status status = infini_trainer_evaluate(trainer.get(), json_text(data, "a path").c_str(),
                                                           static_cast<int>(settings.evaluate_sequences),
                                                           static_cast<int>(segments), progress.task());
      if (status == INFINI_INVALID_ARGUMENT && names > 1) break;  // the vocabulary has fewer names
      check(status);
      const Json seen = Json::parse(all_of(infini_trainer_evaluation, trainer.get()));
      answers += seen["answers_across"].get<double>();
      if (seen["recall_across"].is_number())
        right += seen["recall_across"].get<double>() * seen["answers_across"].get<double>();
    }
    out["recall"].push_back(answers > 0 ? Json(right / answers) : Json());
  }
  return out;
}

}  // namespace cli
