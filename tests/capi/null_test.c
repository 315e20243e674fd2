/* Every function answers NULL: INVALID_ARGUMENT with a message, or nothing at all for the ones that free.
   symbols.sh checks that none is missing here. */
#include "check.h"

#define CHECK_NULL(call, name) CHECK_ERROR(call, INFINI_INVALID_ARGUMENT, name " is NULL")

static int stop(void *user_data, const char *text, size_t text_size) {
  (void)user_data, (void)text, (void)text_size;
  return 1;
}

static void check_free(void) {
  infini_options_free(NULL);
  infini_task_free(NULL);
  infini_model_free(NULL);
  infini_session_free(NULL);
  infini_text_stream_free(NULL);
}

static void check_options_and_tasks(void) {
  int64_t number = 0;
  double real = 0;
  CHECK_NULL(infini_options_create(NULL), "options");
  CHECK_NULL(infini_options_set_int(NULL, "threads", 1), "options");
  CHECK_NULL(infini_options_set_double(NULL, "temperature", 1), "options");
  CHECK_NULL(infini_options_set_string(NULL, "compute", "f32"), "options");
  CHECK_NULL(infini_options_get_int(NULL, "threads", &number), "options");
  CHECK_NULL(infini_options_get_double(NULL, "temperature", &real), "options");
  CHECK_NULL(infini_options_get_string(NULL, "compute", NULL, 0, NULL), "options");
  CHECK_OK(infini_options_json(NULL, 0, NULL));

  infini_options *options = NULL;
  CHECK_OK(infini_options_create(&options));
  CHECK_NULL(infini_options_set_int(options, NULL, 1), "name");
  CHECK_NULL(infini_options_set_double(options, NULL, 1), "name");
  CHECK_NULL(infini_options_set_string(options, NULL, "f32"), "name");
  CHECK_NULL(infini_options_set_string(options, "compute", NULL), "value");
  CHECK_NULL(infini_options_get_int(options, NULL, &number), "name");
  CHECK_NULL(infini_options_get_int(options, "threads", NULL), "value");
  CHECK_NULL(infini_options_get_double(options, "temperature", NULL), "value");
  CHECK_NULL(infini_options_get_string(options, NULL, NULL, 0, NULL), "name");
  CHECK_NULL(infini_options_get_string(options, "compute", NULL, 8, NULL), "buffer");
  infini_options_free(options);

  CHECK_NULL(infini_task_create(NULL), "task");
  CHECK_NULL(infini_task_cancel(NULL), "task");
  CHECK_NULL(infini_task_done(NULL, &number), "task");
  CHECK_NULL(infini_task_total(NULL, &number), "task");
  CHECK_NULL(infini_task_stage(NULL, NULL, 0, NULL), "task");
  CHECK_NULL(infini_task_set_progress(NULL, NULL, NULL), "task");
  infini_task *task = NULL;
  CHECK_OK(infini_task_create(&task));
  CHECK_NULL(infini_task_done(task, NULL), "done");
  CHECK_NULL(infini_task_total(task, NULL), "total");
  infini_task_free(task);
}

static void check_log_and_streams(void) {
  CHECK_OK(infini_log_set_callback(NULL, NULL));
  CHECK_NULL(infini_log_next(NULL, NULL, 8, NULL), "buffer");
  CHECK_NULL(infini_text_stream_create(NULL), "stream");
  CHECK_NULL(infini_text_stream_push(NULL, "a", 1), "stream");
  CHECK_NULL(infini_text_stream_finish(NULL), "stream");
  CHECK_NULL(infini_text_stream_next(NULL, NULL, 0, NULL), "stream");
  infini_text_stream *stream = NULL;
  CHECK_OK(infini_text_stream_create(&stream));
  CHECK_NULL(infini_text_stream_push(stream, NULL, 1), "text");
  CHECK_OK(infini_text_stream_push(stream, NULL, 0));
  infini_text_stream_free(stream);
}

