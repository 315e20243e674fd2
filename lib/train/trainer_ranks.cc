// Training on several ranks. Each holds the same trainer and draws the same sequences, so that sources and checkpoints
// are the same everywhere, but computes gradients of its own share of the sequences. Then the ranks agree: each tells
// the others what it has read and counted, or that it failed, and one that failed stops the step on all. Only then
// gradients are summed, and each rank changes its weights in the same way. Weights are not sent, but checked to be
// equal.
#include <algorithm>
#include <array>
#include <bit>
#include <new>

#include "base/hash.h"
#include "train/trained_parameters.h"
#include "train/trainer.h"

namespace infini {
namespace {

// What a rank tells the others, word by word.
enum Word : size_t { STATUS, CALL, MADE_OF, STEPS, DATA, WEIGHTS, TALLY };
// A tally goes as it lies in memory: doubles and whole numbers of eight bytes, nothing between them.
using TallyWords = std::array<uint64_t, sizeof(Tally) / sizeof(uint64_t)>;
constexpr size_t kWords = TALLY + std::tuple_size_v<TallyWords>;

Tally tally_of(const uint64_t *words) {
  TallyWords tally;
  std::copy_n(words, tally.size(), tally.begin());
  return std::bit_cast<Tally>(tally);
}

Status status_of(const std::exception_ptr &failure) {
  try {
    if (failure) std::rethrow_exception(failure);
    return Status::OK;
  } catch (const Error &error) { return error.status(); } catch (const std::bad_alloc &) {
    return Status::OUT_OF_MEMORY;
  } catch (...) { return Status::INTERNAL; }
}

}  // namespace

std::vector<std::span<float>> Trainer::trained_gradients() {
  constexpr int64_t kGap = 16;  // floats: parameters begin at multiples of it, so that gaps between them are shorter
  std::vector<std::span<float>> pieces;
  for (const Variable &v : choose_variables(config_, parameters_, trained_)) {
    float *const data = gradients_.data() + v.offset;
    const auto size = static_cast<size_t>(v.rows * v.columns);
    if (!pieces.empty()) {
      std::span<float> &last = pieces.back();
      const int64_t gap = data - (last.data() + last.size());
      if (gap >= 0 && gap < kGap) {
        last = {last.data(), data + size};
        continue;
      }
    }
    pieces.emplace_back(data, size);
  }
  if (lora_) pieces.emplace_back(lora_->gradients(), static_cast<size_t>(lora_->size()));
  return pieces;
}

uint64_t Trainer::checksum_of_read() const {
  ReadChecksum sum(ranks_, pool_.segment());
  for (const Sequence &sequence : sequences()) sum.add(sequence);
  return sum.value();
}

uint64_t Trainer::weights_checksum() const {
  StreamChecksum sum;
  for (size_t i = 0; i < trained_.size(); ++i)
    if (trained_[i]) sum.add(parameters_.of(i), static_cast<size_t>(parameters_[i].size()) * sizeof(float));
  if (lora_) sum.add(lora_->values(), static_cast<size_t>(lora_->size()) * sizeof(float));
  return sum.value();
}

// Gives the sum of all ranks' tallies. `data`: a checksum of what was read. Throws `failure`, or an error where another
// rank has failed, or where the ranks do not do the same.
Tally Trainer::agree(JointCall call, uint64_t data, const Tally &own, const std::exception_ptr &failure) const {
  if (ranks_.alone()) {
    if (failure) std::rethrow_exception(failure);
    return own;
  }
  const std::string made_of = model_->fingerprint() + description_;
  std::array<uint64_t, kWords> words{static_cast<uint64_t>(status_of(failure)),
                                     static_cast<uint64_t>(call),
                                     checksum(made_of.data(), made_of.size()),
                                     static_cast<uint64_t>(steps()),
                                     data,
                                     weights_checksum()};
  std::ranges::copy(std::bit_cast<TallyWords>(own), words.begin() + TALLY);
  std::vector<uint64_t> all;
  try {
    all = ranks_.gather(words);
  } catch (...) {
    if (failure) std::rethrow_exception(failure);  // what came first
    throw;
  }
  if (failure) std::rethrow_exception(failure);

  const auto word = [&](int rank, Word which) { return all[static_cast<size_t>(rank) * kWords + which]; };
  const char *const done = call == JointCall::STEP ? "; the step has not happened" : "; nothing was evaluated";
  for (int r = 0; r < ranks_.count(); ++r) {
    const auto status = static_cast<Status>(word(r, STATUS));
    if (status == Status::OK) continue;
    fail(status, "rank ", r, " of ", ranks_.count(),
         status == Status::CANCELLED ? " was cancelled" : " failed, and says why itself", " (", status_name(status),
         ")", done);
  }
  constexpr std::pair<Word, const char *> kSame[] = {
      {CALL, "they make different calls"},
      {MADE_OF, "their trainers were made from different models or descriptions"},
      {STEPS, "they have done different numbers of steps: restore the same checkpoint on all"},
      {DATA, "they read different sequences: restore the same checkpoint on all, and give all the same data"},
      {WEIGHTS,
       "their weights differ: they need the same build, the same kind of processor and as many threads, and the same "
       "checkpoint"}};
  for (const auto &[which, what] : kSame)
    for (int r = 1; r < ranks_.count(); ++r)
      if (word(r, which) != word(0, which))
        fail(Status::STATE, "ranks 0 and ", r, " of ", ranks_.count(), " do not train together: ", what, done);

  Tally sum;
  for (int r = 0; r < ranks_.count(); ++r) sum.add(tally_of(all.data() + static_cast<size_t>(r) * kWords + TALLY));
  return sum;
}

}  // namespace infini
