#include "model/weights.h"

#include <algorithm>

#include "gemm/choose.h"
#include "model/packing.h"

namespace infini {
namespace {

bool any_blocks(const Weights &weights) {
  const auto has = [](const WeightMatrix &matrix) {
    return std::any_of(matrix.pieces.begin(), matrix.pieces.end(), [](const auto &piece) { return piece.in_blocks(); });
  };
  return has(weights.output) || std::any_of(weights.layers.begin(), weights.layers.end(), [&](const LayerWeights &l) {
           return has(l.qkv) || has(l.attention_output) || has(l.gate_up) || has(l.down);
         });
}

void check_finite(const Threads &threads, const Gguf &gguf, const GgufTensor &tensor) {
  const TensorPart part{&tensor, 0, tensor.rows()};
  parallel_for(threads, part.rows, 64, [&](int64_t begin, int64_t end) {
    std::vector<float> values(static_cast<size_t>(tensor.shape[0]));
    for (int64_t j = begin; j < end; ++j) unpack_row(part, j, tensor.shape[0], values.data());
  });
  gguf.release(tensor.data);
}

// Where a field's numbers go: a matrix, whose fields come one behind the other, or a vector.
WeightMatrix *matrix_of(Weights &weights, const TensorSpec &spec) {
  if (spec.field == Field::OUTPUT) return &weights.output;
  if (spec.layer < 0) return nullptr;
  LayerWeights &layer = weights.layers[spec.layer];
  switch (spec.field) {
    case Field::Q:
    case Field::K:
    case Field::V: return &layer.qkv;
    case Field::ATTENTION_OUTPUT: return &layer.attention_output;
    case Field::GATE:
    case Field::UP: return &layer.gate_up;
    case Field::DOWN: return &layer.down;
    default: return nullptr;
  }
}
std::vector<float> &vector_of(Weights &weights, const TensorSpec &spec) {
  if (spec.layer < 0) return weights.output_norm;
  LayerWeights &layer = weights.layers[spec.layer];
  switch (spec.field) {
    case Field::Q_BIAS:
    case Field::K_BIAS:
    case Field::V_BIAS: return layer.qkv_bias;
    case Field::Q_NORM: return layer.q_norm;
    case Field::K_NORM: return layer.k_norm;
    case Field::ATTENTION_OUTPUT_BIAS: return layer.attention_output_bias;
    case Field::ATTENTION_POST_NORM: return layer.attention_post_norm;
    case Field::FEED_FORWARD_NORM: return layer.feed_forward_norm;
    case Field::FEED_FORWARD_POST_NORM: return layer.feed_forward_post_norm;
    default: return layer.attention_norm;
  }
}

void step(Task *task, int64_t done) {
  if (!task) return;
  if (task->take_cancel()) fail(Status::CANCELLED, "opening the model was cancelled");
  task->advance_to(done);
}

}  // namespace

Weights::Weights(const Threads &threads, const Gguf &gguf, const Config &config, const Options &options,
                 NumberType floats, Task *task)
    : layers(static_cast<size_t>(config.layers)) {
  for (int l = 0; l < config.layers; ++l) {
    LayerWeights &layer = layers[l];
    for (int h = 0; h < config.heads; ++h) layer.gate_weight.push_back(config.gate_weight(l, h));
    if (const auto &bias = config.memory.probe.bias; !bias.empty() && config.memory.keep > 0)
      layer.keep_bias.assign(bias.begin() + l * config.heads, bias.begin() + (l + 1) * config.heads);
  }
  std::vector<Packing> packings;
  tied = true;
  for (const TensorSpec &spec : tensor_table(config)) {
    const TensorPart part = find_part(gguf, spec);
    if (spec.field == Field::EMBEDDING) {
      embedding = part.tensor;
    } else if (WeightMatrix *const matrix = matrix_of(*this, spec)) {
      if (spec.field == Field::OUTPUT) tied = !part;
      const TensorPart rows = part ? part : TensorPart{embedding, 0, spec.rows};  // the output, tied to the embedding
      if (packings.empty() || packings.back().matrix != matrix) packings.push_back({matrix, matrix == &output, {}});
      packings.back().parts.push_back(rows);
    } else {
      // An optional bias that a file has for q alone, say, is zero for the others.
      std::vector<float> &vector = vector_of(*this, spec);
      const std::vector<float> values =
          part ? unpack_vector(part, spec.columns) : std::vector<float>(static_cast<size_t>(spec.columns));
      vector.insert(vector.end(), values.begin(), values.end());
    }
  }
  // Every matrix is laid out before the first one is filled: they then lie side by side, and the system's large pages
  // span them, which makes reading them a fifth faster.
  for (Packing &packing : packings) lay_out(packing, options, floats);
  products = choose_block_compute(options.get_string("compute"), any_blocks(*this), floats);
  rows_type = products == Compute::INT8 ? NumberType::F32 : floats;
  for (LayerWeights &layer : layers)
    for (std::vector<float> *bias : {&layer.qkv_bias, &layer.attention_output_bias})
      if (std::all_of(bias->begin(), bias->end(), [](float x) { return x == 0; })) bias->clear();
  if (!tied) check_finite(threads, gguf, *embedding);  // else it is when it is packed

  if (task) task->begin("open", static_cast<int64_t>(packings.size()));
  for (size_t i = 0; i < packings.size(); ++i) {
    fill(threads, packings[i], gguf);
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

int64_t Weights::bytes() const {
  int64_t total = output.bytes();
  int64_t floats = static_cast<int64_t>(output_norm.size());
  for (const LayerWeights &layer : layers) {
    for (const WeightMatrix *matrix : {&layer.qkv, &layer.attention_output, &layer.gate_up, &layer.down})
      total += matrix->bytes();
    for (const std::vector<float> *vector :
         {&layer.attention_norm, &layer.qkv_bias, &layer.q_norm, &layer.k_norm, &layer.attention_output_bias,
          &layer.attention_post_norm, &layer.feed_forward_norm, &layer.feed_forward_post_norm, &layer.gate_weight,
          &layer.keep_bias})
      floats += static_cast<int64_t>(vector->size());
  }
  return total + floats * static_cast<int64_t>(sizeof(float));
}

}  // namespace infini
