#include "model/weights.h"

#include <algorithm>

#include "base/log.h"
#include "model/packing.h"

namespace infini {
namespace {

void check_finite(const Threads &threads, const Gguf &gguf, const GgufTensor &tensor) {
  const TensorPart part{&tensor, 0, tensor.rows()};
  parallel_for(threads, part.rows, 64, [&](int64_t begin, int64_t end) {
    std::vector<float> values(static_cast<size_t>(tensor.shape[0]));
    for (int64_t j = begin; j < end; ++j) unpack_row(part, j, tensor.shape[0], values.data());
  });
  gguf.release(tensor.data);
}

void step(Task *task, int64_t done) {
  if (!task) return;
  if (task->take_cancel()) fail(Status::CANCELLED, "opening the model was cancelled");
  task->advance_to(done);
}

}  // namespace

Weights::Weights(const Threads &threads, const Gguf &gguf, const Config &config, const Rules &rules,
                 const Adapter *adapter, Task *task)
    : layers(static_cast<size_t>(config.layers)) {
  for (int l = 0; l < config.layers; ++l) {
    LayerWeights &layer = layers[l];
    for (int h = 0; h < config.heads; ++h) layer.gate_weight.push_back(config.gate_weight(l, h));
    if (const auto &bias = config.memory.probe.bias; !bias.empty() && config.memory.keep > 0)
      layer.keep_bias.assign(bias.begin() + l * config.heads, bias.begin() + (l + 1) * config.heads);
    bytes_ += static_cast<int64_t>((layer.gate_weight.size() + layer.keep_bias.size()) * sizeof(float));
  }
  const std::vector<TensorSpec> table = tensor_table(config);
  std::vector<Packing> packings;
  for (const TensorSpec &spec : table) {
    const TensorPart part = find_part(gguf, spec);
    if (spec.field == Field::EMBEDDING) {
      embedding = part.tensor;
    } else if (spec.field == Field::OUTPUT) {
      tied = !part;
      packings.push_back({&output, true, {tied ? TensorPart{embedding, 0, spec.rows} : part}, {&spec}});
    } else if (spec.matrix) {
      WeightMatrix *const matrix = &(layers[spec.layer].*spec.matrix);
      if (packings.empty() || packings.back().matrix != matrix) packings.push_back({matrix, false, {}, {}});
      packings.back().parts.push_back(part);
      packings.back().specs.push_back(&spec);
    } else {
      // An optional bias that a file has for q alone, say, is zero for the others.
      std::vector<float> &vector = spec.vector ? layers[spec.layer].*spec.vector : output_norm;
      const std::vector<float> values =
          part ? unpack_vector(part, spec.columns) : std::vector<float>(static_cast<size_t>(spec.columns));
      vector.insert(vector.end(), values.begin(), values.end());
    }
  }
  // Every matrix is laid out before the first one is filled: they then lie side by side, and the system's large pages
  // span them, which makes reading them a fifth faster.
  bool any_blocks = false;
  for (Packing &packing : packings) {
    lay_out(packing, rules.asked, rules.choice);
    bytes_ += packing.matrix->bytes();
    for (const WeightMatrix::Piece &piece : packing.matrix->pieces) any_blocks |= piece.in_blocks();
  }
  products = any_blocks ? rules.choice.of_blocks : compute_in(rules.choice.floats);
  if (rules.asked.compute == Compute::INT8 && !any_blocks)
    log(LogLevel::WARNING, "compute falls back from int8 to floats: no weights are kept in blocks of 8 bits or fewer");
  for (const TensorSpec &spec : table) {
    if (!spec.vector) continue;
    std::vector<float> &vector = layers[spec.layer].*spec.vector;
    if (spec.role == Role::BIAS && std::ranges::all_of(vector, [](float x) { return x == 0; })) vector.clear();
    else bytes_ += spec.columns * int64_t{sizeof(float)};
  }
  bytes_ += static_cast<int64_t>(output_norm.size() * sizeof(float));
  if (!tied) check_finite(threads, gguf, *embedding);  // else it is when it is packed

  if (task) task->begin("open", static_cast<int64_t>(packings.size()));
  for (size_t i = 0; i < packings.size(); ++i) {
    fill(threads, packings[i], gguf);
    if (adapter)
      of_file(adapter->gguf().name(), [&] {
        LowRank &added = packings[i].matrix->low_rank = adapter->low_rank(packings[i].specs, rows_type());
        bytes_ += added.bytes();
      });
    step(task, static_cast<int64_t>(i + 1));
  }
}

void Weights::embed(int32_t token, float *x) const {
  // From the output where that is the same: the file's own numbers would take memory once more.
  if (tied && unpack_column(output, *embedding, token, x)) return;
  const int64_t n = embedding->shape[0];
  const TensorLayout *layout = tensor_layout(embedding->type);
  unpack(embedding->type, embedding->data.data() + token * layout->bytes(n), n, x);
}

}  // namespace infini
