// Models: opening, creating, text and tokens, facts.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "base/fields.h"
#include "base/json.h"
#include "base/schema.h"
#include "footprint.h"
#include "guard.h"
#include "model/keep_fit.h"
#include "model/quantize_file.h"
#include "text/chat.h"

using namespace infini;
using namespace infini::capi;

namespace {

const Model &model_of(const infini_model *model) { return *need(model, "model").value; }
const Tokenizer &tokenizer_of(const infini_model *model) { return model_of(model).tokenizer(); }

// The shortest decimal number that is this float: 1e-6 rather than 9.99999997475242708e-07.
double tidy(float value) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  double result = value;
  std::from_chars(digits, end, result);
  return result;
}

// --- what infini_model_fit_keep reads

struct KeepLesson {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> worth;  // of each
  KeepFit fit;
};

KeepLesson read_keep_lesson(const Model &model, const char *text) {
  KeepLesson lesson;
  const auto json = parse_json(text, Status::INVALID_ARGUMENT, "lesson_json");
  Fields fields(*json, "lesson_json");
  lesson.fit.layer = static_cast<int>(fields.whole("layer", -1, -1, model.config().layers - 1));
  lesson.fit.ridge = fields.number("ridge", lesson.fit.ridge, 1e-9, 1e6);
  lesson.fit.stray = fields.number("stray", lesson.fit.stray, 0, 0.99);
  lesson.fit.focus = fields.number("focus", lesson.fit.focus, 0, 100);
  lesson.fit.threads = static_cast<int>(fields.whole("threads", 0, 0, 4096));
  if (const nlohmann::json *bias = fields.find("bias")) {
    const int layers = model.config().layers, heads = model.config().heads;
    const auto refuse = [&] {
      fields.refuse("bias", cat("a list of [layer, head, nats] of ", layers, " layers of ", heads, " heads"));
    };
    if (!bias->is_array()) refuse();
    lesson.fit.bias.resize(static_cast<size_t>(layers) * static_cast<size_t>(heads));
    for (const nlohmann::json &one : *bias) {
      if (!one.is_array() || one.size() != 3 || !fits<int>(one[0]) || !fits<int>(one[1]) || !one[2].is_number() ||
          one[0] < 0 || one[0] >= layers || one[1] < 0 || one[1] >= heads || !(std::abs(one[2].get<double>()) <= 100))
        refuse();
      lesson.fit.bias[one[0].get<size_t>() * static_cast<size_t>(heads) + one[1].get<size_t>()] = one[2].get<float>();
    }
  }
  const nlohmann::json *pieces = fields.find("pieces");
  if (!pieces || !pieces->is_array()) fields.refuse("pieces", "a list of objects");
  for (size_t i = 0; i < pieces->size(); ++i) {
    Fields piece((*pieces)[i], cat("lesson_json.pieces[", i, "]"));
    const bool keep = piece.flag("keep", false);
    Tokenizer::Encode how;
    how.start = lesson.tokens.empty();
    for (const int32_t token : model.tokenizer().encode(piece.text("text", ""), how)) {
      lesson.tokens.push_back(token);
      lesson.worth.push_back(keep);
    }
    piece.finish();
  }
  fields.finish();
  return lesson;
}

// --- facts

const char *library_name(GemmLibrary library) {
  return library == GemmLibrary::ONEDNN ? "onednn" : library == GemmLibrary::OPENBLAS ? "openblas" : "native";
}

// How many matrices and vectors of the file are of each type.
JsonObject tensor_types(const Model &model) {
  std::vector<std::pair<const char *, int64_t>> counts;  // in the file's order
  for (const GgufTensor &tensor : model.gguf().tensors()) {
    const char *const name = tensor_layout(tensor.type)->name;
    auto found = std::find_if(counts.begin(), counts.end(), [&](const auto &count) { return count.first == name; });
    if (found == counts.end()) found = counts.insert(found, {name, 0});
    ++found->second;
  }
  JsonObject json;
  for (const auto &[name, count] : counts) json.add(name, count);
  return json;
}

