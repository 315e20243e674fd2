#include "train/ranks.h"

#include <algorithm>

#include "base/status.h"

namespace infini {
namespace {

// A word is sent as three floats that hold 22 bits each, whole numbers that sums with zeros keep exactly.
constexpr int kBits = 22, kLimbs = 3;
constexpr uint64_t kLimb = (uint64_t{1} << kBits) - 1;

}  // namespace

Ranks::Ranks(int rank, int count, SumCallback callback, void *user_data)
    : rank_(rank), count_(count), callback_(callback), user_data_(user_data) {
  if (count < 1 || count > kMost) fail(Status::INVALID_ARGUMENT, "ranks is ", count, ", but must be 1 to ", kMost);
  if (rank < 0 || rank >= count)
    fail(Status::INVALID_ARGUMENT, "rank is ", rank, ", but of ", count, " ranks must be 0 to ", count - 1);
  if (count > 1 && !callback) fail(Status::INVALID_ARGUMENT, "callback is NULL, but ", count, " ranks need one");
}

std::pair<int64_t, int64_t> Ranks::share(int64_t items) const {
  return {items * rank_ / count_, items * (rank_ + 1) / count_};
}

void Ranks::sum(std::span<float> values) const {
  if (alone() || values.empty()) return;
  if (const int failed = callback_(user_data_, values.data(), values.size()); failed != 0)
    fail(Status::IO, "the callback that adds up over ranks returned ", failed, " on rank ", rank_, " of ", count_,
         ": other ranks may be lost; go on from a checkpoint");
}

std::vector<uint64_t> Ranks::gather(std::span<const uint64_t> words) const {
  if (alone()) return {words.begin(), words.end()};
  // Each rank fills a row of its own, to which the others add zeros.
  const size_t row = words.size() * kLimbs;
  std::vector<float> limbs(row * static_cast<size_t>(count_));
  float *own = limbs.data() + row * static_cast<size_t>(rank_);
  for (size_t i = 0; i < row; ++i) own[i] = static_cast<float>(words[i / kLimbs] >> kBits * (i % kLimbs) & kLimb);
  sum(limbs);
  std::vector<uint64_t> all(limbs.size() / kLimbs);
  bool sound = true;
  for (size_t i = 0; i < limbs.size(); ++i) {
    if (limbs[i] >= 0 && limbs[i] <= static_cast<float>(kLimb))
      all[i / kLimbs] |= static_cast<uint64_t>(limbs[i]) << kBits * (i % kLimbs);
    else sound = false;
  }
  if (!sound ||
      !std::equal(words.begin(), words.end(), all.begin() + static_cast<std::ptrdiff_t>(words.size()) * rank_))
    fail(Status::IO, "what rank ", rank_, " of ", count_,
         " gave to the callback that adds up over ranks came back changed: does each have a number of its own?");
  return all;
}

ReadChecksum::ReadChecksum(const Ranks &ranks, int segment) : alone_(ranks.alone()) {
  sum_.add(&segment, sizeof segment);
}

void ReadChecksum::add(const Sequence &sequence) {
  if (alone_) return;
  const auto add = [&](const auto &values) {
    const uint64_t count = values.size();
    sum_.add(&count, sizeof(count));
    sum_.add(values.data(), values.size() * sizeof(values[0]));
  };
  add(sequence.tokens);
  add(sequence.weight);
  add(sequence.answer);
  add(sequence.local_target);
  add(sequence.document);
  add(sequence.tags);
  add(sequence.links);
  add(sequence.repeat_weight);
}

}  // namespace infini
