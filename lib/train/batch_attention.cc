#include "train/batch_attention.h"

#include "train/stream_backward.h"

namespace infini {

void Supervised::add(const Supervised &other) {
  loss += other.loss;
  share += other.share;
  count += other.count;
}

void Supervision::add(const Supervision &other) {
  retrieval.add(other.retrieval);
  local.add(other.local);
}

void TraceScratch::reserve(std::span<const AttentionRules> kinds, int threads) {
  per_thread_ = 0;
  for (const AttentionRules &rules : kinds) {
    int64_t size = 0;
    StreamTiles().arrange(rules.shape, [&](int64_t floats) {
      size += round_up(floats, 16);
      return static_cast<float *>(nullptr);
    });
    per_thread_ = std::max(per_thread_, size);
  }
  numbers_.reserve(threads * per_thread_);
}

namespace {

template <class Part>
Part sum_of(const std::vector<Part> &parts) {
  Part sum;
  for (const Part &part : parts) sum.add(part);
  return sum;
}

int64_t operations(const LayerAttention &layer) {
  const AttentionShape &shape = layer.rules.shape;
  return layer.layout.rows() * shape.heads * (shape.key_size + shape.value_size) * (shape.segment + shape.key_size);
}

// f(its thread, first item, items, stream) for shares of all items (stream, KV head). A share holds heads of one
// stream; a thread takes them together through one segment after the other, because what they read of a token lies side
// by side: the second head finds in the processor's cache what the first one fetched.
template <class Function>
void each_share(const Threads &threads, const LayerAttention &layer, int64_t operations, const Function &f) {
  const int64_t streams = static_cast<int64_t>(layer.layout.streams.size()), heads = layer.rules.shape.kv_heads;
  const int64_t shares = threads.count() == 1 ? 1 : std::min<int64_t>(heads, 3 * threads.count() / streams + 1);
  parallel_items(threads, streams * shares, operations, [&](int64_t item, const Threads &here) {
    const int64_t stream = item / shares, first = heads * (item % shares) / shares,
                  end = heads * (item % shares + 1) / shares;
    f(here, stream * heads + first, end - first, layer.layout.streams[stream]);
  });
}

}  // namespace

void attend_streams(const Threads &threads, const LayerAttention &layer, NumberType type, void *out,
                    int64_t out_stride) {
  each_share(threads, layer, operations(layer),
             [&](const Threads &here, int64_t first, int64_t items, const StreamSpan &stream) {
    std::vector<StreamForward> heads;
    for (int64_t item = first; item < first + items; ++item) heads.emplace_back(here, layer, item);
    for (int64_t s = stream.first_segment; s < stream.first_segment + stream.segments; ++s)
      for (StreamForward &head : heads) head.forward(s, type, out, out_stride);
  });
}

Supervision attend_streams_gradient(const Threads &threads, const LayerAttention &layer, const float *da,
                                    int64_t da_stride, float *dqkv, double *dbeta) {
  const AttentionShape &shape = layer.rules.shape;
  const int64_t items = static_cast<int64_t>(layer.layout.streams.size()) * shape.kv_heads;
  // Each head of a stream has its own sums, which are added in order: the same on any number of threads.
  std::vector<double> gates(static_cast<size_t>(items * shape.heads));
  std::vector<Supervision> supervised(static_cast<size_t>(items));
  each_share(threads, layer, 2 * operations(layer),
             [&](const Threads &here, int64_t first, int64_t count, const StreamSpan &stream) {
    std::vector<StreamBackward> heads;
    for (int64_t item = first; item < first + count; ++item)
      heads.emplace_back(here, layer, item, dqkv).begin(da, da_stride, gates.data() + item * shape.heads);
    for (int64_t s = stream.first_segment + stream.segments - 1; s >= stream.first_segment; --s)
      for (StreamBackward &head : heads) head.backward(s);
    for (int64_t i = 0; i < count; ++i) supervised[first + i] = heads[i].supervision();
  });
  for (int64_t item = 0; item < items; ++item)
    for (int h = 0; h < shape.heads; ++h) dbeta[h] += gates[item * shape.heads + h];
  return sum_of(supervised);
}

Supervised supervise_streams(const Threads &threads, const LayerAttention &layer, std::span<const int64_t> supervised,
                             float *dqkv) {
  std::vector<Supervised> items(layer.layout.streams.size() * static_cast<size_t>(layer.rules.shape.kv_heads));
  parallel_items(threads, static_cast<int64_t>(items.size()), operations(layer),
                 [&](int64_t item, const Threads &here) {
    items[item] = StreamSupervision(here, layer, item, dqkv, true).supervise_alone(supervised);
  });
  return sum_of(items);
}

}  // namespace infini