JsonObject facts(const Model &model) {
  const bool has_weights = model.has_weights();
  JsonObject json;
  json.add("name", model.gguf().get_string("general.name", ""));
  if (model.has_tokenizer()) {
    const Tokenizer &tokenizer = model.tokenizer();
    json.add("tokenizer", tokenizer.model())
        .add("tokens", tokenizer.size())
        .add("bos", tokenizer.bos())
        .add("eos", tokenizer.eos());
    if (tokenizer.chat_template().empty()) json.add("chat_template", nullptr);
    else json.add("chat_template", chat_template_name(tokenizer.chat_template()));
    if (!has_weights) json.add("vocabulary", tokenizer.size());
  } else {
    json.add("tokenizer", nullptr).add("tokens", 0).add("bos", -1).add("eos", -1).add("chat_template", nullptr);
    if (!has_weights) json.add("vocabulary", 0);
  }
  if (!has_weights) return json;
  const Config &config = model.config();
  const MemoryConfig &memory = config.memory;
  int memory_heads = 0;
  const auto windowed =
      std::count_if(config.plans.begin(), config.plans.end(), [](const LayerPlan &plan) { return plan.window > 0; });
  for (int layer = 0; layer < config.layers; ++layer)
    for (int head = 0; head < config.kv_heads; ++head) memory_heads += config.has_memory(layer, head);
  json.add("vocabulary", config.vocabulary)
      .add("architecture", config.architecture->name)
      .add("parameters", model.parameters())
      .add("layers", config.layers)
      .add("width", config.width)
      .add("heads", config.heads)
      .add("kv_heads", config.kv_heads)
      .add("key_size", config.key_size)
      .add("value_size", config.value_size)
      .add("hidden", config.hidden)
      .add("context", config.context)
      .add("compute", model.weights().products == Compute::INT8 ? "int8" : name_of(model.weights().compute))
      .add("gemm", library_name(model.weights().gemm.library()))
      .add("weight_bytes", model.weights().bytes())
      .add("tensor_types", tensor_types(model))
      .add("trained_memory", memory.trained)
      .add("memory_heads", memory_heads)
      .add("windowed_layers", windowed)
      .add("segment", memory.segment)
      .add("carry", memory.carry)
      .add("sinks", memory.sinks)
      .add("keep", memory.keep)
      .add("window", config.window())
      .add("update", memory.kind->name())
      .add("first_segment", memory.first_segment_gated ? "gated" : "ungated")
      .add("epsilon", tidy(memory.epsilon));
  return json;
}

std::string text_of_fact(const GgufValue &value) {
  return std::visit(
      [](const auto &v) -> std::string {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, GgufArray>)
          fail(Status::INVALID_ARGUMENT, "the key holds an array of ", v.count, " values, not a single one");
        else if constexpr (std::is_same_v<T, float>) return json_of(tidy(v)).text;
        else if constexpr (std::is_same_v<T, std::string>) return v;
        else return json_of(v).text;
      },
      value);
}

std::string fact(const Model &model, const std::string &name) {
  if (name == "fingerprint") return model.fingerprint();
  const auto known = parse_json<nlohmann::ordered_json>(facts(model).text(), Status::INTERNAL, "what is known");
  if (const auto found = known->find(name); found != known->end())
    return found->is_string() ? found->get<std::string>() : text_of(*found);
  if (const GgufValue *found = model.gguf().find(name)) return text_of_fact(*found);
  std::string names = "fingerprint";
  for (const auto &item : known->items()) names += ", " + item.key();
  fail(Status::INVALID_ARGUMENT, "the model has no fact named '", name, "'; there are: ", names,
       ", and the keys of its file");
}

JsonObject footprint_json(const FootprintShape &shape, int64_t tokens) {
  if (tokens < 0) fail(Status::INVALID_ARGUMENT, "tokens is ", tokens, ", but must not be negative");
  const int64_t token_bytes = (shape.key_size + shape.value_size) * shape.heads * shape.layers * shape.value_bytes;
  if (tokens > INT64_MAX / 2 / token_bytes)
    fail(Status::INVALID_ARGUMENT, "tokens is ", tokens, ": too large to count bytes");
  JsonList methods;
  for (const Footprint &f : footprints(shape, tokens))
    methods.add(JsonObject().add("method", f.method).add("values", f.values).add("bytes", f.bytes));
  return JsonObject().add("tokens", tokens).add("methods", methods);
}

