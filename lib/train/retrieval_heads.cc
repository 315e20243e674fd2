#include "train/retrieval_heads.h"

#include <algorithm>
#include <cmath>

#include "kernels/gradients.h"

namespace infini {

std::vector<Lookup> value_lookups(const Sequence &sequence) {
  std::vector<Lookup> lookups;
  for (size_t t = 1; t < sequence.tokens.size(); ++t) {
    if (sequence.answer[t] != 1) continue;
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

void add_lookup_weights(const LayerAttention &pass, std::span<const Lookup> lookups, double *sums) {
  const AttentionShape &shape = pass.rules.shape;
  const int64_t size = shape.key_size, group = shape.group();
  const float scale = 1 / std::sqrt(static_cast<float>(size));
  std::vector<float> query(static_cast<size_t>(size)), key(query.size());
  for (const Lookup &lookup : lookups) {
    const float *q = pass.qkv.data + lookup.row * pass.qkv.stride,
                *k = pass.qkv.data + lookup.source * pass.qkv.stride + shape.heads * size;
    for (int64_t h = 0; h < shape.heads; ++h) {
      if (h % group == 0) pass.rope.turn(k + h / group * size, size, lookup.source, 1, key.data());
      pass.rope.turn(q + h * size, size, lookup.row, scale, query.data());
      sums[h] += std::exp(static_cast<double>(dot(query.data(), key.data(), size)) -
                          pass.trace.log_sum[lookup.row * shape.heads + h]);
    }
  }
}

}  // namespace infini
