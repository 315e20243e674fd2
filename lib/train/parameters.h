// A model's weights as training holds them: f32 masters, one after the other in one array, so that gradients and
// optimizer states can have the same layout. Matrices that are frozen have none: they stay in the model's file.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "model/model.h"

namespace infini {

struct Parameter {
  std::string name;  // of its tensor (model/plan.h); of the gates: their key in the file
  Role role;
  int64_t rows, columns;        // outputs and inputs; a norm has one row; gates are [layers][heads]
  int64_t offset;               // of its master
  std::string projection = {};  // as TensorSpec says
  bool behind = false;          // the one before it, in the same matrix, as TensorSpec says
  bool frozen = false;          // there is no master
  int64_t size() const { return rows * columns; }
};

class Parameters {
 public:
  // Unpacks every tensor of the model, of whatever type, but for those of which `frozen` says that they are: matrices,
  // all that one is made of or nothing. These must be finite too.
  using Frozen = std::function<bool(const TensorSpec &)>;
  Parameters(const Threads &threads, const Model &model, const Frozen &frozen = {}, Task *task = nullptr);

  // Indices in list(), by field of the table of tensors; kNone: the layer has none. q, k and v are contiguous, and so
  // are gate and up: each group is one matrix.
  static constexpr size_t kNone = SIZE_MAX;
  class Layer {
   public:
    Layer() { indices_.fill(kNone); }
    size_t operator[](Field field) const { return indices_[static_cast<size_t>(field)]; }
    size_t &operator[](Field field) { return indices_[static_cast<size_t>(field)]; }
    std::vector<size_t> all() const;  // that it has

   private:
    std::array<size_t, static_cast<size_t>(Field::OUTPUT) + 1> indices_;
  };
  const std::vector<Parameter> &list() const { return list_; }
  const Parameter &operator[](size_t index) const { return list_[index]; }
  const std::vector<Layer> &layers() const { return layers_; }
  size_t embedding() const { return others_[Field::EMBEDDING]; }
  size_t output_norm() const { return others_[Field::OUTPUT_NORM]; }
  // The embedding, where they are tied.
  size_t output() const { return others_[Field::OUTPUT] != kNone ? others_[Field::OUTPUT] : embedding(); }
  size_t gates() const { return gates_; }

  // Of the matrix that begins with this parameter: its rows, and where the model's file has them.
  int64_t matrix_rows(size_t first) const;
  std::vector<TensorPart> matrix_parts(size_t first) const;
  // Rows [row, row + rows) of any parameter but the gates.
  void read(size_t index, int64_t row, int64_t rows, float *values) const;

  int64_t size() const { return size_; }  // floats of the array, gaps between parameters included
  float *values() { return values_.data(); }
  const float *values() const { return values_.data(); }
  float *of(size_t index) { return values_.data() + list_[index].offset; }
  const float *of(size_t index) const { return values_.data() + list_[index].offset; }

  // The model's file with these weights. Parameters that have changed are written as `type` (norms and biases as F32),
  // with what `merge`, if there is one, adds to rows of them; the others keep their bytes. The keys infini.* come from
  // `memory`.
  struct FileForm {
    std::vector<bool> changed;
    TensorType type;
    MemoryConfig memory;
    std::function<void(size_t index, int64_t row, int64_t rows, float *values)> merge = {};
  };
  Gguf gguf(const Model &model, const FileForm &form) const;
  // The same to a file, tensor by tensor.
  void write(const Model &model, const FileForm &form, const std::string &path, Task *task) const;

 private:
  // The parameters in a tensor of the file, in order, if any of them has changed; else none.
  std::vector<size_t> rewritten(const GgufTensor &tensor, const FileForm &form) const;
  TensorType type_of(const GgufTensor &tensor, const FileForm &form) const;
  void write_tensor(const GgufTensor &tensor, TensorType type, const FileForm &form, const Gguf::Put &put) const;

  std::vector<Parameter> list_;
  std::vector<TensorPart> parts_;  // [list without gates]: where the model's file holds each
  std::vector<Layer> layers_;
  Layer others_;  // of no layer
  size_t gates_ = 0;
  int64_t size_ = 0;
  Buffer<float> values_;
};

}  // namespace infini