// --- text

// Messages by the template of the model's file.
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
  return give_handle(model, "model",
                     [&] { return infini_model{Model::open(&need(path, "path"), for_model(options), of(task))}; });
}

infini_status infini_model_create(const char *config_json, const infini_options *options, infini_model **model) {
  return give_handle(model, "model", [&] {
    const auto config = read_settings<CreateConfig>(
        *parse_json(config_json ? config_json : "{}", Status::INVALID_ARGUMENT, "config_json"), "config_json");
    return infini_model{Model::create(config, for_model(options))};
  });
}

infini_status infini_model_fit_keep(const infini_model *model, const char *lesson_json, const char *path,
                                    infini_task *task) {
  return guard([&] {
    const Model &teaches = model_of(model);
    need(path, "path");
    KeepLesson lesson = read_keep_lesson(teaches, &need(lesson_json, "lesson_json"));
    const KeepProbe probe = fit_keep(teaches, lesson.tokens, lesson.worth, lesson.fit, of(task));
    with_probe(teaches, probe).save(path);
  });
}

infini_status infini_model_save(const infini_model *model, const char *path, infini_task *task) {
  return guard([&] {
    const Model &saved = model_of(model);
    need(path, "path");
    if (task) task->value.begin("save", 1);
    if (task && task->value.take_cancel())
      fail(Status::CANCELLED, "saving the model was cancelled; nothing was written");
    saved.save(path);
    if (task) task->value.advance_to(1);
  });
}

infini_status infini_model_quantize(const char *from, const char *to, const char *type, const infini_options *options,
                                    infini_task *task) {
  return guard([&] {
    need(from, "from"), need(to, "to"), need(type, "type");
    const std::optional<TensorType> asked = tensor_type_of(type);
    if (!asked) fail(Status::INVALID_ARGUMENT, "type is '", type, "', but must be one of ", tensor_type_names());
    quantize_file(from, to, *asked, for_model(options), of(task));
  });
}

void infini_model_free(infini_model *model) { delete model; }

infini_status infini_model_vocabulary(const infini_model *model, size_t *size) {
  return guard([&] {
    const Model &m = model_of(model);
    need(size, "size") = static_cast<size_t>(m.has_weights() ? m.config().vocabulary : m.tokenizer().size());
  });
}

infini_status infini_model_width(const infini_model *model, size_t *size) {
  return guard([&] { need(size, "size") = static_cast<size_t>(model_of(model).config().width); });
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
  return guard([&] { give_text(fact(model_of(model), &need(name, "name")), buffer, capacity, size); });
}

infini_status infini_model_info_json(const infini_model *model, char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(facts(model_of(model)).text(), buffer, capacity, size); });
}

infini_status infini_model_footprint_json(const infini_model *model, int64_t tokens, char *buffer, size_t capacity,
                                          size_t *size) {
  return guard([&] {
    const Config &c = model_of(model).config();
    if (model->session_bytes == 0) {
      Session session(model->value, Options());
      session.reserve();
      model->session_bytes = session.total_bytes();
    }
    const auto with_memory =
        std::count_if(c.plans.begin(), c.plans.end(), [](const LayerPlan &plan) { return plan.has_memory(); });
    const FootprintShape shape = {c.layers,     c.heads, c.kv_heads,       c.key_size,
                                  c.value_size, c.width, c.memory.segment, bytes_of(model->value->weights().compute),
                                  with_memory};
    JsonObject json = footprint_json(shape, tokens);
    int64_t window = 0;  // layers may have windows of their own
    for (size_t layer = 0; layer < c.plans.size(); ++layer)
      window += std::min(tokens, model->value->weights().rules(layer).shape.most_keys()) * (c.key_size + c.value_size) *
                c.kv_heads * shape.value_bytes;
    json.add("window_bytes", window).add("session_bytes", model->session_bytes.load());
    give_text(json.text(), buffer, capacity, size);
  });
}

infini_status infini_paper_footprint_json(int64_t tokens, char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(footprint_json(kPaperShape, tokens).text(), buffer, capacity, size); });
}

}  // extern "C"
