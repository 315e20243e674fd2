// A model: configuration, weights packed for this processor, tokenizer. Immutable once open.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/options.h"
#include "base/parallel.h"
#include "base/task.h"
#include "model/config.h"
#include "model/weights.h"
#include "text/tokenizer.h"

namespace infini {

// What `create` needs; the rest of a Config follows from it.
struct CreateConfig {
  std::string name = "created", architecture = "llama";
  int layers = 4, width = 256, heads = 4, kv_heads = 4, head_size = 0, hidden = 704;
  int vocabulary = 256, context = 2048, window = 0;
  bool tied = false;
  double embedding_deviation = 0.02, rope_base = 10000, norm_epsilon = 1e-5;
  int segment = 64, carry = 0, sinks = 0;
  std::string update = "delta", first_segment = "gated";
  double epsilon = 1e-6, gate = 0;
  int64_t seed = 0;
  std::string tokenizer;

  template <class Visitor>
  void fields(Visitor &v) {
    constexpr double kInt = 2147483647, kFloat = 3.4e38;
    v("name", name, "", "which the model is known by");
    v("architecture", architecture, architecture_choices().c_str(), "as general.architecture of a GGUF file says it");
    v("layers", layers, 1, 4096, "each attention and feed-forward");
    v("width", width, 1, 1 << 20, "of the residual stream");
    v("heads", heads, 1, 1 << 16, "of queries, in a layer");
    v("kv_heads", kv_heads, 1, 1 << 16, "of keys and values: at most as many");
    v("head_size", head_size, 0, 1024, "even; 0: width / heads");
    v("hidden", hidden, 1, 1 << 22, "width of a feed-forward layer within");
    v("vocabulary", vocabulary, 1, 1 << 24, "tokens; a tokenizer brings its own number");
    v("context", context, 1, kInt, "tokens that the model is made for");
    v("window", window, 0, 1 << 24,
      "tokens, of layers that the architecture gives a window of their own; 0: as it says");
    v("tied", tied, "the output layer is the embedding");
    v("embedding_deviation", embedding_deviation, 1e-30, 1000,
      "of its random numbers; what layers add to it has deviations near 1 / sqrt(2 layers)");
    v("rope_base", rope_base, 0, kFloat, "of the rotary angles");
    v("norm_epsilon", norm_epsilon, 0, kFloat, "added to the mean of squares");
    v("segment", segment, 1, kInt / 4, "tokens of a segment");
    v("carry", carry, 0, kInt / 4, "tokens before the segment that local attention sees");
    v("sinks", sinks, 0, 65536, "first tokens of the stream that local attention always sees");
    v("update", update, "", "kind of memory: delta or linear");
    v("first_segment", first_segment, "gated|ungated", "whether gates are applied while the memory is empty");
    v("epsilon", epsilon, 0, kFloat, "added to the denominator of the retrieval");
    v("gate", gate, "-inf", -kFloat, kFloat, "beta of every head, whose weight is sigmoid(beta); -inf: shut");
    v("seed", seed, -0x1p63, 0x1p63, "the same seed gives the same weights");
    v("tokenizer", tokenizer, "",
      "path of a GGUF file whose tokenizer, and so vocabulary, the model takes over; empty: tokens only");
  }
};

// That option "threads" asks for.
int threads_of(const Options &options);

class Model {
 public:
  // Reads, checks and packs the file's weights. `task` may be null; cancelling throws CANCELLED.
  static std::shared_ptr<const Model> open(const std::string &path, const Options &options, Task *task = nullptr);
  // From keys and tensors in memory; `gguf` is kept for save().
  static std::shared_ptr<const Model> build(Gguf gguf, const Options &options, Task *task = nullptr,
                                            Status impossible = Status::FORMAT);
  // Random weights. INVALID_ARGUMENT for a configuration that no model can have.
  static std::shared_ptr<const Model> create(const CreateConfig &config, const Options &options, Task *task = nullptr);

  void save(const std::string &path, Task *task = nullptr) const { gguf_.save(path, task); }

  bool has_tokenizer() const { return tokenizer_ != nullptr; }
  const Tokenizer &tokenizer() const;  // STATE error where there is none
  // Whether a sentence ends with the token, where sentences are kept.
  bool ends_sentence(int32_t token) const {
    return static_cast<size_t>(token) < ends_sentence_.size() && ends_sentence_[static_cast<size_t>(token)];
  }
  bool has_weights() const { return weights_ != nullptr; }  // false: the file was a tokenizer alone
  const Config &config() const;                             // STATE error where there are no weights
  const Weights &weights() const;
  const Gguf &gguf() const { return gguf_; }
  // A hash over configuration, tokenizer and weights: 32 hexadecimal digits. Computed at the first call.
  const std::string &fingerprint() const;
  int64_t parameters() const;  // number of weights
  ThreadPool &threads() const { return threads_; }

 private:
  Model() = default;
  Gguf gguf_;
  std::unique_ptr<const Tokenizer> tokenizer_;
  std::unique_ptr<const Config> config_;
  std::unique_ptr<const Weights> weights_;
  std::vector<bool> ends_sentence_;
  mutable std::once_flag fingerprint_once_;
  mutable std::string fingerprint_;
  mutable ThreadPool threads_;
};

}  // namespace infini
