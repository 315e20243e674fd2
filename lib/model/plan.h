// What a model is made of: a plan for each layer, and one table of the tensors that hold its numbers. An architecture
// is a function from a file's keys to plans. Opening, creating, refusing what is not known, training and adapters come
// from plans and table; what a plan cannot say yet is new code, in `model/forward.cc` and `train/graph*.cc`.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "format/gguf.h"

namespace infini {

struct Config;
struct RopeConfig;
struct Keys;
struct LayerWeights;
struct WeightMatrix;

enum class Activation { SILU, GELU };     // of the feed-forward's gate; GELU by its tanh formula
enum class HeadNorm { NONE, HEAD, ROW };  // what a norm of q or of k spans: each head, or all heads together
enum class Presence { NONE, OPTIONAL, REQUIRED };

constexpr int kNoRotation = -1;

struct LayerPlan {
  bool norm_before = true;  // of what attention and feed-forward are fed
  bool norm_after = false;  // of what they add to the residual stream
  HeadNorm head_norm = HeadNorm::NONE;
  Presence qkv_bias = Presence::NONE, output_bias = Presence::NONE;  // of q, k, v; of the attention's output
  Activation activation = Activation::SILU;
  int rotation = 0;    // index into Config::ropes, or kNoRotation: queries and keys stay as they are
  int window = 0;      // tokens that a query sees, its own included; 0: sinks, carry and segment, and the memory
  float scale = 0;     // of scores; 0: 1 / sqrt(key_size)
  float soft_cap = 0;  // scores become cap * tanh(score / cap); 0: they stay

  bool has_memory() const { return window == 0; }
};

struct Architecture {
  const char *name;
  bool rope_pairs_adjacent;  // true: rotates (2i, 2i+1); false: (i, i + d/2)
  // Completes `config`, whose shape, layer plans (as above) and first rotation have been read.
  void (*plan)(const Keys &keys, Config &config);
  // What other programs ask of its files, and so what a created one has; files without it open too.
  bool tied = false;            // no output matrix of its own
  bool fused = false;           // q, k and v in one tensor, gate and up in another
  const char *scale = nullptr;  // a key, of a scale, which is 1
};
const Architecture &find_architecture(const std::string &name);  // UNSUPPORTED, listing the known ones
const std::string &architecture_choices();                       // "llama|qwen2|..."

// --- tensors

enum class Role { EMBEDDING, OUTPUT, NORM, ATTENTION, FEED_FORWARD, BIAS, MEMORY_GATE };

// In the order of the table.
enum class Field {
  EMBEDDING,
  ATTENTION_NORM,
  Q,
  K,
  V,
  Q_BIAS,
  K_BIAS,
  V_BIAS,
  Q_NORM,
  K_NORM,
  ATTENTION_OUTPUT,
  ATTENTION_OUTPUT_BIAS,
  ATTENTION_POST_NORM,
  FEED_FORWARD_NORM,
  FFN_GATE,
  UP,
  DOWN,
  FEED_FORWARD_POST_NORM,
  OUTPUT_NORM,
  OUTPUT
};

// Of the random numbers of a new model's embedding, unless asked otherwise, and of its output layer.
constexpr double kTokenDeviation = 0.02;

// [rows] outputs of [columns] inputs; a norm or a bias is one row.
struct TensorSpec {
  Field field;
  Role role;
  int layer;         // -1: of no layer
  std::string name;  // in GGUF
  int64_t rows, columns;
  bool optional;
  double deviation;  // of a new model's random numbers; 0: all ones, of a bias zeros
  // Where a file keeps it fused with others: that tensor, its rows in all, and the first that is this one's. For a bias
  // these count columns. Empty: never.
  std::string fused;
  int64_t fused_rows = 0, fused_first = 0;
  // Where the numbers of a layer's tensor go: columns of a matrix, or a vector. Tensors that share one stand together.
  WeightMatrix LayerWeights::*matrix = nullptr;
  std::vector<float> LayerWeights::*vector = nullptr;
  const char *projection = "";  // as settings of adapters call the matrix; empty: it has none

  // Whether this one's numbers come behind those of the tensor before it in the table, in the same matrix.
  bool behind(const TensorSpec &before) const { return matrix && layer == before.layer && matrix == before.matrix; }
};

// Every tensor of a model, in the order in which a new file holds them.
std::vector<TensorSpec> tensor_table(const Config &config);
const std::string &projection_choices();  // "q|k|v|o|..."

// Divisors of a rotation's frequencies that a file may have: for any window, for one that is within the original
// context, and for a longer one.
std::array<TensorSpec, 3> rope_factors(const RopeConfig &rope);

// Where a file keeps what the spec asks for: `rows` rows of a tensor from `first` on (of a bias: columns).
struct TensorPart {
  const GgufTensor *tensor = nullptr;  // null: the file has none
  int64_t first = 0, rows = 0;
  explicit operator bool() const { return tensor != nullptr; }
};
// FORMAT where a tensor that must be there is missing, or has another shape.
TensorPart find_part(const Gguf &gguf, const TensorSpec &spec);
// FORMAT as find_part(); UNSUPPORTED where the file has a tensor that neither the table nor a rotation knows.
void check_tensors(const Gguf &gguf, const Config &config);
// Numbers of one row of the part: [columns], finite ones (FORMAT otherwise).
void unpack_row(const TensorPart &part, int64_t row, int64_t columns, float *values);
std::vector<float> unpack_vector(const TensorPart &part, int64_t size);
std::string shape_text(const std::vector<int64_t> &shape);  // "[576, 1536]"

}  // namespace infini
