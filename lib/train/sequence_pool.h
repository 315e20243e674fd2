// What steps of training read: sequences are drawn from a source a pool at a time, and the steps read the pool for some
// epochs. The length of sequences may change from one pool to the next.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/task.h"
#include "train/sequence.h"

namespace infini {

struct Tally;

// How long sequences are: as the configuration says, or, with a curriculum, longer as recall grows.
class SequenceLengths {
 public:
  virtual ~SequenceLengths() = default;
  virtual int segment() const = 0;              // tokens
  virtual int segments() const = 0;             // of a sequence
  virtual void observe(const Tally &seen) = 0;  // after every step
  virtual std::string save() const = 0;
  virtual void restore(const std::string &state) = 0;
};

class FixedLengths : public SequenceLengths {
 public:
  FixedLengths(int segment, int segments) : segment_(segment), segments_(segments) {}
  int segment() const override { return segment_; }
  int segments() const override { return segments_; }
  void observe(const Tally &) override {}
  std::string save() const override { return ""; }
  void restore(const std::string &) override {}

 private:
  int segment_, segments_;
};

class SequencePool {
 public:
  // A step reads about `tokens` tokens, one sequence at least. A pool holds about `drawn` tokens, those of one step at
  // least, and is read `epochs` times.
  SequencePool(std::unique_ptr<SequenceSource> source, std::shared_ptr<SequenceLengths> lengths, int64_t tokens,
               int64_t drawn, int64_t epochs)
      : source_(std::move(source)), lengths_(std::move(lengths)), tokens_(tokens), pool_tokens_(drawn),
        epochs_(epochs) {}

  // To be called before a step: draws a pool, where there is none or its epochs are over. True: it was drawn.
  // CANCELLED, and errors of the source: it may be called again.
  bool begin_step(Task *task);
  // To be called after a step that has happened.
  void end_step(const Tally &tally);
  // Drops the pool's sequences; before the next step the same ones are drawn again.
  void forget();

  // The sequences that a step of the pool reads, and the index of the first of them.
  std::span<const Sequence> of_step(int64_t step) const {
    return std::span(pool_).subspan(first_of_step(step), pool_.size() / static_cast<size_t>(steps_));
  }
  size_t first_of_step(int64_t step) const {
    return static_cast<size_t>(step) * (pool_.size() / static_cast<size_t>(steps_));
  }
  int64_t step() const { return steps_done_ % steps_; }  // the step at hand
  int64_t steps() const { return steps_; }               // of an epoch
  const std::vector<Sequence> &all() const { return pool_; }
  int segment() const { return segment_; }  // tokens of a segment of these sequences
  const SequenceLengths &lengths() const { return *lengths_; }

  // What a checkpoint holds. The sequences of a pool whose epochs are not over are drawn again.
  struct State {
    std::string source, lengths_before, lengths;  // states of both before the pool was drawn, and of the lengths now
    int64_t steps_done;                           // of the pool
  };
  State save() const;
  // The state that another pool, of a source and lengths made alike, saved. Where one of these refuses it, neither
  // changes.
  void restore(State state);

 private:
  bool done_with() const { return steps_done_ >= epochs_ * steps_; }
  void draw(Task *task);

  const std::unique_ptr<SequenceSource> source_;
  const std::shared_ptr<SequenceLengths> lengths_;
  const int64_t tokens_, pool_tokens_, epochs_;
  std::vector<Sequence> pool_;
  std::string source_before_, lengths_before_;  // their states before it was drawn
  bool again_ = false;                          // the pool is empty, and is to be drawn again from these
  int64_t steps_ = 1, steps_done_ = 0;
  int segment_ = 0;
};

}  // namespace infini
