// A model: configuration, tokenizer, the tensors of its file, and, for streams, weights packed for this processor.
// Immutable once open.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/limits.h"
#include "base/options.h"
#include "base/parallel.h"
#include "base/task.h"
#include "model/config.h"
#include "model/rules.h"
#include "model/weights.h"
#include "text/tokenizer.h"

namespace infini {

// What `create` needs; the rest of a Config follows from it.
struct CreateConfig {
  std::string name = "created", architecture = "llama";
  int layers = 4, width = 256, heads = 4, kv_heads = 4, head_size = 0, hidden = 704;
  int vocabulary = 256, context = 2048, window = 0;
  bool tied = false;
  double embedding_deviation = kTokenDeviation, rope_base = 10000, norm_epsilon = 1e-5;
  int segment = 64, carry = 0, sinks = 0;
  std::string update = default_memory().name(), first_segment = "gated";
  double epsilon = kMemoryEpsilon, gate = 0;
  int64_t seed = 0;
  std::string tokenizer;

  template <class Visitor>
  void fields(Visitor &v) {
    constexpr double kInt = 2147483647, kFloat = 3.4e38;
    v("name", name, "", "which the model is known by");
    v("architecture", architecture, architecture_choices().c_str(), "as general.architecture of a GGUF file says it");
    v("layers", layers, 1, kMostLayers, "each attention and feed-forward");
    v("width", width, 1, 1 << 20, "of the residual stream");
    v("heads", heads, 1, 1 << 16, "of queries, in a layer");
    v("kv_heads", kv_heads, 1, 1 << 16, "of keys and values: at most as many");
    v("head_size", head_size, 0, kMostHeadSize, "even; 0: width / heads");
    v("hidden", hidden, 1, 1 << 22, "width of a feed-forward layer within");
    v("vocabulary", vocabulary, 1, kMostVocabulary, "tokens; a tokenizer brings its own number");
    v("context", context, 1, kInt, "tokens that the model is made for");
    v("window", window, 0, kMostWindow,
      "tokens, of layers that the architecture gives a window of their own; 0: as it says");
    v("tied", tied, "the output layer is the embedding; always with Gemma");
    v("embedding_deviation", embedding_deviation, 1e-30, 1000,
      "of its random numbers; what layers add to it has deviations near 1 / sqrt(2 layers)");
    v("rope_base", rope_base, 0, kFloat, "of the rotary angles");
    v("norm_epsilon", norm_epsilon, 0, kFloat, "added to the mean of squares");
    v("segment", segment, 1, kMostAsked, "tokens of a segment");
    v("carry", carry, 0, kMostAsked, "tokens before the segment that local attention sees");
    v("sinks", sinks, 0, kMostSinks, "first tokens of the stream that local attention always sees");
    v("update", update, memory_kind_choices().c_str(), "kind of memory");
    v("first_segment", first_segment, "gated|ungated", "whether gates are applied while the memory is empty");
    v("epsilon", epsilon, 0, kFloat, "added to the denominator of the retrieval");
    v("gate", gate, "-inf", -kFloat, kFloat, "beta of every head, whose weight is sigmoid(beta); -inf: shut");
    v("seed", seed, -0x1p63, 0x1p63, "the same seed gives the same weights");
    v("tokenizer", tokenizer, "",
      "path of a GGUF file whose tokenizer, and so vocabulary, the model takes over; empty: tokens only");
  }
};

// How many the option asks for.
int threads_of(const ThreadOptions &options);

class Model {
 public:
  // What a model is opened for. TRAINING reads numbers from the file's tensors: none are packed, and none are checked
  // to be finite before they are read.
  enum class Use { STREAMS, TRAINING };
  // Reads and checks the file's keys and tensors. `task` may be null; cancelling throws CANCELLED.
  static std::shared_ptr<const Model> open(const std::string &path, const Options &options, Task *task = nullptr,
                                           Use use = Use::STREAMS);
  // From keys and tensors in memory; `gguf` is kept for save().
  static std::shared_ptr<const Model> build(Gguf gguf, const Options &options, Task *task = nullptr,
                                            Use use = Use::STREAMS, Status impossible = Status::FORMAT);
  // Random weights. INVALID_ARGUMENT for a configuration that no model can have.
  static std::shared_ptr<const Model> create(const CreateConfig &config, const Options &options, Task *task = nullptr);
  // This model for training: it shares all but the packed weights, whose memory goes with the last owner of this one.
  std::shared_ptr<const Model> for_training() const {
    base();
    return std::shared_ptr<const Model>(new Model(opened_));
  }

  // STATE for a model with an adapter.
  void save(const std::string &path, Task *task = nullptr) const { base().save(path, task); }

  bool has_tokenizer() const { return opened_->tokenizer != nullptr; }
  const Tokenizer &tokenizer() const;  // STATE error where there is none
  // Whether a sentence ends with the token, where sentences are kept.
  bool ends_sentence(int32_t token) const {
    const std::vector<bool> &ends = opened_->ends_sentence;
    return static_cast<size_t>(token) < ends.size() && ends[token];
  }
  // Tokens of the weights, or where there are none, of the tokenizer.
  int64_t vocabulary() const { return has_weights() ? config().vocabulary : tokenizer().size(); }
  bool has_weights() const { return opened_->config != nullptr; }  // false: the file is a tokenizer alone
  const Config &config() const;                                    // STATE error where there are no weights
  const Rules &rules() const { return *opened_->rules; }           // of a model that has weights
  const Weights &weights() const;                                  // STATE error where none are packed
  const Gemm &gemm() const { return *gemm_; }                      // what they are multiplied with
  const Gguf &gguf() const { return opened_->gguf; }
  // The same where it is all that the model is made of; STATE where there is an adapter too.
  const Gguf &base() const;
  const Adapter *adapter() const { return opened_->adapter.get(); }  // nullptr: there is none
  // A hash over configuration, tokenizer and weights: 32 hexadecimal digits. Computed at the first call.
  const std::string &fingerprint() const;
  int64_t parameters() const;  // number of weights
  // What a session with default options takes; 0 until the layer that has sessions notes it.
  std::atomic<int64_t> &session_bytes() const { return opened_->session_bytes; }
  ThreadPool &threads() const { return opened_->threads; }

 private:
  struct Opened {
    Gguf gguf;
    std::unique_ptr<const Tokenizer> tokenizer;
    std::unique_ptr<const Config> config;
    std::unique_ptr<const Adapter> adapter;
    std::unique_ptr<const Rules> rules;
    std::vector<bool> ends_sentence;
    std::once_flag fingerprint_once;
    std::string fingerprint;
    std::atomic<int64_t> session_bytes{0};
    ThreadPool threads;
  };
  explicit Model(std::shared_ptr<Opened> opened) : opened_(std::move(opened)) {}

  const std::shared_ptr<Opened> opened_;
  std::unique_ptr<const Gemm> gemm_;
  std::unique_ptr<const Weights> weights_;
};

}  // namespace infini