static void check_models(void) {
  infini_model *model = (infini_model *)&check_failures; /* anything but NULL */
  size_t size = 0;
  int answer = 0;
  int32_t token = 0;
  CHECK_NULL(infini_model_open(NULL, NULL, NULL, &model), "path");
  CHECK(model == NULL);
  CHECK_NULL(infini_model_open(STORIES, NULL, NULL, NULL), "model");
  CHECK_NULL(infini_model_create(NULL, NULL, NULL, NULL), "model");
  CHECK_NULL(infini_model_save(NULL, "unused.gguf", NULL), "model");
  CHECK_NULL(infini_model_quantize(NULL, "unused.gguf", "q8_0", NULL, NULL), "from");
  CHECK_NULL(infini_model_quantize("unused.gguf", NULL, "q8_0", NULL, NULL), "to");
  CHECK_NULL(infini_model_quantize("unused.gguf", "unused.gguf", NULL, NULL, NULL), "type");
  CHECK_NULL(infini_model_vocabulary(NULL, &size), "model");
  CHECK_NULL(infini_model_width(NULL, &size), "model");
  CHECK_NULL(infini_model_tokenize(NULL, "a", 1, INFINI_TOKENS_START, NULL, 0, &size), "model");
  CHECK_NULL(infini_model_token_count(NULL, "a", 1, INFINI_TOKENS_START, &size), "model");
  CHECK_NULL(infini_model_detokenize(NULL, &token, 1, INFINI_TOKENS_START, NULL, 0, &size), "model");
  CHECK_NULL(infini_model_token_is_end(NULL, 0, &answer), "model");
  CHECK_NULL(infini_model_token_is_control(NULL, 0, &answer), "model");
  CHECK_NULL(infini_model_bos(NULL, &token), "model");
  CHECK_NULL(infini_model_eos(NULL, &token), "model");
  CHECK_NULL(infini_model_apply_chat(NULL, "[]", INFINI_CHAT_FIRST | INFINI_CHAT_REPLY, NULL, 0, &size), "model");
  CHECK_NULL(infini_model_chat_tokens(NULL, "[]", INFINI_CHAT_FIRST | INFINI_CHAT_REPLY, NULL, 0, &size), "model");
  CHECK_NULL(infini_model_chat_turn_end(NULL, NULL, 0, &size), "model");
  CHECK_NULL(infini_model_info(NULL, "layers", NULL, 0, &size), "model");
  CHECK_NULL(infini_model_info_json(NULL, NULL, 0, &size), "model");
  CHECK_NULL(infini_model_footprint_json(NULL, 1000, NULL, 0, &size), "model");
  CHECK_OK(infini_paper_footprint_json(1000, NULL, 0, NULL));

  model = open_model(STORIES, "f32");
  CHECK_NULL(infini_model_save(model, NULL, NULL), "path");
  CHECK_NULL(infini_model_vocabulary(model, NULL), "size");
  CHECK_NULL(infini_model_width(model, NULL), "size");
  CHECK_NULL(infini_model_tokenize(model, NULL, 1, INFINI_TOKENS_START, NULL, 0, &size), "text");
  CHECK_NULL(infini_model_tokenize(model, "a", 1, INFINI_TOKENS_START, NULL, 8, &size), "buffer");
  CHECK_NULL(infini_model_token_count(model, "a", 1, INFINI_TOKENS_START, NULL), "size");
  CHECK_NULL(infini_model_detokenize(model, NULL, 1, INFINI_TOKENS_START, NULL, 0, &size), "tokens");
  CHECK_NULL(infini_model_token_is_end(model, 0, NULL), "answer");
  CHECK_NULL(infini_model_token_is_control(model, 0, NULL), "answer");
  CHECK_NULL(infini_model_bos(model, NULL), "token");
  CHECK_NULL(infini_model_eos(model, NULL), "token");
  CHECK_NULL(infini_model_apply_chat(model, NULL, INFINI_CHAT_FIRST | INFINI_CHAT_REPLY, NULL, 0, &size),
             "messages_json");
  CHECK_NULL(infini_model_chat_tokens(model, NULL, INFINI_CHAT_FIRST | INFINI_CHAT_REPLY, NULL, 0, &size),
             "messages_json");
  CHECK_NULL(infini_model_info(model, NULL, NULL, 0, &size), "name");
  CHECK_NULL(infini_session_create(model, NULL, NULL), "session");
  infini_model_free(model);
}

