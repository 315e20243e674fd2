// Models: opening, creating, text and tokens, facts.
#include <vector>

#include "base/schema.h"
#include "guard.h"
#include "model/facts.h"
#include "model/footprint.h"
#include "model/keep_fit.h"
#include "model/quantize_file.h"
#include "text/chat.h"

using namespace infini;
using namespace infini::capi;

namespace {

const Tokenizer &tokenizer_of(const infini_model *model) { return of(model).tokenizer(); }

// Messages rendered by the template of the model's file.
ChatText chat_of(const Tokenizer &tokenizer, const char *messages_json, int flags) {
  const bool first = (need_flags(flags, INFINI_CHAT_FIRST | INFINI_CHAT_REPLY) & INFINI_CHAT_FIRST) != 0;
  const std::vector<ChatMessage> messages = read_chat_messages(&need(messages_json, "messages_json"));
  return chat_text(tokenizer, messages, {.reply = (flags & INFINI_CHAT_REPLY) != 0, .first = first, .start = first});
}

Tokenizer::Encode token_flags(int flags) {
  need_flags(flags, INFINI_TOKENS_SPECIAL | INFINI_TOKENS_START);
  return {(flags & INFINI_TOKENS_SPECIAL) != 0, (flags & INFINI_TOKENS_START) != 0};
}

}  // namespace

extern "C" {

infini_status infini_model_open(const char *path, const infini_options *options, infini_task *task,
                                infini_model **model) {
  return give_handle(model, "model", [&] {
    return infini_model{Model::open(&need(path, "path"), options_for(OptionTaker::MODEL, options), of(task))};
  });
}

infini_status infini_model_create(const char *config_json, const infini_options *options, infini_task *task,
                                  infini_model **model) {
  return give_handle(model, "model", [&] {
    const auto config = parse_settings<CreateConfig>(config_json ? config_json : "{}", "config_json");
    return infini_model{Model::create(config, options_for(OptionTaker::MODEL, options), of(task))};
  });
}

infini_status infini_creation_settings_json(char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(describe_settings<CreateConfig>().text, buffer, capacity, size); });
}

infini_status infini_keep_settings_json(char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(describe_settings<KeepLesson>().text, buffer, capacity, size); });
}

infini_status infini_model_fit_keep(const infini_model *model, const char *lesson_json, const char *path,
                                    infini_task *task) {
  return guard([&] {
    const Model &teaches = of(model);
    need(path, "path");
    fit_keep(teaches, parse_settings<KeepLesson>(&need(lesson_json, "lesson_json"), "lesson_json"), path, of(task));
  });
}

infini_status infini_model_save(const infini_model *model, const char *path, infini_task *task) {
  return guard([&] { of(model).save(&need(path, "path"), of(task)); });
}

infini_status infini_model_quantize(const char *from, const char *to, const char *type, const infini_options *options,
                                    infini_task *task) {
  return guard([&] {
    need(from, "from"), need(to, "to"), need(type, "type");
    const std::optional<TensorType> asked = tensor_type_of(type);
    if (!asked) fail(Status::INVALID_ARGUMENT, "type is '", type, "', but must be one of ", tensor_type_names());
    quantize_file(from, to, *asked, options_for(OptionTaker::MODEL, options), of(task));
  });
}

void infini_model_free(infini_model *model) { delete model; }

infini_status infini_model_vocabulary(const infini_model *model, size_t *size) {
  return guard([&] { need(size, "size") = static_cast<size_t>(of(model).vocabulary()); });
}

infini_status infini_model_width(const infini_model *model, size_t *size) {
  return guard([&] { need(size, "size") = static_cast<size_t>(of(model).config().width); });
}

infini_status infini_model_tokenize(const infini_model *model, const char *text, size_t text_size, int flags,
                                    int32_t *buffer, size_t capacity, size_t *size) {
  return guard([&] {
    const auto ids = tokenizer_of(model).encode(need_text(text, text_size), token_flags(flags));
    give(std::span(ids), buffer, capacity, size);
  });
}

infini_status infini_model_token_count(const infini_model *model, const char *text, size_t text_size, int flags,
                                       size_t *size) {
  return guard([&] {
    const Tokenizer &tokenizer = tokenizer_of(model);
    need(size, "size") = tokenizer.encode(need_text(text, text_size), token_flags(flags)).size();
  });
}

infini_status infini_model_detokenize(const infini_model *model, const int32_t *tokens, size_t n_tokens, int flags,
                                      char *buffer, size_t capacity, size_t *size) {
  return guard([&] {
    const auto ids = need_array(tokens, n_tokens, "tokens");
    const Tokenizer::Encode as = token_flags(flags);
    give_text(tokenizer_of(model).decode(ids, as.special, as.start), buffer, capacity, size);
  });
}

infini_status infini_model_token_is_end(const infini_model *model, int32_t token, int *answer) {
  return guard([&] { need(answer, "answer") = tokenizer_of(model).is_end(token); });
}

infini_status infini_model_token_is_control(const infini_model *model, int32_t token, int *answer) {
  return guard([&] { need(answer, "answer") = tokenizer_of(model).is_control(token); });
}

infini_status infini_model_bos(const infini_model *model, int32_t *token) {
  return guard([&] { need(token, "token") = tokenizer_of(model).bos(); });
}

infini_status infini_model_eos(const infini_model *model, int32_t *token) {
  return guard([&] { need(token, "token") = tokenizer_of(model).eos(); });
}

infini_status infini_model_apply_chat(const infini_model *model, const char *messages_json, int flags, char *buffer,
                                      size_t capacity, size_t *size) {
  return guard([&] { give_text(chat_of(tokenizer_of(model), messages_json, flags).text, buffer, capacity, size); });
}

infini_status infini_model_chat_tokens(const infini_model *model, const char *messages_json, int flags, int32_t *buffer,
                                       size_t capacity, size_t *size) {
  return guard([&] {
    const Tokenizer &tokenizer = tokenizer_of(model);
    const ChatText chat = chat_of(tokenizer, messages_json, flags);
    const auto ids = tokenizer.encode(chat.text, chat.encode((flags & INFINI_CHAT_FIRST) != 0));
    give(std::span(ids), buffer, capacity, size);
  });
}

infini_status infini_model_chat_turn_end(const infini_model *model, char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(chat_turn_end(tokenizer_of(model)), buffer, capacity, size); });
}

infini_status infini_model_info(const infini_model *model, const char *name, char *buffer, size_t capacity,
                                size_t *size) {
  return guard([&] { give_text(fact(of(model), &need(name, "name")), buffer, capacity, size); });
}

infini_status infini_model_info_json(const infini_model *model, char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(facts(of(model)).text(), buffer, capacity, size); });
}

infini_status infini_model_footprint_json(const infini_model *model, int64_t tokens, char *buffer, size_t capacity,
                                          size_t *size) {
  return guard([&] {
    JsonObject json = footprint(of(model), tokens);
    give_text(json.add("session_bytes", Session::usual_bytes(model->value)).text(), buffer, capacity, size);
  });
}

infini_status infini_paper_footprint_json(int64_t tokens, char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(footprint(kPaperShape, tokens).text(), buffer, capacity, size); });
}

}  // extern "C"
