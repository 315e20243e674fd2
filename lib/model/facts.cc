#include "model/facts.h"

#include <algorithm>
#include <charconv>
#include <utility>
#include <vector>

#include "base/platform.h"
#include "model/memory_config.h"
#include "text/chat.h"

namespace infini {
namespace {

// The shortest decimal number that is this float: 1e-6 rather than 9.99999997475242708e-07.
double tidy(float value) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  double result = value;
  platform::real_from_chars(digits, end, result);
  return result;
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

}  // namespace

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
      .add("compute", name_of(model.weights().products))
      .add("gemm", name_of(model.rules().choice.library))
      .add("weight_bytes", model.weights().bytes())
      .add("tensor_types", tensor_types(model))
      .add("adapted_matrices", model.adapter() ? model.adapter()->matrices() : 0)
      .add("trained_memory", memory.trained)
      .add("memory_heads", memory_heads)
      .add("windowed_layers", windowed)
      .add("segment", memory.segment)
      .add("carry", memory.carry)
      .add("sinks", memory.sinks)
      .add("keep", memory.keep)
      .add("window", config.window())
      .add("window_type", name_of(model.rules().attention.shape.list_type()))
      .add("update", memory.kind->name())
      .add("first_segment", first_segment_name(memory.first_segment_gated))
      .add("epsilon", tidy(memory.epsilon));
  return json;
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

}  // namespace infini
