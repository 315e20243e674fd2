// A whole model forward and backward over a batch of sequences, layer by layer. The matrix products of a layer take all
// rows (tokens of the batch) at once; its attention takes each stream (document) segment by segment. Weights are f32
// masters, or frozen; products are made in the type `compute` and summed in f32.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "train/batch_attention.h"
#include "train/graph_rows.h"
#include "train/lora.h"
#include "train/matrix_products.h"
#include "train/parameters.h"
#include "train/train_config.h"

namespace infini {

// Losses and counts of a forward pass, all of them sums over rows, so that those of several batches can be added.
struct Tally {
  double loss = 0;          // sum of weight * cross-entropy, in nats
  double weight = 0;        // sum of the weights
  Supervision supervision;  // losses of supervised attention
  int64_t predictions = 0;  // rows whose weight is not 0
  int64_t across = 0,
          across_right = 0;  // tokens of answers whose value last stood in another segment, see Sequence::answer
  int64_t inside = 0, inside_right = 0;  // in the same one
  // Whole answers: runs of such tokens. An answer is exact if each of its tokens is the likeliest after the right ones
  // before it: then greedy decoding gives the whole answer too.
  int64_t answers_across = 0, exact_across = 0, answers_inside = 0, exact_inside = 0;
  void add(const Tally &other);
};

// What a LayerObserver is shown of a forward pass: one layer, once its attention is computed.
struct LayerView {
  size_t layer;
  const float *x;  // [rows][x_stride]: the residual stream before the layer
  int64_t x_stride;
  ConstRows normed;  // [rows][width]: what q, k and v are made of
  const LayerAttention &attention;
};
using LayerObserver = std::function<void(const LayerView &)>;

// What a run computes besides the forward pass.
struct RunRequest {
  float *gradients = nullptr;  // laid out like the parameters; added to. nullptr: no backward pass
  double loss_scale = 1;       // factor on the gradients of the cross-entropy
  const SupervisionWeights *supervision = nullptr;
  float *logits = nullptr;  // [rows][vocabulary], of every row; for tests
};

class TrainingGraph {
 public:
  // `trained`, for each parameter: whether it gets a gradient, which decides how far down the backward pass goes and
  // which products it makes. `activation_bytes`: where the activations of all layers would take more, only the inputs
  // of layers are kept and the rest is computed again, layer by layer. Where `part` is RETRIEVAL, the loss is that of
  // supervised retrievals alone, of the layers whose q is trained; each is fed by the model as it is now, so that no
  // gradient of one layer reaches another. `lora` may be null; it gets the gradients of its adapters.
  TrainingGraph(const Threads &threads, const Model &model, const Gemm &gemm, const Parameters &parameters,
                std::vector<bool> trained, NumberType compute, int64_t activation_bytes,
                TrainedPart part = TrainedPart::ALL, Lora *lora = nullptr);
  // Segment, carry, sinks and memory as these say; until then as the model does. Layers with a window of their own keep
  // it.
  void set_rules(const AttentionRules &rules);

  // Packs the products' weights anew from the f32 masters: to be called whenever these have changed. `all`: also of
  // parameters that are not trained.
  void refresh(const Threads &threads, bool all = false);
  // Forward, and, where gradients are asked for, backward. The input of the lowest trained layer (RETRIEVAL: of each)
  // is stored under `cache_key` and reused when the same key comes again, with the same layout; the layers below must
  // not have changed since. kUncached: nothing is stored.
  static constexpr size_t kUncached = SIZE_MAX;
  Tally run(const Threads &threads, const BatchLayout &layout, const RunRequest &request, size_t cache_key = kUncached);
  // Forward through all layers, whatever is trained. `observer` sees each of them.
  Tally observe(const Threads &threads, const BatchLayout &layout, const LayerObserver &observer);
  // f(layer, its normed input [rows][width]) for each layer whose retrievals are trained, from the cache where it has
  // them.
  using NormedInput = std::function<void(size_t layer, ConstRows normed)>;
  void each_retrieval_input(const Threads &threads, const BatchLayout &layout, size_t cache_key, const NormedInput &f);
  void clear_cache() { retrieval_inputs_.clear(), lowest_inputs_.clear(); }
  int64_t bytes() const;  // of packed weights and activations

