// Byte-pair merging, the heart of both tokenizer models.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace infini {

inline constexpr int32_t no_rank = std::numeric_limits<int32_t>::max();

// What two neighbours become; the least rank is joined first. `no_rank`: they stay apart.
template <class Symbol>
struct Join {
  int32_t rank = no_rank;
  Symbol symbol{};
};

// Joins neighbours, the least rank first and the leftmost of equals, until no pair is left that can be joined.
// Holds the memory of one run for the next.
template <class Symbol>
class Merger {
 public:
  // `find(left, right)` gives the Join of two neighbours.
  template <class Find>
  void run(std::vector<Symbol> &symbols, const Find &find) {
    if (symbols.size() < 2) return;
    joins_.clear();
    for (size_t i = 0; i + 1 < symbols.size(); ++i) joins_.push_back(find(symbols[i], symbols[i + 1]));
    symbols.size() <= longest_scan ? scan(symbols, find) : queue(symbols, find);
  }

 private:
  static constexpr size_t longest_scan = 24;  // up to here looking at every pair beats a heap

  template <class Find>
  void scan(std::vector<Symbol> &symbols, const Find &find) {
    while (!joins_.empty()) {
      const auto less = [](const auto &a, const auto &b) { return a.rank < b.rank; };
      const auto best = std::min_element(joins_.begin(), joins_.end(), less);
      if (best->rank == no_rank) return;
      const size_t at = static_cast<size_t>(best - joins_.begin());
      symbols[at] = best->symbol;
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
      joins_.erase(best);
      if (at > 0) joins_[at - 1] = find(symbols[at - 1], symbols[at]);
      if (at < joins_.size()) joins_[at] = find(symbols[at], symbols[at + 1]);
    }
  }

  // O(n log n). An entry of the heap is rank << 32 | position; it is stale once the pair at the position has another
  // rank. A new pair there of the same rank makes it valid again.
  template <class Find>
  void queue(std::vector<Symbol> &symbols, const Find &find) {
    const uint32_t n = static_cast<uint32_t>(symbols.size());
    joins_.emplace_back();  // the last symbol has no right neighbour
    heap_.clear();
    previous_.resize(n);
    next_.resize(n);
    for (uint32_t i = 0; i < n; ++i) {
      previous_[i] = i == 0 ? n : i - 1;
      next_[i] = i + 1;
      if (joins_[i].rank != no_rank) heap_.push_back(entry(i));
    }
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
    const auto renew = [&](uint32_t at) {
      joins_[at] = next_[at] == n ? Join<Symbol>{} : find(symbols[at], symbols[next_[at]]);
      if (joins_[at].rank == no_rank) return;
      heap_.push_back(entry(at));
      std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    };
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      const uint64_t top = heap_.back();
      heap_.pop_back();
      const uint32_t at = static_cast<uint32_t>(top);
      if (static_cast<int32_t>(top >> 32) != joins_[at].rank) continue;
      const uint32_t gone = next_[at];
      symbols[at] = joins_[at].symbol;
      joins_[gone].rank = no_rank;
      next_[at] = next_[gone];
      if (next_[at] != n) previous_[next_[at]] = at;
      renew(at);
      if (previous_[at] != n) renew(previous_[at]);
    }
    size_t kept = 0;
    for (uint32_t i = 0; i != n; i = next_[i]) symbols[kept++] = symbols[i];
    symbols.resize(kept);
  }

  uint64_t entry(uint32_t at) const { return static_cast<uint64_t>(joins_[at].rank) << 32 | at; }

  std::vector<Join<Symbol>> joins_;  // [i]: of symbol i and its right neighbour
  std::vector<uint64_t> heap_;
  std::vector<uint32_t> previous_, next_;  // positions; the number of symbols at either end
};

}  // namespace infini
