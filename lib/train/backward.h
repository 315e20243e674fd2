// A whole model forward and backward over a batch of sequences, layer by layer: products over all rows at once, then
// each stream through its segments. Weights are f32 masters; products are of `compute`, summed in f32.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "train/attend_streams.h"
#include "train/parameters.h"

namespace infini {

// What a forward pass counted. Sums over rows, so that tallies of several batches add up.
struct Tally {
  double loss = 0;  // weight * cross-entropy in nats
  double weight = 0;
  Supervision supervision;               // of supervised attention
  int64_t predictions = 0;               // rows of any weight
  int64_t across = 0, across_right = 0;  // digits of answers whose value last stood in another segment
  int64_t inside = 0, inside_right = 0;  // in the same one
  // Whole answers; a first digit begins one. An answer is exact if each of its digits is the likeliest token after the right
  // digits before it: then greedy decoding gives the whole answer too.
  int64_t answers_across = 0, exact_across = 0, answers_inside = 0, exact_inside = 0;
  void add(const Tally &other);
};

// What a forward pass shows to a Watch of a layer, after its attention was computed.
struct LayerView {
  size_t layer;
  const float *x;  // [rows][x_stride]: the residual stream before the layer
  int64_t x_stride;
  ConstRows normed;  // [rows][width]: what q, k and v are made of
  const LayerAttention &pass;
};
using Watch = std::function<void(const LayerView &)>;

// What `run` does besides the forward pass.
struct Purpose {
  float *gradients = nullptr;    // like the parameters; added to. nullptr: a forward pass only
  double loss_scale = 1;         // on the gradients of the cross-entropy
  HeadTargets targets;           // of all layers
  float *logits = nullptr;       // [rows][vocabulary], for tests: of every row
  const Watch *watch = nullptr;  // sees every layer on the way forward
};

class Backward {
 public:
  // Which parameters are trained decides how far down the backward pass goes and which products it makes. `rules` gives
  // segment, carry, sinks and update rule. `keep_bytes`: where the activations of all layers would take more, only the
  // layers' inputs are kept and the rest is computed again, layer by layer.
  Backward(const Threads &threads, const Model &model, const Parameters &parameters, std::vector<bool> trained,
           NumberType compute, int64_t keep_bytes);
  void set_rules(const AttentionRules &rules) { rules_ = rules; }

  // Packs the products' weights from the f32 masters: to be called whenever the optimizer has changed these.
  void refresh(const Threads &threads, bool all = false);
  // From now on q and k of these layers (ascending) are trained by supervision alone: refresh() leaves all other weights as
  // they were, so that teach() reads the inputs of these layers from the original model.
  void set_taught(const Threads &threads, std::vector<size_t> layers);
  // `pass`: a cache key. The input of the lowest trained layer is stored under it and reused when the same key comes again,
  // with the same layout; the layers below must not have changed since. kNoPass: nothing is cached.
  static constexpr size_t kNoPass = SIZE_MAX;
  Tally run(const Threads &threads, const Layout &layout, const Purpose &purpose, size_t pass = kNoPass);
  // The supervision loss alone, of the layers of set_taught(), whose inputs are those of the original model: gradients of
  // one layer do not reach another. `pass`: a cache key, as in run().
  Tally teach(const Threads &threads, const Layout &layout, const Purpose &purpose, size_t pass);
  // f(layer, its normed input [rows][width]) for each layer of set_taught(), from the cache where the key `pass` is in it.
  using Fed = std::function<void(size_t layer, ConstRows normed)>;
  void feed_taught(const Threads &threads, const Layout &layout, size_t pass, const Fed &f);
  void forget_passes() { taught_inputs_.clear(), lowest_inputs_.clear(); }
  int64_t bytes() const;  // of activations
  bool recomputes() const { return recomputes_; }

 private:
  // Forward and backward weights of one product: [in, out] and [out, in].
  struct Product {
    PackedMatrix forward, backward;
  };
  struct LayerProducts {
    Product qkv, attention_output, gate_up, down;
  };
  // What the forward pass keeps of one layer. T: rows.
  struct Trace {
    Buffer<char> normed;  // [T][width] of the compute type
    Buffer<float> qkv;    // [T][qkv columns rounded up to 64]
    AttentionTrace attention;
    Buffer<char> attended;      // [T][heads * value_size] of the compute type
    Buffer<float> middle;       // [T][width rounded up to 64]: the residual stream after attention
    Buffer<char> normed_again;  // [T][width] of the compute type
    Buffer<float> gate_up;      // [T or kChunk][2 * hidden rounded up to 64]
    Buffer<char> activated;     // [T or kChunk][hidden] of the compute type
    int64_t bytes() const;
  };

