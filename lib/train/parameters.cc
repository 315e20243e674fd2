#include "train/parameters.h"

#include <algorithm>
#include <cstring>

#include "model/memory_config.h"

namespace infini {
namespace {

std::vector<std::byte> packed(TensorType type, std::span<const float> values) {
  std::vector<std::byte> bytes(2 * values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t number = type == TensorType::F16 ? float_to_half(values[i]) : float_to_bf16(values[i]);
    std::memcpy(bytes.data() + 2 * i, &number, 2);
  }
  return bytes;
}

}  // namespace

std::vector<size_t> Parameters::Layer::all() const {
  std::vector<size_t> there;
  for (const size_t index : indices_)
    if (index != kNone) there.push_back(index);
  return there;
}

Parameters::Parameters(const Threads &threads, const Model &model, Task *task) {
  const Config &c = model.config();
  layers_.resize(static_cast<size_t>(c.layers));
  const std::vector<TensorSpec> table = tensor_table(c);
  for (const TensorSpec &spec : table) {
    const TensorPart part = find_part(model.gguf(), spec);  // checked when the model was opened
    if (!part) continue;
    const bool behind = &spec != table.data() && spec.behind(*(&spec - 1));
    if (!behind) size_ = round_up(size_, 16);
    (spec.layer < 0 ? others_ : layers_[spec.layer])[spec.field] = list_.size();
    list_.push_back({spec.name, spec.role, spec.rows, spec.columns, size_, spec.projection, behind});
    parts_.push_back(part);
    size_ += spec.rows * spec.columns;
  }
  gates_ = list_.size();
  size_ = round_up(size_, 16);
  list_.push_back({"infini.memory.gate", Role::GATE, c.layers, c.heads, size_});
  size_ = round_up(size_ + list_.back().size(), 16);
  values_ = Buffer<float>(size_);

  Watch watch(task, "create", static_cast<int64_t>(parts_.size()), "creating the trainer was cancelled");
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Parameter &p = list_[i];
    watch.advance(1);
    of_file(model.gguf().name(), [&] {
      parallel_for(threads, p.rows, 64, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) unpack_row(parts_[i], row, p.columns, of(i) + row * p.columns);
      });
    });
    model.gguf().release(parts_[i].tensor->data);
  }
  std::memcpy(of(gates_), c.memory.gate.data(), c.memory.gate.size() * sizeof(float));
}

std::vector<size_t> Parameters::rewritten(const GgufTensor &tensor, const FileForm &form) const {
  std::vector<size_t> within;
  for (size_t i = 0; i < parts_.size(); ++i)
    if (parts_[i].tensor->name == tensor.name) within.push_back(i);
  const bool changed = std::any_of(within.begin(), within.end(), [&](size_t i) { return form.changed[i]; });
  return changed ? within : std::vector<size_t>();
}

TensorType Parameters::type_of(const GgufTensor &tensor, const FileForm &form) const {
  const std::vector<size_t> within = rewritten(tensor, form);
  if (within.empty()) return tensor.type;
  const Role role = list_[within[0]].role;
  return role == Role::NORM || role == Role::BIAS ? TensorType::F32 : form.type;
}

void Parameters::write_tensor(const GgufTensor &tensor, TensorType type, const FileForm &form,
                              const Gguf::Put &put) const {
  constexpr size_t kPiece = 1 << 20;
  const std::vector<size_t> within = rewritten(tensor, form);
  if (within.empty()) put(tensor.data);
  for (const size_t i : within)  // in the order of the table of tensors
    for (std::span<const float> left(of(i), static_cast<size_t>(list_[i].size())); !left.empty();) {
      const auto piece = left.first(std::min(left.size(), kPiece));
      if (type == TensorType::F32) put(std::as_bytes(piece));
      else put(packed(type, piece));
      left = left.subspan(piece.size());
    }
}

Gguf Parameters::gguf(const Model &model, const FileForm &form) const {
  Gguf out;
  for (const auto &[key, value] : model.gguf().entries()) out.set(key, value);
  write_memory(form.memory, out);
  for (const GgufTensor &tensor : model.gguf().tensors()) {
    const TensorType type = type_of(tensor, form);
    std::vector<std::byte> bytes;
    write_tensor(tensor, type, form,
                 [&](std::span<const std::byte> part) { bytes.insert(bytes.end(), part.begin(), part.end()); });
    out.add_tensor(tensor.name, type, tensor.shape, std::move(bytes));
  }
  return out;
}

void Parameters::write(const Model &model, const FileForm &form, const std::string &path, Task *task) const {
  Gguf out = model.gguf();
  write_memory(form.memory, out);
  out.save(
      path, [&](const GgufTensor &tensor) { return type_of(tensor, form); },
      [&](const GgufTensor &tensor, TensorType type, const Gguf::Put &put) { write_tensor(tensor, type, form, put); },
      task);
}

}  // namespace infini
