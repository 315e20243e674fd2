// Sessions.
#include "guard.h"
#include "stream/facts.h"

using namespace infini;
using namespace infini::capi;

extern "C" {

infini_status infini_session_create(const infini_model *model, const infini_options *options,
                                    infini_session **session) {
  return give_handle(session, "session", [&] {
    return infini_session{
        std::make_shared<Session>(need(model, "model").value, options_for(OptionTaker::SESSION, options))};
  });
}

void infini_session_free(infini_session *session) { delete session; }

infini_status infini_session_set_options(infini_session *session, const infini_options *options) {
  return guard([&] { of(session).set_options(options_for(OptionTaker::SESSION, options)); });
}

infini_status infini_session_feed(infini_session *session, const int32_t *tokens, size_t n_tokens, infini_task *task) {
  return guard([&] {
    const auto ids = need_array(tokens, n_tokens, "tokens");
    of(session).feed(ids, of(task));
  });
}

infini_status infini_session_feed_text(infini_session *session, const char *text, size_t text_size, infini_task *task) {
  return guard([&] { of(session).feed_text(need_text(text, text_size), of(task)); });
}

infini_status infini_session_text_tokens(infini_session *session, const char *text, size_t text_size, int32_t *buffer,
                                         size_t capacity, size_t *size) {
  return guard([&] {
    Session &stream = of(session);
    const Session::Reading reading = stream.encode(need_text(text, text_size));
    if (give(std::span(reading.tokens), buffer, capacity, size)) stream.begin(reading);
  });
}

infini_status infini_session_chat(infini_session *session, const char *messages_json, infini_task *task) {
  return guard([&] {
    Session &stream = of(session);
    stream.chat(read_chat_messages(&need(messages_json, "messages_json")), of(task));
  });
}

infini_status infini_session_chat_tokens(infini_session *session, const char *messages_json, int32_t *buffer,
                                         size_t capacity, size_t *size) {
  return guard([&] {
    Session &stream = of(session);
    const Session::Reading turn = stream.chat_turn(read_chat_messages(&need(messages_json, "messages_json")));
    if (give(std::span(turn.tokens), buffer, capacity, size)) stream.begin_turn(turn);
  });
}

infini_status infini_session_generate(infini_session *session, infini_text_callback callback, void *user_data,
                                      infini_task *task) {
  return guard([&] {
    Session &stream = of(session);
    need(callback, "callback");
    stream.generate([&](const std::string &text) { return callback(user_data, text.data(), text.size()) == 0; },
                    of(task));
  });
}

infini_status infini_session_next_text(infini_session *session, infini_task *task, char *buffer, size_t capacity,
                                       size_t *size) {
  return guard([&] {
    Session &stream = of(session);
    need_array(buffer, capacity, "buffer");
    const std::string *text = stream.ready_text(of(task));
    if (give_text(text ? *text : "", buffer, capacity, size) && text) stream.drop_text();
    return text ? INFINI_OK : INFINI_END;
  });
}

infini_status infini_session_next(infini_session *session, infini_task *task, int32_t *token) {
  return guard([&] { return of(session).next(of(task), token) ? INFINI_OK : INFINI_END; });
}

infini_status infini_session_start_generation(infini_session *session) {
  return guard([&] { of(session).start_generation(); });
}

infini_status infini_session_stop_reason(const infini_session *session, char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(of(session).stop_reason(), buffer, capacity, size); });
}

infini_status infini_session_cancel(infini_session *session) {
  return guard([&] { of(session).cancel(); });
}

infini_status infini_session_logits(infini_session *session, float *buffer, size_t capacity, size_t *size) {
  return guard([&] { give(of(session).logits(), buffer, capacity, size); });
}

infini_status infini_session_embedding(infini_session *session, float *buffer, size_t capacity, size_t *size) {
  return guard([&] { give(of(session).embedding(), buffer, capacity, size); });
}

infini_status infini_session_feed_logits(infini_session *session, const int32_t *tokens, size_t n_tokens,
                                         infini_task *task, float *buffer, size_t capacity, size_t *size) {
  return guard([&] {
    Session &stream = of(session);
    const auto ids = need_array(tokens, n_tokens, "tokens");
    const auto vocabulary = static_cast<size_t>(stream.model().config().vocabulary);
    if (need_work(ids.size() * vocabulary, buffer, capacity, size)) stream.feed_logits(ids, buffer, of(task));
  });
}

infini_status infini_session_score(infini_session *session, const int32_t *tokens, size_t n_tokens, infini_task *task,
                                   float *buffer, size_t capacity, size_t *size) {
  return guard([&] {
    Session &stream = of(session);
    const auto ids = need_array(tokens, n_tokens, "tokens");
    if (need_work(ids.size(), buffer, capacity, size)) stream.score(ids, buffer, of(task));
  });
}

infini_status infini_session_score_text(infini_session *session, const char *text, size_t text_size, infini_task *task,
                                        double *nll, int64_t *n_scored) {
  return guard([&] { of(session).score_text(need_text(text, text_size), nll, n_scored, of(task)); });
}

infini_status infini_session_close_segment(infini_session *session) {
  return guard([&] { of(session).close_segment(); });
}

infini_status infini_session_keep(infini_session *session, int64_t n_tokens) {
  return guard([&] { of(session).keep(n_tokens); });
}

infini_status infini_session_reset(infini_session *session) {
  return guard([&] { of(session).reset(); });
}

infini_status infini_session_fork(const infini_session *session, infini_session **fork) {
  return give_handle(fork, "fork", [&] { return infini_session{of(session).fork()}; });
}

infini_status infini_session_position(const infini_session *session, int64_t *position) {
  return guard([&] { need(position, "position") = of(session).position(); });
}

infini_status infini_session_segment_position(const infini_session *session, int64_t *position) {
  return guard([&] { need(position, "position") = of(session).segment_position(); });
}

infini_status infini_session_memory_tokens(const infini_session *session, int64_t *tokens) {
  return guard([&] { need(tokens, "tokens") = of(session).memory_tokens(); });
}

infini_status infini_session_info_json(const infini_session *session, char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(facts(of(session)).text(), buffer, capacity, size); });
}

}  // extern "C"