  int64_t count(size_t index) const { return parameters_[index].size(); }
  bool any_trained(std::initializer_list<size_t> indices) const;
  int64_t trace_bytes(const Layout &layout, bool whole) const;
  void reserve(const Layout &layout, int threads, bool backward);
  float *input(size_t layer) { return inputs_[layer % input_count_].data(); }
  Trace &trace(size_t layer) { return traces_[layer < lowest_ ? 0 : (layer - lowest_) % trace_count_]; }
  void weigh_gates();
  size_t layers_that_count(const Layout &layout, const Purpose &purpose) const;
  // Of the highest of `layers` that count nobody reads what comes out of it, unless it is the model's.
  bool feeds_forward(size_t layer, size_t layers) const { return layer + 1 < layers || layers == products_.size(); }
  LayerAttention attention(const Layout &layout, size_t layer, const Purpose &purpose, Trace &trace);

  // backward_forward.cc
  void embed(const Layout &layout);
  void attend(const Threads &threads, const Layout &layout, size_t layer, const Purpose &purpose);
  void feed_forward(const Threads &threads, size_t layer, int64_t first, int64_t rows, float *out);
  void norm_rows(const Threads &threads, const float *x, size_t weight, int64_t rows, char *to);

  void forward(const Threads &threads, const Layout &layout, size_t layers, const Purpose &purpose, size_t pass);

  // backward_teach.cc
  void teach_layer(const Threads &threads, size_t layer, ConstRows normed, const Layout &layout, const Purpose &purpose,
                   Tally &tally);

  // backward_loss.cc
  Tally losses(const Threads &threads, const Layout &layout, const Purpose &purpose);
  void count_answers(const Layout &layout, Tally &tally) const;
  void chunk_losses(const Threads &threads, const Layout &layout, const Purpose &purpose, int64_t first, int64_t rows,
                    Tally &tally);
  void all_logits(const Threads &threads, float *logits);

  // backward.cc
  void feed_forward_backward(const Threads &threads, size_t layer, float *gradients);
  void attention_backward(const Threads &threads, const Layout &layout, size_t layer, const Purpose &purpose,
                          Tally &tally);
  void norm_backward(const Threads &threads, const float *x, size_t weight, const float *dy, int64_t dy_stride,
                     int64_t first, int64_t rows, float *gradients);
  ConstRows narrowed(const Threads &threads, const float *values, int64_t stride, int64_t columns, int64_t rows,
                     Buffer<char> &to);
  void embed_backward(const Layout &layout, float *gradients);

  const Model &model_;
  const Config &config_;
  const Parameters &parameters_;
  const std::vector<bool> trained_;
  const NumberType compute_;
  const int64_t keep_bytes_;
  AttentionRules rules_;
  const int64_t width_, x_stride_, qkv_stride_, gate_up_stride_, hidden_stride_, attended_stride_, taught_stride_;
  size_t lowest_ = 0;  // layers below it need no backward pass, and share a trace
  bool recomputes_ = false;
  size_t input_count_ = 0, trace_count_ = 0;  // of inputs_ and traces_, in use

  std::vector<LayerProducts> products_;
  Product output_;
  std::vector<float> gate_weights_;  // [layers][heads]
  std::vector<size_t> taught_;       // layers
  struct Features {
    PackedMatrix q, k;
  };
  std::vector<Features> taught_features_;  // of each

  int64_t rows_ = 0;
  std::vector<Buffer<float>> inputs_;  // a layer's x [T][x_stride]; one more for the output
  std::vector<Trace> traces_;
  std::map<size_t, Buffer<float>> lowest_inputs_;  // by cache key: of layer lowest_, like inputs_
  RopeTable rope_;
  TraceScratch scratch_;
  Buffer<float> dx_;          // [T][x_stride]
  Buffer<float> dnormed_;     // [T][x_stride]
  Buffer<float> dattended_;   // [T][attended_stride]
  Buffer<float> dqkv_;        // [T][qkv_stride]
  Buffer<float> dactivated_;  // [kPiece or T][hidden_stride]
  Buffer<char> dgate_up_;     // [kChunk or T][2 * hidden] of the compute type
  Buffer<char> narrow_, narrow_qkv_;
  Buffer<float> norm_sums_;  // [kNormPieces][width]
  // Of layers that are trained by supervision alone.
  std::map<size_t, std::vector<Buffer<char>>> taught_inputs_;  // by cache key, of each layer: [T][width] of compute
  Buffer<float> taught_rows_;   // [T][taught_stride_]: q of supervised rows, and k of all
  Buffer<float> told_queries_;  // [supervised rows][q columns, to a multiple of 64]: q alone, and then its gradients
  Buffer<char> told_normed_;    // [supervised rows][width] of the compute type
  AttentionTrace taught_trace_;
  TraceScratch taught_scratch_;
  // Of the output layer.
  std::vector<int64_t> loss_rows_;
  Buffer<char> loss_normed_, dlogits_;
  Buffer<float> logits_;
  std::vector<float> row_losses_;
  std::vector<uint8_t> row_right_;  // of every row with a loss
};

}  // namespace infini