static void check_sessions(void) {
  infini_session *session = (infini_session *)&check_failures;
  const int32_t token = 1;
  int32_t sampled = 0;
  int64_t number = 0;
  float numbers[1];
  CHECK_NULL(infini_session_create(NULL, NULL, &session), "model");
  CHECK(session == NULL);
  session = (infini_session *)&check_failures;
  CHECK_NULL(infini_session_fork(NULL, &session), "session");
  CHECK(session == NULL);
  CHECK_NULL(infini_session_set_options(NULL, NULL), "session");
  CHECK_NULL(infini_session_feed(NULL, &token, 1, NULL), "session");
  CHECK_NULL(infini_session_feed_text(NULL, "a", 1, NULL), "session");
  CHECK_NULL(infini_session_text_tokens(NULL, "a", 1, NULL, 0, NULL), "session");
  CHECK_NULL(infini_session_chat(NULL, "[]", NULL), "session");
  CHECK_NULL(infini_session_chat_tokens(NULL, "[]", NULL, 0, NULL), "session");
  CHECK_NULL(infini_session_generate(NULL, stop, NULL, NULL), "session");
  CHECK_NULL(infini_session_next_text(NULL, NULL, NULL, 0, NULL), "session");
  CHECK_NULL(infini_session_next(NULL, NULL, &sampled), "session");
  CHECK_NULL(infini_session_start_generation(NULL), "session");
  CHECK_NULL(infini_session_stop_reason(NULL, NULL, 0, NULL), "session");
  CHECK_NULL(infini_session_cancel(NULL), "session");
  CHECK_NULL(infini_session_logits(NULL, numbers, 1, NULL), "session");
  CHECK_NULL(infini_session_embedding(NULL, numbers, 1, NULL), "session");
  CHECK_NULL(infini_session_feed_logits(NULL, &token, 1, NULL, numbers, 1, NULL), "session");
  CHECK_NULL(infini_session_score(NULL, &token, 1, NULL, numbers, 1, NULL), "session");
  CHECK_NULL(infini_session_score_text(NULL, "a", 1, NULL, NULL, NULL), "session");
  CHECK_NULL(infini_session_close_segment(NULL), "session");
  CHECK_NULL(infini_session_keep(NULL, 1), "session");
  CHECK_NULL(infini_session_reset(NULL), "session");
  CHECK_NULL(infini_session_position(NULL, &number), "session");
  CHECK_NULL(infini_session_segment_position(NULL, &number), "session");
  CHECK_NULL(infini_session_memory_tokens(NULL, &number), "session");
  CHECK_NULL(infini_session_info_json(NULL, NULL, 0, NULL), "session");
  CHECK_NULL(infini_session_save(NULL, "x", 0, NULL, NULL, NULL), "session");
  CHECK_NULL(infini_session_save_buffer(NULL, 0, NULL, NULL, NULL, NULL, 0, NULL), "session");
  CHECK_NULL(infini_session_restore(NULL, "x", NULL), "session");
  CHECK_NULL(infini_session_restore_buffer(NULL, "x", 1, NULL), "session");
  CHECK_NULL(infini_session_merge(NULL, "x", 1, NULL), "session");
  CHECK_NULL(infini_session_merge_buffer(NULL, "x", 1, 1, NULL), "session");
  CHECK_NULL(infini_model_fit_keep(NULL, "{}", "x", NULL), "model");
  CHECK_NULL(infini_creation_settings_json(NULL, 1, NULL), "buffer");
  CHECK_NULL(infini_keep_settings_json(NULL, 1, NULL), "buffer");
  CHECK_NULL(infini_session_rewind(NULL, 0), "session");
  CHECK_NULL(infini_session_rewind_limit(NULL, &number), "session");
  CHECK_NULL(infini_snapshot_json(NULL, 0, NULL, NULL, 0, NULL), "path");
  CHECK_NULL(infini_snapshot_json_buffer(NULL, 1, 0, NULL, NULL, 0, NULL), "data");

  infini_model *model = open_model(STORIES, "f32");
  session = new_session(model, 4);
  CHECK_OK(infini_session_set_options(session, NULL));
  CHECK_NULL(infini_session_feed(session, NULL, 1, NULL), "tokens");
  CHECK_OK(infini_session_feed(session, NULL, 0, NULL));
  CHECK_NULL(infini_session_feed_text(session, NULL, 1, NULL), "text");
  CHECK_NULL(infini_session_text_tokens(session, NULL, 1, NULL, 0, NULL), "text");
  CHECK_NULL(infini_session_chat(session, NULL, NULL), "messages_json");
  CHECK_NULL(infini_session_chat_tokens(session, NULL, NULL, 0, NULL), "messages_json");
  CHECK_NULL(infini_session_generate(session, NULL, NULL, NULL), "callback");
  CHECK_NULL(infini_session_next_text(session, NULL, NULL, 8, NULL), "buffer");
  CHECK_NULL(infini_session_feed_logits(session, NULL, 1, NULL, numbers, 512, NULL), "tokens");
  CHECK_NULL(infini_session_feed_logits(session, &token, 1, NULL, NULL, 512, NULL), "buffer");
  CHECK_NULL(infini_session_score(session, &token, 1, NULL, NULL, 1, NULL), "buffer");
  CHECK_NULL(infini_session_score_text(session, NULL, 1, NULL, NULL, NULL), "text");
  CHECK_NULL(infini_session_position(session, NULL), "position");
  CHECK_NULL(infini_session_segment_position(session, NULL), "position");
  CHECK_NULL(infini_session_memory_tokens(session, NULL), "tokens");
  CHECK_NULL(infini_session_fork(session, NULL), "fork");
  CHECK_NULL(infini_session_save(session, NULL, 0, NULL, NULL, NULL), "path");
  CHECK_NULL(infini_session_save_buffer(session, 0, NULL, NULL, NULL, NULL, 8, NULL), "buffer");
  CHECK_NULL(infini_session_restore(session, NULL, NULL), "path");
  CHECK_NULL(infini_session_restore_buffer(session, NULL, 1, NULL), "data");
  CHECK_NULL(infini_session_rewind_limit(session, NULL), "position");
  infini_batch *batch = NULL;
  size_t count = 0;
  CHECK_NULL(infini_batch_create(NULL, &batch), "model");
  CHECK_NULL(infini_batch_create(model, NULL), "batch");
  CHECK_OK(infini_batch_create(model, &batch));
  CHECK_NULL(infini_batch_add(NULL, session), "batch");
  CHECK_NULL(infini_batch_add(batch, NULL), "session");
  CHECK_NULL(infini_batch_remove(NULL, session), "batch");
  CHECK_NULL(infini_batch_remove(batch, NULL), "session");
  CHECK_NULL(infini_batch_size(NULL, &count), "batch");
  CHECK_NULL(infini_batch_size(batch, NULL), "size");
  CHECK_NULL(infini_batch_next(NULL, NULL, NULL, 0, NULL), "batch");
  CHECK_NULL(infini_batch_next(batch, NULL, NULL, 1, NULL), "buffer");
  CHECK_NULL(infini_batch_text(NULL, 0, NULL, 0, NULL), "batch");
  CHECK_NULL(infini_batch_text(batch, 0, NULL, 1, NULL), "buffer");
  infini_batch_free(batch);
  infini_batch_free(NULL);
  CHECK(position_of(session) == 0);
  CHECK_OK(infini_session_feed(session, &token, 1, NULL));
  CHECK_NULL(infini_session_logits(session, NULL, 512, NULL), "buffer");
  CHECK_NULL(infini_session_embedding(session, NULL, 64, NULL), "buffer");
  CHECK_OK(infini_session_next(session, NULL, NULL));
  infini_model_free(model);
  infini_session_free(session);
}

