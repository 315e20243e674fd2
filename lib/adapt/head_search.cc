#include "adapt/head_search.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/gradients.h"
#include "train/report.h"

namespace infini {
namespace {

// The row of a query, and of the key that it should attend to.
struct Lookup {
  int64_t row, source;
};

std::vector<Lookup> value_lookups(const Sequence &sequence) {
  std::vector<Lookup> lookups;
  for (size_t t = 1; t < sequence.tokens.size(); ++t) {
    if (sequence.answer[t] != kAnswerAcross) continue;
    const std::span<const Link> links = sequence.links_of(static_cast<int32_t>(t));
    if (!links.empty()) lookups.push_back({static_cast<int64_t>(t) - 1, std::ranges::max(links, {}, &Link::to).to});
  }
  return lookups;
}

std::vector<Lookup> name_lookups(const Sequence &sequence) {
  std::vector<Lookup> lookups;
  for (size_t t = 0; t < sequence.local_target.size(); ++t)
    if (sequence.local_target[t] >= 0) lookups.push_back({static_cast<int64_t>(t), sequence.local_target[t]});
  return lookups;
}

// sums [heads] += local attention's weights from `row` to `source`, of a sequence that was one segment: single entries
// of (6), by the logarithm of its sum, which the forward pass kept.
void add_lookup_weights(const LayerAttention &attention, std::span<const Lookup> lookups, double *sums) {
  const AttentionShape &shape = attention.rules.shape;
  const int64_t size = shape.key_size;
  const int group = shape.group();
  const float scale = attention.rules.score_scale();
  std::vector<float> query(static_cast<size_t>(size)), key(query.size());
  for (const Lookup &lookup : lookups) {
    if (shape.window > 0 && lookup.row - lookup.source >= shape.window) continue;
    for (int h = 0; h < shape.heads; ++h) {
      if (h % group == 0)
        attention.rope.rotate(attention.qkv.k(shape, lookup.source, h / group), size, lookup.source, 1, key.data());
      attention.rope.rotate(attention.qkv.q(shape, lookup.row, h), size, lookup.row, scale, query.data());
      float score = dot(query.data(), key.data(), size);
      if (attention.rules.soft_cap > 0) soft_cap(&score, 1, attention.rules.soft_cap);
      sums[h] += std::exp(static_cast<double>(score) - attention.trace.log_sum[lookup.row * shape.heads + h]);
    }
  }
}

// The whole sequence as one segment, whose memory is empty and not gated: the plain model.
AttentionRules full_attention(const Model &model, int64_t tokens) {
  AttentionRules rules = model.rules().attention;
  rules.shape.segment = static_cast<int>(tokens);
  rules.shape.carry = rules.shape.sinks = 0;
  rules.first_gated = false;
  return rules;
}

}  // namespace

std::vector<FoundHead> HeadSearch::best(size_t most) const {
  std::vector<size_t> order(value_weight.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return value_weight[a] > value_weight[b]; });
  order.resize(std::min(order.size(), most));
  std::vector<FoundHead> best;
  const auto width = static_cast<size_t>(heads);
  for (const size_t i : order) best.push_back({i / width, i % width, value_weight[i], name_weight[i]});
  return best;
}

JsonObject describe(const HeadSearch &found, const Reading &reading) {
  return JsonObject()
      .add("heads", found.best())
      .add("answers", found.lookups)
      .add("recall", share_of(found.right, found.lookups))
      .add(reading.json())
      .add("tokens", found.tokens);
}

size_t most_heads_json(const Config &config) {
  return kMeasuredJson + 160 * static_cast<size_t>(config.layers) * static_cast<size_t>(config.heads);
}

HeadSearch find_heads(Trainer &trainer, SequenceSource &source, int sequences, int segment, int segments, Task *task) {
  const Config &config = trainer.model().config();
  const std::vector<double> none(static_cast<size_t>(config.layers * config.heads));
  HeadSearch found{config.heads, none, none};
  size_t name_count = 0;
  if (task) task->begin("find heads", sequences);
  for (int i = 0; i < sequences; ++i) {
    if (task && task->take_cancel())
      fail(Status::CANCELLED, "finding heads was cancelled after ", i, " of ", sequences, " sequences");
    Sequence sequence = source.next(segment, segments);
    const std::vector<Lookup> values = value_lookups(sequence), names = name_lookups(sequence);
    for (size_t t = 0; t < sequence.weight.size(); ++t)
      sequence.weight[t] = sequence.answer[t] == kAnswerAcross ? 1.0f : 0.0f;
    BatchLayout layout;
    layout.add(sequence, segment, config.vocabulary);
    const LayerObserver observer = [&](const LayerView &view) {
      const size_t first = view.layer * static_cast<size_t>(config.heads);
      add_lookup_weights(view.attention, values, found.value_weight.data() + first);
      add_lookup_weights(view.attention, names, found.name_weight.data() + first);
    };
    found.right +=
        trainer.forward(layout.unsegmented(), full_attention(trainer.model(), layout.rows()), observer).across_right;
    found.lookups += static_cast<int64_t>(values.size());
    name_count += names.size();
    found.tokens += layout.rows();
    if (task) task->advance_to(i + 1);
  }
  if (found.lookups == 0)
    fail(Status::INVALID_ARGUMENT,
         "the sequences hold no answer whose value stands in an earlier segment: heads cannot be found with them");
  for (double &weight : found.value_weight) weight /= static_cast<double>(found.lookups);
  for (double &weight : found.name_weight) weight /= static_cast<double>(std::max<size_t>(1, name_count));
  return found;
}

}  // namespace infini