 private:
  // A matrix, and the first of the parameters that it is made of.
  struct Product {
    size_t first;
    MatrixProducts matrix;
  };
  struct LayerProducts {
    Product qkv, attention_output, gate_up, down;
  };
  // What the forward pass keeps of one layer. T: rows.
  struct Trace {
    Buffer<char> normed;  // [T][width] of the compute type
    Buffer<float> qkv;    // [T][qkv columns rounded up to 64]
    Buffer<float> raw;    // [T][q and k columns rounded up to 64]: q and k before their norms
    AttentionTrace attention;
    Buffer<char> attended;      // [T][heads * value_size] of the compute type
    Buffer<float> branch;       // [T][width rounded up to 64]: what attention adds, before its norm
    Buffer<float> middle;       // [T][width rounded up to 64]: the residual stream between attention and feed-forward
    Buffer<char> normed_again;  // [T][width] of the compute type
    Buffer<float> gate_up;      // [T or kFeedForwardRows][2 * hidden rounded up to 64]
    Buffer<char> activated;     // [T or kFeedForwardRows][hidden] of the compute type
    Buffer<float>
        fed_branch;  // [T or kFeedForwardRows][width rounded up to 64]: what the feed-forward adds, before its norm
    int64_t bytes() const;
  };

  int64_t count(size_t index) const { return parameters_[index].size(); }
  bool trains(size_t index) const { return index != Parameters::kNone && trained_[index]; }
  bool trains_matrix(size_t first) const;  // whether the parameter is trained, or one behind it
  // Where the gradient of a parameter is added to; null: nowhere.
  float *gradient_of(size_t index, float *gradients) const {
    return trains(index) ? gradients + parameters_[index].offset : nullptr;
  }
  size_t kind(size_t layer) const { return static_cast<size_t>(&model_rules_.of(layer) - model_rules_.kinds.data()); }
  const AttentionRules &rules(size_t layer) const { return kinds_[kind(layer)]; }
  // f(buffer, how many elements it needs) for each buffer of a trace. `fed`: so many rows of the feed-forward are kept.
  template <class F>
  void each_buffer(Trace &t, const BatchLayout &layout, int64_t fed, const F &f) const;
  void reserve(const BatchLayout &layout, int threads, bool backward);
  // y (+)= a product with what adapters add to it; and what dy, the gradient of y, gives them and dx, which is set, or,
  // where it is null, not asked for.
  void multiply(const Threads &threads, const Product &product, const ConstRows &x, int64_t rows, float *y,
                int64_t y_row, bool accumulate = false) const;
  void multiply_back(const Threads &threads, const Product &product, const ConstRows &x, const ConstRows &dy,
                     int64_t rows, float *dx, int64_t dx_row) const;
  float *input(size_t layer) { return inputs_[layer % input_count_].data(); }
  Trace &trace(size_t layer) { return traces_[layer < lowest_ ? 0 : (layer - lowest_) % trace_count_]; }
  void weigh_gates();
  size_t layers_that_count(const BatchLayout &layout, const RunRequest &request) const;
  // Whether the feed-forward of `layer` must run, of `layers` that are computed: the output of the last of them is not
  // read, unless it is the model's last.
  bool feeds_forward(size_t layer, size_t layers) const { return layer + 1 < layers || layers == products_.size(); }
  LayerAttention attention(const BatchLayout &layout, size_t layer, const RunRequest &request, Trace &trace);

  // graph_forward.cc
  void embed(const BatchLayout &layout);
  void attend(const Threads &threads, const BatchLayout &layout, size_t layer, const RunRequest &request);
  void feed_forward(const Threads &threads, size_t layer, int64_t first, int64_t rows, float *out);
  void norm_rows(const Threads &threads, const float *x, size_t weight, const BatchRows &rows, char *to);

  void forward(const Threads &threads, const BatchLayout &layout, size_t layers, const RunRequest &request,
               size_t cache_key, const LayerObserver *observer = nullptr);

  // graph_plan.cc
  // The columns of qkv that are queries, keys or values, and the parameters that make them.
  struct HeadPart {
    size_t weight, bias, norm;
    int64_t first, columns;
  };
  std::array<HeadPart, 3> head_parts(size_t layer) const;
  void finish_heads(const Threads &threads, const HeadPart &part, int64_t rows, float *x, int64_t stride, float *raw,
                    int64_t raw_stride) const;
  void finish_heads_gradient(const Threads &threads, const HeadPart &part, int64_t rows, const float *raw,
                             int64_t raw_stride, float *d, int64_t stride, float *gradients);
  void add_branch(const Threads &threads, const ConstRows &a, int64_t rows, const Product &product, size_t bias,
                  size_t post_norm, const float *x, float *branch, float *to) const;
  ConstRows branch_gradient(const Threads &threads, size_t bias, size_t post_norm, const float *branch,
                            const BatchRows &rows, float *gradients);
  void finish_logits(float *logits) const;

