#include "model/footprint.h"

#include <algorithm>

#include "base/status.h"
#include "memory/kind.h"

namespace infini {

JsonObject footprint(const FootprintShape &s, int64_t tokens) {
  constexpr int64_t kStore = 65000, kVectors = 100;  // the paper's kNN store, in one layer, and its RMT summaries
  const int64_t token = s.key_size + s.value_size;   // of one head of one layer
  if (tokens < 0) fail(Status::INVALID_ARGUMENT, "tokens is ", tokens, ", but must not be negative");
  if (tokens > INT64_MAX / 2 / (token * s.heads * s.layers * s.value_bytes))
    fail(Status::INVALID_ARGUMENT, "tokens is ", tokens, ": too large to count bytes");
  JsonList methods;
  const auto add = [&](const char *method, int64_t values, int64_t bytes_each) {
    methods.add(JsonObject().add("method", method).add("values", values).add("bytes", values * bytes_each));
  };
  const int64_t cache = token * s.heads * std::min(tokens, s.segment) * s.layers;
  add("kv_cache", token * s.kv_heads * tokens * s.layers, s.value_bytes);
  add("transformer_xl", cache, s.value_bytes);
  add("memorizing_transformer", cache + token * s.heads * std::min(tokens, kStore), s.value_bytes);
  add("rmt", s.width * kVectors * s.layers * 2, s.value_bytes);
  add("infini_attention", memory_numbers(s.key_size, s.value_size) * s.kv_heads * s.memory_layers, 4);
  return JsonObject().add("tokens", tokens).add("methods", methods);
}

JsonObject footprint(const Model &model, int64_t tokens) {
  const Config &c = model.config();
  const int64_t value_bytes = bytes_of(model.rules().choice.floats);
  const auto with_memory =
      std::count_if(c.plans.begin(), c.plans.end(), [](const LayerPlan &plan) { return plan.has_memory(); });
  JsonObject json = footprint(
      {c.layers, c.heads, c.kv_heads, c.key_size, c.value_size, c.width, c.memory.segment, value_bytes, with_memory},
      tokens);
  const AttentionShape &shape = model.rules().attention.shape;
  const int64_t scales = shape.int8 ? 2 * sizeof(float) : 0,  // of int8
      token_bytes = c.kv_heads * ((c.key_size + c.value_size) * bytes_of(shape.list_type()) + scales);
  int64_t window = 0;  // layers may have windows of their own
  for (size_t layer = 0; layer < c.plans.size(); ++layer)
    window += std::min(tokens, model.rules().of(layer).shape.most_keys()) * token_bytes;
  return json.add("window_bytes", window);
}

}  // namespace infini
