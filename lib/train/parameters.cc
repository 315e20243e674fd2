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

Parameters::Parameters(const Threads &threads, const Model &model, const Frozen &frozen, Task *task) {
  const Config &c = model.config();
  layers_.resize(static_cast<size_t>(c.layers));
  const std::vector<TensorSpec> table = tensor_table(c);
  for (const TensorSpec &spec : table) {
    const TensorPart part = find_part(model.gguf(), spec);  // checked when the model was opened
    if (!part) continue;
    const bool behind = &spec != table.data() && spec.behind(*(&spec - 1)), stays = frozen && frozen(spec);
    if (!behind) size_ = round_up(size_, 16);
    (spec.layer < 0 ? others_ : layers_[spec.layer])[spec.field] = list_.size();
    list_.push_back({spec.name, spec.role, spec.rows, spec.columns, size_, spec.projection, behind, stays});
    parts_.push_back(part);
    if (!stays) size_ += spec.rows * spec.columns;
  }
  gates_ = list_.size();
  size_ = round_up(size_, 16);
  list_.push_back({"infini.memory.gate", Role::MEMORY_GATE, c.layers, c.heads, size_});
  size_ = round_up(size_ + list_.back().size(), 16);
  values_ = Buffer<float>(size_);

  Watch watch(task, "create", static_cast<int64_t>(parts_.size()), "creating the trainer was cancelled");
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Parameter &p = list_[i];
    watch.advance(1);
    of_file(model.gguf().name(), [&] {
      parallel_for(threads, p.rows, 64, [&](int64_t begin, int64_t end) {
        std::vector<float> checked(static_cast<size_t>(p.frozen ? p.columns : 0));
        for (int64_t row = begin; row < end; ++row)
          unpack_row(parts_[i], row, p.columns, p.frozen ? checked.data() : of(i) + row * p.columns);
      });
    });
    model.gguf().release(parts_[i].tensor->data);
  }
  std::memcpy(of(gates_), c.memory.gate.data(), c.memory.gate.size() * sizeof(float));
}

int64_t Parameters::matrix_rows(size_t first) const {
  int64_t rows = 0;
  for (const TensorPart &part : matrix_parts(first)) rows += part.rows;
  return rows;
}

std::vector<TensorPart> Parameters::matrix_parts(size_t first) const {
  size_t end = first + 1;
  while (list_[end].behind) ++end;  // the gates, which are the last, are behind nothing
  return {parts_.begin() + static_cast<ptrdiff_t>(first), parts_.begin() + static_cast<ptrdiff_t>(end)};
}

void Parameters::read(size_t index, int64_t row, int64_t rows, float *values) const {
  const Parameter &p = list_[index];
  if (!p.frozen) std::copy_n(of(index) + row * p.columns, rows * p.columns, values);
  else
    for (int64_t i = 0; i < rows; ++i) unpack_row(parts_[index], row + i, p.columns, values + i * p.columns);
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
  constexpr int64_t kPiece = 1 << 20;  // numbers
  const std::vector<size_t> within = rewritten(tensor, form);
  if (within.empty()) put(tensor.data);
  std::vector<float> values;
  for (const size_t i : within) {  // in the order of the table of tensors
    const Parameter &p = list_[i];
    const int64_t piece = std::max<int64_t>(1, kPiece / p.columns);
    for (int64_t row = 0; row < p.rows; row += piece) {
      const int64_t rows = std::min(piece, p.rows - row);
      values.resize(static_cast<size_t>(rows * p.columns));
      read(i, row, rows, values.data());
      if (form.merge) form.merge(i, row, rows, values.data());
      if (type == TensorType::F32) put(std::as_bytes(std::span(values)));
      else put(packed(type, values));
    }
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
