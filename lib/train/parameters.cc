#include "train/parameters.h"

#include <cstring>

#include "base/parallel.h"

namespace infini {
namespace {

std::vector<std::byte> packed(TensorType type, const float *values, int64_t count) {
  std::vector<std::byte> bytes(static_cast<size_t>(count) * (type == TensorType::F32 ? 4 : 2));
  if (type == TensorType::F32) {
    std::memcpy(bytes.data(), values, bytes.size());
    return bytes;
  }
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t number = type == TensorType::F16 ? float_to_half(values[i]) : float_to_bf16(values[i]);
    std::memcpy(bytes.data() + 2 * i, &number, 2);
  }
  return bytes;
}

}  // namespace

size_t Parameters::add(const std::string &name, Role role, int layer, int64_t rows, int64_t columns, bool own_line) {
  if (own_line) size_ = round_up(size_, 16);
  list_.push_back({name, role, layer, rows, columns, size_});
  size_ += rows * columns;
  return list_.size() - 1;
}

Parameters::Parameters(const Model &model) {
  const Config &c = model.config();
  embedding_ = add("token_embd.weight", Role::EMBEDDING, -1, c.vocabulary, c.width);
  for (int l = 0; l < c.layers; ++l) {
    const auto weight = [&](const char *name, Role role, int64_t rows, int64_t columns, bool own_line = true) {
      return add(cat("blk.", l, ".", name, ".weight"), role, l, rows, columns, own_line);
    };
    Layer layer{};
    layer.attention_norm = weight("attn_norm", Role::NORM, 1, c.width);
    layer.q = weight("attn_q", Role::ATTENTION, int64_t{c.heads} * c.key_size, c.width);
    layer.k = weight("attn_k", Role::ATTENTION, int64_t{c.kv_heads} * c.key_size, c.width, false);
    layer.v = weight("attn_v", Role::ATTENTION, int64_t{c.kv_heads} * c.value_size, c.width, false);
    layer.attention_output = weight("attn_output", Role::ATTENTION, c.width, int64_t{c.heads} * c.value_size);
    layer.feed_forward_norm = weight("ffn_norm", Role::NORM, 1, c.width);
    layer.gate = weight("ffn_gate", Role::FEED_FORWARD, c.hidden, c.width);
    layer.up = weight("ffn_up", Role::FEED_FORWARD, c.hidden, c.width, false);
    layer.down = weight("ffn_down", Role::FEED_FORWARD, c.width, c.hidden);
    layers_.push_back(layer);
  }
  output_norm_ = add("output_norm.weight", Role::NORM, -1, 1, c.width);
  const bool tied = !model.gguf().find_tensor("output.weight");
  output_ = tied ? embedding_ : add("output.weight", Role::OUTPUT, -1, c.vocabulary, c.width);
  gates_ = add("infini.memory.gate", Role::GATE, -1, c.layers, c.heads);
  size_ = round_up(size_, 16);
  values_ = Buffer<float>(size_);

  for (const Parameter &p : list_) {
    if (p.role == Role::GATE) continue;
    const GgufTensor *tensor = model.gguf().find_tensor(p.name);  // checked when the model was opened
    const TensorLayout *layout = tensor_layout(tensor->type);
    const int64_t row_bytes = p.columns / layout->block_elements * layout->block_bytes;
    parallel_for(p.rows, 64, [&](int64_t begin, int64_t end) {
      unpack(tensor->type, tensor->data.data() + begin * row_bytes, (end - begin) * p.columns,
             values_.data() + p.offset + begin * p.columns);
    });
  }
  std::memcpy(of(gates_), c.memory.gate.data(), c.memory.gate.size() * sizeof(float));
}

int64_t Parameters::count() const {
  int64_t total = 0;
  for (const Parameter &p : list_) total += p.size();
  return total;
}

Gguf Parameters::gguf(const Model &model, const std::vector<bool> &changed, TensorType type,
                      const MemoryConfig &memory) const {
  Gguf out;
  for (const auto &[key, value] : model.gguf().entries()) out.set(key, value);
  out.set("infini.version", uint32_t{1});
  out.set("infini.segment_length", static_cast<uint32_t>(memory.segment));
  out.set("infini.memory.update", std::string(memory.update == UpdateRule::DELTA ? "delta" : "linear"));
  out.set("infini.memory.first_segment", std::string(memory.first_segment_gated ? "gated" : "ungated"));
  out.set("infini.memory.epsilon", memory.epsilon);
  out.set("infini.local.carry", static_cast<uint32_t>(memory.carry));
  out.set("infini.local.sinks", static_cast<uint32_t>(memory.sinks));
  out.set_doubles("infini.memory.gate", {of(gates_), static_cast<size_t>(list_[gates_].size())});
  for (const GgufTensor &tensor : model.gguf().tensors()) {
    size_t index = 0;
    while (index < list_.size() && list_[index].name != tensor.name) ++index;
    if (index == list_.size() || !changed[index]) {
      out.add_tensor(tensor.name, tensor.type, tensor.shape, {tensor.data.begin(), tensor.data.end()});
    } else {
      const TensorType as = list_[index].role == Role::NORM ? TensorType::F32 : type;
      out.add_tensor(tensor.name, as, tensor.shape, packed(as, of(index), list_[index].size()));
    }
  }
  return out;
}

}  // namespace infini