static void check_adaptations(void) {
  infini_adaptation *adaptation = NULL;
  const char *settings = "{\"texts\": [\"" INFINI_SOURCE_DIR "/samples/texts/lord_jim.txt\"]}";
  CHECK_NULL(infini_adaptation_create(NULL, settings, NULL, NULL, &adaptation), "path");
  CHECK_NULL(infini_adaptation_create(STORIES, NULL, NULL, NULL, &adaptation), "settings_json");
  CHECK_NULL(infini_adaptation_create(STORIES, settings, NULL, NULL, NULL), "adaptation");
  CHECK_NULL(infini_adaptation_settings_json(NULL, 8, NULL), "buffer");
  CHECK_OK(infini_adaptation_create(STORIES, settings, NULL, NULL, &adaptation));
  CHECK_NULL(infini_adaptation_step(NULL, NULL), "adaptation");
  CHECK_NULL(infini_adaptation_run(NULL, NULL), "adaptation");
  CHECK_NULL(infini_adaptation_report_json(NULL, NULL, 0, NULL), "adaptation");
  CHECK_NULL(infini_adaptation_report_json(adaptation, NULL, 8, NULL), "buffer");
  CHECK_NULL(infini_adaptation_info_json(NULL, NULL, 0, NULL), "adaptation");
  CHECK_NULL(infini_adaptation_info_json(adaptation, NULL, 8, NULL), "buffer");
  CHECK_NULL(infini_adaptation_save(NULL, NULL), "adaptation");
  CHECK_NULL(infini_adaptation_discard(NULL), "adaptation");
  CHECK_NULL(infini_adaptation_write(NULL, "x", NULL), "adaptation");
  CHECK_NULL(infini_adaptation_write(adaptation, NULL, NULL), "path");
  infini_adaptation_free(adaptation);
  infini_adaptation_free(NULL);
}

