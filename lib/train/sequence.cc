#include "train/sequence.h"

#include <algorithm>

namespace infini {

std::span<const Link> Sequence::links_of(int32_t from) const {
  const auto begin = std::ranges::lower_bound(links, from, {}, &Link::from);
  return {begin, std::ranges::upper_bound(begin, links.end(), from, {}, &Link::from)};
}

void Sequence::link(int32_t from, int32_t to) {
  const std::span<const Link> farther = links_of(to);
  const auto first = static_cast<size_t>(farther.data() - links.data()), count = farther.size();
  links.push_back({from, to});
  for (size_t i = first; i < first + count; ++i) links.push_back({from, links[i].to});
}

}  // namespace infini
