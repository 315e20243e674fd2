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
  int layers = 4, width = 256, heads = 4, kv_heads = 4, head_size = 0 /* 0: width / heads */, hidden = 704;
  int vocabulary = 256, context = 2048;
  int window = 0;  // of layers that the architecture gives one; 0: as the architecture says
  bool tied = false;
  double embedding_deviation = 0.02;  // of its random numbers
  double rope_base = 10000, norm_epsilon = 1e-5;
  int segment = 64, carry = 0, sinks = 0;
  std::string update = "delta", first_segment = "gated";
  double epsilon = 1e-6, gate = 0;  // the same beta for every head
  int64_t seed = 0;
};

class Model {
 public:
  // Reads, checks and packs the file's weights. `task` may be null; cancelling throws CANCELLED.
  static std::shared_ptr<const Model> open(const std::string &path, const Options &options, Task *task = nullptr);
  // From keys and tensors in memory; `gguf` is kept for save().
  static std::shared_ptr<const Model> build(Gguf gguf, const Options &options, Task *task = nullptr,
                                            Status impossible = Status::FORMAT);
  // Random weights. `tokenizer_path` (may be empty): a GGUF whose tokenizer the model takes over, which
  // then fixes the vocabulary; without one the model has tokens only, no text.
  static std::shared_ptr<const Model> create(const CreateConfig &config, const std::string &tokenizer_path,
                                             const Options &options);

  void save(const std::string &path) const { gguf_.save(path); }

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