static void check_trainers(void) {
  infini_model *model = open_model(STORIES, "f32");
  infini_trainer *trainer = NULL;
  CHECK_NULL(infini_trainer_settings_json(NULL, 8, NULL), "buffer");
  CHECK_NULL(infini_trainer_create(NULL, "{}", NULL, NULL, &trainer), "model");
  CHECK_NULL(infini_trainer_create(model, NULL, NULL, NULL, &trainer), "description_json");
  CHECK_NULL(infini_trainer_create(model, "{\"data\": {\"type\": \"random\"}}", NULL, NULL, NULL), "trainer");
  CHECK_OK(infini_trainer_create(model, "{\"data\": {\"type\": \"random\"}}", NULL, NULL, &trainer));
  CHECK_NULL(infini_trainer_set_ranks(NULL, 0, 1, NULL, NULL), "trainer");
  CHECK_NULL(infini_trainer_set_ranks(trainer, 0, 2, NULL, NULL), "callback");
  CHECK_NULL(infini_trainer_step(NULL, NULL), "trainer");
  CHECK_NULL(infini_trainer_run(NULL, 1, NULL), "trainer");
  CHECK_NULL(infini_trainer_report_json(NULL, NULL, 0, NULL), "trainer");
  CHECK_NULL(infini_trainer_report_json(trainer, NULL, 8, NULL), "buffer");
  CHECK_NULL(infini_trainer_evaluate_json(NULL, "{}", 1, 1, NULL, NULL, 0, NULL), "trainer");
  CHECK_NULL(infini_trainer_evaluate_json(trainer, NULL, 1, 1, NULL, NULL, 0, NULL), "data_json");
  CHECK_NULL(infini_trainer_evaluate_json(trainer, "{}", 1, 1, NULL, NULL, 8, NULL), "buffer");
  CHECK_NULL(infini_trainer_find_heads_json(NULL, "{}", 1, 1, NULL, NULL, 0, NULL), "trainer");
  CHECK_NULL(infini_trainer_find_heads_json(trainer, NULL, 1, 1, NULL, NULL, 0, NULL), "data_json");
  CHECK_NULL(infini_trainer_find_heads_json(trainer, "{}", 1, 1, NULL, NULL, 8, NULL), "buffer");
  CHECK_NULL(infini_trainer_fit_heads(NULL, 8, NULL), "trainer");
  CHECK_NULL(infini_trainer_info_json(NULL, NULL, 0, NULL), "trainer");
  CHECK_NULL(infini_trainer_info_json(trainer, NULL, 8, NULL), "buffer");
  CHECK_NULL(infini_trainer_save(NULL, "x", NULL), "trainer");
  CHECK_NULL(infini_trainer_save(trainer, NULL, NULL), "path");
  CHECK_NULL(infini_trainer_restore(NULL, "x", NULL), "trainer");
  CHECK_NULL(infini_trainer_restore(trainer, NULL, NULL), "path");
  CHECK_NULL(infini_trainer_write(NULL, "x", "f32", NULL), "trainer");
  CHECK_NULL(infini_trainer_write(trainer, NULL, "f32", NULL), "path");
  CHECK_NULL(infini_trainer_write(trainer, "x", NULL, NULL), "type");
  CHECK_NULL(infini_trainer_write_adapter(NULL, "x", NULL), "trainer");
  CHECK_NULL(infini_trainer_write_adapter(trainer, NULL, NULL), "path");
  infini_model_free(model);
  infini_trainer_free(trainer);
  infini_trainer_free(NULL);
}

int main(void) {
  check_free();
  CHECK(strcmp(infini_status_name(-1), "UNKNOWN") == 0);
  CHECK(infini_status_text(-1)[0] != 0);
  CHECK(infini_last_error()[0] == 0);
  CHECK(infini_last_os_error() == 0);
  CHECK(infini_version()[0] != 0);
  CHECK(infini_abi_version() == INFINI_ABI_VERSION);
  check_options_and_tasks();
  check_log_and_streams();
  check_models();
  check_sessions();
  check_trainers();
  check_adaptations();
  return check_failures != 0;
}
