/* Memory that ends in any allocation of a call: the call says so, or has happened. Nothing aborts, nothing leaks. (What
   sessions do when they read is tests/unit/exhaustion_test.cc's.) */
#include <functional>
#include <utility>

#include "../unit/allocations.h"
#include "check.h"

namespace {

char text[1 << 16];
size_t text_size;

constexpr const char *kMessages =
    R"([{"role": "user", "content": "Hi", "id": [1, {"a": 2.5}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes"}, {"type": "text", "text": "?"}]},
        {"role": "user", "content": null}])";
#define SHAPE R"("layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "hidden": 48, "vocabulary": 96})"
constexpr const char *kTraining = R"({"training": {"train": "gates"}, "data": {"type": "mixture", "sources": [
    {"source": {"type": "recall", "prose": [")" GOLDEN R"("]}}, {"ratio": 0.5, "source": {"type": "passkey"}}]}})";

/* Whether the call came so far as to ask for memory for the n-th time. */
bool fails_at(long n, const std::function<infini_status()> &call) {
  test::allocations_left = n;
  const infini_status status = call();
  const bool reached = test::allocations_left < 0;
  test::allocations_left = -1;
  CHECK(reached || status != INFINI_OUT_OF_MEMORY);
  return reached;
}

}  // namespace

int main() {
  const char *const path = "capi_exhaustion_test_chat.gguf";
  write_chatty_model(path);
  infini_options *options = nullptr, *ours = nullptr;
  infini_model *model = nullptr;
  infini_trainer *trainer = nullptr;
  CHECK_OK(infini_options_create(&options));
  CHECK_OK(infini_options_set_int(options, "threads", 1));
  // oneDNN 2.7 itself reads what it has freed, once memory has ended within it.
  CHECK_OK(infini_options_create(&ours));
  CHECK_OK(infini_options_set_int(ours, "threads", 1));
  CHECK_OK(infini_options_set_string(ours, "gemm", "native"));
  CHECK_OK(infini_options_set_string(ours, "compute", "f32"));
  CHECK_OK(infini_model_open(path, ours, nullptr, &model));
  infini_options_free(ours);
  CHECK_OK(infini_trainer_create(model, kTraining, options, nullptr, &trainer));
  infini_session *const session = new_session(model, 7);
  CHECK_OK(infini_session_feed_text(session, "Once upon a time", 16, nullptr));

  const auto open = [&] {
    infini_model *it = nullptr;
    const infini_status status = infini_model_open(path, options, nullptr, &it);
    infini_model_free(it);
    return status;
  };
  const auto create = [&](const char *config) {
    infini_model *it = nullptr;
    const infini_status status = infini_model_create(config, options, nullptr, &it);
    infini_model_free(it);
    return status;
  };
  const std::pair<const char *, std::function<infini_status()>> calls[] =
      {
          {"open", open},
          {"create", [&] { return create(R"({"gate": "-inf", )" SHAPE); }},
          {"create wrongly", [&] { return create(R"({"deep": [1, {"a": [2]}], )" SHAPE); }},
          {"model facts", [&] { return infini_model_info_json(model, text, sizeof text, &text_size); }},
          {"one fact", [&] { return infini_model_info(model, "architecture", text, sizeof text, &text_size); }},
          {"footprint", [&] { return infini_model_footprint_json(model, 1000, text, sizeof text, &text_size); }},
          {"options", [&] { return infini_options_json(text, sizeof text, &text_size); }},
          {"settings of training", [&] { return infini_trainer_settings_json(text, sizeof text, &text_size); }},
          {"settings of adaptation", [&] { return infini_adaptation_settings_json(text, sizeof text, &text_size); }},
          {"session facts", [&] { return infini_session_info_json(session, text, sizeof text, &text_size); }},
          {"messages", [&] { return infini_model_apply_chat(model, kMessages, 0, text, sizeof text, &text_size); }},
          {"other messages",
           [&] {
    return infini_model_apply_chat(model, R"([{"role": "user", "content": [{"type": "image", "url": ["x"]}]}])", 0,
                                   text, sizeof text, &text_size);
           }},
          {"chat",
           [&] {
    const infini_status status = infini_session_chat(session, kMessages, nullptr);
    CHECK_OK(infini_session_reset(session));
    return status;
           }},
                                                                {"trainer",
                                                                 [&] {
    infini_trainer *it = nullptr;
    const infini_status status = infini_trainer_create(model, kTraining, options, nullptr, &it);
    infini_trainer_free(it);
    return status;
                                                                 }},
      {"trainer facts", [&] { return infini_trainer_info_json(trainer, text, sizeof text, &text_size); }},
      };
  for (const auto &[name, call] : calls) {
    long n = 0;
    while (fails_at(n, call) && n < 100000) ++n;
    printf("%s: %ld allocations\n", name, n);
    CHECK(n > 5 && n < 100000);
  }
  infini_session_free(session);
  infini_trainer_free(trainer);
  infini_options_free(options);
  infini_model_free(model);
  remove(path);
  return check_failures > 0;
}
