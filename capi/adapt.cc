// Adaptations.
#include "adapt/adaptation.h"
#include "base/schema.h"
#include "guard.h"

using namespace infini;
using namespace infini::capi;

struct infini_adaptation {
  std::unique_ptr<Adaptation> value;
};

namespace {

Adaptation &adaptation_of(infini_adaptation *adaptation) { return *need(adaptation, "adaptation").value; }
const Adaptation &adaptation_of(const infini_adaptation *adaptation) { return *need(adaptation, "adaptation").value; }

}  // namespace

extern "C" {

infini_status infini_adaptation_create(const char *path, const char *settings_json, const infini_options *options,
                                       infini_task *task, infini_adaptation **adaptation) {
  return give_handle(adaptation, "adaptation", [&] {
    return infini_adaptation{std::make_unique<Adaptation>(
        &need(path, "path"), parse_settings<AdaptSettings>(&need(settings_json, "settings_json"), "adapt"),
        options_for(OptionTaker::MODEL, options), of(task))};
  });
}

void infini_adaptation_free(infini_adaptation *adaptation) { delete adaptation; }

infini_status infini_adaptation_settings_json(char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(describe_settings<AdaptSettings>().text, buffer, capacity, size); });
}

infini_status infini_adaptation_step(infini_adaptation *adaptation, infini_task *task) {
  return guard([&] { return adaptation_of(adaptation).step(of(task)) ? INFINI_OK : INFINI_END; });
}

infini_status infini_adaptation_run(infini_adaptation *adaptation, infini_task *task) {
  return guard([&] { adaptation_of(adaptation).run(of(task)); });
}

infini_status infini_adaptation_report_json(const infini_adaptation *adaptation, char *buffer, size_t capacity,
                                            size_t *size) {
  return guard([&] { give_text(adaptation_of(adaptation).report().text, buffer, capacity, size); });
}

infini_status infini_adaptation_info_json(const infini_adaptation *adaptation, char *buffer, size_t capacity,
                                          size_t *size) {
  return guard([&] { give_text(adaptation_of(adaptation).info().text(), buffer, capacity, size); });
}

infini_status infini_adaptation_save(infini_adaptation *adaptation, infini_task *task) {
  return guard([&] { adaptation_of(adaptation).save(of(task)); });
}

infini_status infini_adaptation_discard(infini_adaptation *adaptation) {
  return guard([&] { adaptation_of(adaptation).discard(); });
}

infini_status infini_adaptation_write(const infini_adaptation *adaptation, const char *path, infini_task *task) {
  return guard([&] { adaptation_of(adaptation).write(&need(path, "path"), of(task)); });
}

}  // extern "C"