  // graph_retrieval.cc
  void choose_retrieval_layers();
  Tally run_retrieval(const Threads &threads, const BatchLayout &layout, const RunRequest &request, size_t cache_key);
  void supervise_layer(const Threads &threads, size_t layer, ConstRows normed, const BatchLayout &layout,
                       const RunRequest &request, Tally &tally);

  // graph_loss.cc
  Tally losses(const Threads &threads, const BatchLayout &layout, const RunRequest &request);
  void count_answers(const BatchLayout &layout, Tally &tally) const;
  void chunk_losses(const Threads &threads, const BatchLayout &layout, const RunRequest &request, int64_t first,
                    int64_t rows, Tally &tally);
  void all_logits(const Threads &threads, float *logits);

  // graph.cc
  void feed_forward_backward(const Threads &threads, size_t layer, float *gradients);
  void attention_backward(const Threads &threads, const BatchLayout &layout, size_t layer, const RunRequest &request,
                          Tally &tally);
  void norm_backward(const Threads &threads, const float *x, size_t weight, const BatchRows &rows, float *gradients);
  void embed_backward(const BatchLayout &layout, float *gradients);

  const Gemm &gemm_;
  const Config &config_;
  const Parameters &parameters_;
  const std::vector<bool> trained_;
  Lora *const lora_;
  const NumberType compute_;
  const int64_t activation_bytes_;
  const Rules &model_rules_;
  std::vector<AttentionRules> kinds_;                      // as Rules::kinds
  bool norms_heads_, keeps_branches_;                      // in some layer
  const int64_t width_, queries_, keys_, qkv_, attended_;  // columns
  const int64_t x_stride_, qkv_stride_, raw_stride_, gate_up_stride_, hidden_stride_, attended_stride_,
      retrieval_stride_;
  int64_t piece_ = kCacheRows;  // rows that go through products of the feed-forward together
  size_t lowest_ = 0;           // layers below it need no backward pass, and share a trace
  bool recomputes_ = false;
  size_t input_count_ = 0, trace_count_ = 0;  // of inputs_ and traces_, in use

  std::vector<LayerProducts> products_;
  MatrixProducts output_;
  std::vector<float> gate_weights_;       // [layers][heads]
  std::vector<size_t> retrieval_layers_;  // whose retrievals alone are trained, ascending; else none
  struct Features {
    PackedMatrix q, k;
  };
  std::vector<Features> retrieval_products_;  // of each

  int64_t rows_ = 0;
  std::vector<Buffer<float>> inputs_;  // a layer's x [T][x_stride]; one more for the output
  std::vector<Trace> traces_;
  std::map<size_t, Buffer<float>> lowest_inputs_;  // by cache key: of layer lowest_, like inputs_
  std::vector<RopeTable> ropes_;                   // of each kind
  TraceScratch scratch_;
  Buffer<float> dx_;          // [T][x_stride]
  Buffer<float> dbranch_;     // [T or kFeedForwardRows][x_stride]
  Buffer<float> dnormed_;     // [T][x_stride]
  Buffer<float> dattended_;   // [T][attended_stride]
  Buffer<float> dqkv_;        // [T][qkv_stride]
  Buffer<float> dactivated_;  // [piece_ or T][hidden_stride]
  Buffer<char> dgate_up_;     // [kFeedForwardRows or T][2 * hidden] of the compute type
  Buffer<char> narrow_, narrow_qkv_;
  RowSums sums_;
  // Of retrieval_layers_.
  std::map<size_t, std::vector<Buffer<char>>> retrieval_inputs_;  // by cache key, of each layer: [T][width] of compute
  Buffer<float> retrieval_rows_;  // [T][retrieval_stride_]: q of supervised rows, and k of all
  // [supervised rows][q columns, to a multiple of 64]: q alone, and then its gradients
  Buffer<float> supervised_queries_;
  Buffer<char> supervised_normed_;        // [supervised rows][width] of the compute type
  Buffer<float> raw_queries_, raw_keys_;  // before their norms, laid out like supervised_queries_ and retrieval_rows_
  AttentionTrace retrieval_trace_;
  TraceScratch retrieval_scratch_;
  // Of the output layer.
  std::vector<int64_t> loss_rows_;
  Buffer<char> loss_normed_, dlogits_;
  Buffer<float> logits_;
  std::vector<float> row_losses_;
  std::vector<uint8_t> row_right_;  // of every row with a loss
};

}  // namespace infini
