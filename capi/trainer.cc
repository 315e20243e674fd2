// Trainers.
#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "adapt/fit_heads.h"
#include "adapt/head_search.h"
#include "adapt/make_trainer.h"
#include "guard.h"

using namespace infini;
using namespace infini::capi;
using Json = nlohmann::ordered_json;

struct infini_trainer {
  std::unique_ptr<Trainer> value;
  ProseShelf prose;
  std::string report = "{}", evaluation = "{}", heads = "{}";  // JSON of the last ones
};

namespace {

Trainer &trainer_of(infini_trainer *trainer) { return *need(trainer, "trainer").value; }
const Trainer &trainer_of(const infini_trainer *trainer) { return *need(trainer, "trainer").value; }

Json share(int64_t right, int64_t all) {
  return all > 0 ? Json(static_cast<double>(right) / static_cast<double>(all)) : Json();
}
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(); }

Json mean(const Supervised &s) { return s.count > 0 ? Json(s.share / static_cast<double>(s.count)) : Json(); }

Json tally_json(const Tally &tally) {
  return {{"loss", tally.weight > 0 ? number(tally.loss / tally.weight) : Json()},
          {"predictions", tally.predictions},
          {"recall_across", share(tally.across_right, tally.across)},
          {"answers_across", tally.across},
          {"exact_across", share(tally.exact_across, tally.answers_across)},
          {"recall_inside", share(tally.inside_right, tally.inside)},
          {"answers_inside", tally.inside},
          {"exact_inside", share(tally.exact_inside, tally.answers_inside)},
          {"source_share", mean(tally.supervision.retrieval)},
          {"subject_share", mean(tally.supervision.local)}};
}

std::string report_json(const Trainer &trainer, const StepReport &report) {
  Json json = {{"step", report.step}, {"tokens", trainer.tokens()}};
  json.update(tally_json(report.tally));
  json.update({{"supervision", report.tally.supervision.retrieval.loss + report.tally.supervision.local.loss},
               {"gradient_norm", number(report.gradient_norm)},
               {"rate_factor", report.rate_factor},
               {"segment", trainer.lessons().segment()},
               {"segments", trainer.lessons().segments()},
               {"seconds", report.seconds},
               {"tokens_per_second", static_cast<double>(report.tokens) / report.seconds}});
  return json.dump();
}

std::string heads_json(const HeadSearch &found, int segment, int segments, int sequences) {
  Json heads = Json::array();
  const auto width = static_cast<size_t>(found.heads);
  for (const size_t i : found.order())
    heads.push_back({{"layer", i / width},
                     {"head", i % width},
                     {"weight", found.value_weight[i]},
                     {"name_weight", found.name_weight[i]}});
  const Json json = {{"heads", heads},        {"answers", found.lookups}, {"recall", share(found.right, found.lookups)},
                     {"segment", segment},    {"segments", segments},     {"sequences", sequences},
                     {"tokens", found.tokens}};
  return json.dump();
}

TensorType type_of(const char *type) {
  const std::string name = type;
  if (name == "f32") return TensorType::F32;
  if (name == "f16") return TensorType::F16;
  if (name == "bf16") return TensorType::BF16;
  fail(Status::INVALID_ARGUMENT, "type is '", name, "', but must be one of f32, f16, bf16");
}

// What a call that only reads is given.
struct Reading {
  Reading(infini_trainer *trainer, const char *data_json, int sequences, int given) {
    const Trainer &value = trainer_of(trainer);
    if (sequences < 1 || given < 0) fail(Status::INVALID_ARGUMENT, "sequences is ", sequences, ", segments is ", given);
    need(data_json, "data_json");
    segment = value.lessons().segment();
    segments = given > 0 ? given : value.lessons().segments();
  }
  int segment, segments;
};

}  // namespace

extern "C" {

infini_status infini_trainer_create(const infini_model *model, const char *description_json,
                                    const infini_options *options, infini_trainer **trainer) {
  return give_handle(trainer, "trainer", [&] {
    const auto &value = need(model, "model").value;
    infini_trainer made;
    made.value = make_trainer(value, &need(description_json, "description_json"), for_model(options), &made.prose);
    return made;
  });
}

void infini_trainer_free(infini_trainer *trainer) { delete trainer; }

infini_status infini_trainer_set_ranks(infini_trainer *trainer, int rank, int ranks, infini_sum_callback callback,
                                       void *user_data) {
  return guard([&] { trainer_of(trainer).set_ranks(Ranks(rank, ranks, callback, user_data)); });
}

infini_status infini_trainer_step(infini_trainer *trainer, infini_task *task) {
  return guard([&] {
    Trainer &value = trainer_of(trainer);
    Task *const watched = of(task);
    if (watched) watched->begin("train", 1);
    trainer->report = report_json(value, value.step(watched));
    if (watched) watched->advance_to(1);
  });
}

infini_status infini_trainer_run(infini_trainer *trainer, int64_t steps, infini_task *task) {
  return guard([&] {
    Trainer &value = trainer_of(trainer);
    if (steps < 0) fail(Status::INVALID_ARGUMENT, "steps is ", steps);
    Task *const watched = of(task);
    if (watched) watched->begin("train", steps);
    for (int64_t i = 0; i < steps; ++i) {
      trainer->report = report_json(value, value.step(watched));
      if (watched) watched->advance_to(i + 1);
    }
  });
}

infini_status infini_trainer_report(const infini_trainer *trainer, char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(need(trainer, "trainer").report, buffer, capacity, size); });
}

