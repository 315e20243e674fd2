// Trainers.
#include "adapt/fit_heads.h"
#include "adapt/head_search.h"
#include "adapt/make_source.h"
#include "adapt/make_trainer.h"
#include "guard.h"
#include "train/report.h"

using namespace infini;
using namespace infini::capi;

struct infini_trainer {
  std::unique_ptr<RecallTrainer> value;
  TokenCache prose;
  std::string report = "{}";  // of the last step, as JSON
};

namespace {

RecallTrainer &trainer_of(infini_trainer *trainer) { return *need(trainer, "trainer").value; }
const RecallTrainer &trainer_of(const infini_trainer *trainer) { return *need(trainer, "trainer").value; }

}  // namespace

extern "C" {

infini_status infini_trainer_settings_json(char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(describe_trainer().text, buffer, capacity, size); });
}

infini_status infini_trainer_create(const infini_model *model, const char *description_json,
                                    const infini_options *options, infini_task *task, infini_trainer **trainer) {
  return give_handle(trainer, "trainer", [&] {
    const auto &value = need(model, "model").value;
    infini_trainer made;
    made.value = make_trainer(value, &need(description_json, "description_json"),
                              options_for(OptionTaker::TRAINER, options), &made.prose, of(task));
    return made;
  });
}

void infini_trainer_free(infini_trainer *trainer) { delete trainer; }

infini_status infini_trainer_set_ranks(infini_trainer *trainer, int rank, int ranks, infini_sum_callback callback,
                                       void *user_data) {
  return guard([&] { trainer_of(trainer).set_ranks(Ranks(rank, ranks, callback, user_data)); });
}

infini_status infini_trainer_step(infini_trainer *trainer, infini_task *task) {
  return infini_trainer_run(trainer, 1, task);
}

infini_status infini_trainer_run(infini_trainer *trainer, int64_t steps, infini_task *task) {
  return guard([&] {
    Trainer &value = trainer_of(trainer);  // refuses NULL before `report` is looked at
    train(value, steps, of(task), trainer->report);
  });
}

infini_status infini_trainer_report_json(const infini_trainer *trainer, char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(need(trainer, "trainer").report, buffer, capacity, size); });
}

infini_status infini_trainer_evaluate_json(infini_trainer *trainer, const char *data_json, int sequences, int segments,
                                           infini_task *task, char *buffer, size_t capacity, size_t *size) {
  return guard([&] {
    const Reading reading(trainer_of(trainer), sequences, segments);
    need(data_json, "data_json");
    if (!need_work(kMeasuredJson, buffer, capacity, size)) return;
    std::unique_ptr<SequenceSource> source;
    const auto open = [&]() -> SequenceSource & {
      return *(source = make_source(data_json, trainer->value->model(), &trainer->prose, of(task)));
    };
    const Tally tally = trainer->value->evaluate(open, sequences, reading.segment, reading.segments, of(task));
    give_text(describe(tally).add(reading.json()).text(), buffer, capacity, size);
  });
}

infini_status infini_trainer_find_heads_json(infini_trainer *trainer, const char *data_json, int sequences,
                                             int segments, infini_task *task, char *buffer, size_t capacity,
                                             size_t *size) {
  return guard([&] {
    const Reading reading(trainer_of(trainer), sequences, segments);
    need(data_json, "data_json");
    if (!need_work(most_heads_json(trainer->value->model().config()), buffer, capacity, size)) return;
    const auto source = make_source(data_json, trainer->value->model(), &trainer->prose, of(task));
    const HeadSearch found =
        find_heads(*trainer->value, *source, sequences, reading.segment, reading.segments, of(task));
    give_text(describe(found, reading).text(), buffer, capacity, size);
  });
}

infini_status infini_trainer_fit_heads(infini_trainer *trainer, double nats, infini_task *task) {
  return guard([&] { fit_heads(trainer_of(trainer), nats, of(task)); });
}

infini_status infini_trainer_info_json(const infini_trainer *trainer, char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(describe(trainer_of(trainer)).text(), buffer, capacity, size); });
}

infini_status infini_trainer_save(const infini_trainer *trainer, const char *path, infini_task *task) {
  return guard([&] { trainer_of(trainer).save(&need(path, "path"), of(task)); });
}

infini_status infini_trainer_restore(infini_trainer *trainer, const char *path, infini_task *task) {
  return guard([&] { trainer_of(trainer).restore(&need(path, "path"), of(task)); });
}

infini_status infini_trainer_write(const infini_trainer *trainer, const char *path, const char *type,
                                   infini_task *task) {
  return guard([&] { trainer_of(trainer).write(&need(path, "path"), tensor_type(&need(type, "type")), of(task)); });
}

infini_status infini_trainer_write_adapter(const infini_trainer *trainer, const char *path, infini_task *task) {
  return guard([&] { trainer_of(trainer).write_adapter(&need(path, "path"), of(task)); });
}

}  // extern "C"
