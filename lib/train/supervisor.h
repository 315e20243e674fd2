// Supervision of attention, as training knows it: the loss weight of each supervised query, a head at a time. The
// layout of a batch says which earlier tokens are the query's targets; which heads are supervised, and why, only a
// supervisor knows.
#pragma once

#include <cstdint>

#include "train/batch_layout.h"

namespace infini {

// Loss weights of the queries of a batch. 0: the query has no such loss.
class SupervisionWeights {
 public:
  virtual ~SupervisionWeights() = default;
  // Whether the head's retrievals, or its local attention, may have weights other than 0.
  virtual bool supervises(int layer, int head) const = 0;
  virtual bool supervises_locally(int layer, int head) const = 0;
  // Of -log(share of the retrieval that falls on the query's sources).
  virtual float retrieval(const BatchLayout &layout, const Retrieval &query, int layer, int head) const = 0;
  // Of log(denominator of (7) / epsilon), which is 0 where the head retrieves nothing. Asked for of rows of
  // BatchLayout::silent, and of those with sources, where the weight of the retrieval is 0.
  virtual float silence(const BatchLayout &layout, int64_t row, int layer, int head) const = 0;
  // Of -log(share of local attention that falls on BatchLayout::local_target of the row).
  virtual float local(const BatchLayout &layout, int64_t row, int layer, int head) const = 0;
};

// What a trainer is given. This one supervises nothing.
class Supervisor {
 public:
  virtual ~Supervisor() = default;
  // Whether it supervises retrievals of a head of the layer.
  virtual bool supervises(int) const { return false; }
  // Whether attention of the layer, v and o too, is initialised before the first step (Trainer::initialise), so that
  // it belongs to what checkpoints hold and the written model has.
  virtual bool initialises(int) const { return false; }
  // A sequence was just added to the layout: adds those of its rows to BatchLayout::silent that should retrieve
  // nothing.
  virtual void choose_silent(const Sequence &, BatchLayout &) const {}

  // Each kind of loss may be a mean over the queries of a step, so all its layouts are counted before the first is
  // weighed: begin_step(), count() of each, end_count(), step_weights().
  virtual void begin_step() {}
  virtual void count(const BatchLayout &) {}
  virtual void end_count() {}
  // Of a step, and of evaluations. nullptr: nothing is supervised.
  virtual const SupervisionWeights *step_weights() const { return nullptr; }
  virtual const SupervisionWeights *evaluation_weights() const { return nullptr; }
};

}  // namespace infini