infini_status infini_trainer_evaluate(infini_trainer *trainer, const char *data_json, int sequences, int segments,
                                      infini_task *task) {
  return guard([&] {
    const Reading reading(trainer, data_json, sequences, segments);
    std::unique_ptr<SequenceSource> source;
    const auto open = [&]() -> SequenceSource & {
      return *(source = make_training_source(data_json, trainer->value->model(), &trainer->prose));
    };
    Json json = tally_json(trainer->value->evaluate(open, sequences, reading.segment, reading.segments, of(task)));
    json.update({{"segment", reading.segment}, {"segments", reading.segments}, {"sequences", sequences}});
    trainer->evaluation = json.dump();
  });
}

infini_status infini_trainer_evaluation(const infini_trainer *trainer, char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(need(trainer, "trainer").evaluation, buffer, capacity, size); });
}

infini_status infini_trainer_find_heads(infini_trainer *trainer, const char *data_json, int sequences, int segments,
                                        infini_task *task) {
  return guard([&] {
    const Reading reading(trainer, data_json, sequences, segments);
    const auto source = make_training_source(data_json, trainer->value->model(), &trainer->prose);
    const HeadSearch found =
        find_heads(*trainer->value, *source, sequences, reading.segment, reading.segments, of(task));
    trainer->heads = heads_json(found, reading.segment, reading.segments, sequences);
  });
}

infini_status infini_trainer_fit_heads(infini_trainer *trainer, double nats, infini_task *task) {
  return guard([&] {
    Trainer &value = trainer_of(trainer);
    if (!(nats > 0 && nats <= 1e6))
      fail(Status::INVALID_ARGUMENT, "nats is ", nats, ", but must be above 0 and at most 1,000,000");
    fit_heads(value, nats, of(task));
  });
}

infini_status infini_trainer_heads(const infini_trainer *trainer, char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(need(trainer, "trainer").heads, buffer, capacity, size); });
}

infini_status infini_trainer_info_json(const infini_trainer *trainer, char *buffer, size_t capacity, size_t *size) {
  return guard([&] {
    const Trainer &value = trainer_of(trainer);
    const Config &config = value.model().config();
    Json gates = Json::array();
    const std::vector<float> beta = value.gates();
    for (int l = 0; l < config.layers; ++l) {
      gates.push_back(Json::array());
      for (int h = 0; h < config.heads; ++h)
        gates.back().push_back(1 /
                               (1 + std::exp(-static_cast<double>(beta[static_cast<size_t>(l * config.heads + h)]))));
    }
    const Json json = {{"steps", value.steps()},
                       {"tokens", value.tokens()},
                       {"parameters", value.model().parameters()},
                       {"trained_parameters", value.trained_parameters()},
                       {"compute", value.compute() == NumberType::F32 ? "f32" : "bf16"},
                       {"bytes", value.bytes()},
                       {"segment", value.lessons().segment()},
                       {"segments", value.lessons().segments()},
                       {"rank", value.ranks().rank()},
                       {"ranks", value.ranks().count()},
                       {"gates", gates},
                       {"training", Json::parse(describe(value.config()))}};
    give_text(json.dump(), buffer, capacity, size);
  });
}

infini_status infini_trainer_save(const infini_trainer *trainer, const char *path) {
  return guard([&] { trainer_of(trainer).save(&need(path, "path")); });
}

infini_status infini_trainer_restore(infini_trainer *trainer, const char *path) {
  return guard([&] { trainer_of(trainer).restore(&need(path, "path")); });
}

infini_status infini_trainer_write(const infini_trainer *trainer, const char *path, const char *type) {
  return guard([&] { trainer_of(trainer).write(&need(path, "path"), type_of(&need(type, "type"))); });
}

infini_status infini_trainer_write_adapter(const infini_trainer *trainer, const char *path) {
  return guard([&] { trainer_of(trainer).write_adapter(&need(path, "path")); });
}

}  // extern "C"
