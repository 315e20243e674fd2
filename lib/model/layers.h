// The layers of a stream in the host's memory, as the engine on the processor computes them.
#pragma once

#include <memory>
#include <vector>

#include "attention/attention.h"
#include "model/model.h"
#include "model/state.h"

namespace infini {

struct HostLayers final : Layers {
  // Of windows that hold nothing yet, of the type.
  HostLayers(const Model &model, RowNumbers numbers);
  HostLayers() = default;  // without a layer

  std::unique_ptr<Layers> copy(const View &view) const override;
  void clear(const View &view) override;
  int64_t bytes(const View &view) const override;
  int64_t held_bytes() const override;

  std::vector<LayerState> list;
  FrontAngles angles;  // of the last window that was closed
};

// Of a point that has layers: a checkpoint of the beginning has none.
inline std::vector<LayerState> &layers_of(Point &point) { return static_cast<HostLayers &>(*point.layers).list; }
inline const std::vector<LayerState> &layers_of(const Point &point) {
  return static_cast<const HostLayers &>(*point.layers).list;
}
inline FrontAngles &angles_of(Point &point) { return static_cast<HostLayers &>(*point.layers).angles; }

// Layer `index` of the state has closed a segment, after which the view is `after`: copies the layer into that
// boundary's checkpoint. The first layer makes the checkpoint, and drops the oldest if there are too many. Layers come
// in order; different states may do this on different threads.
void keep_boundary(State &state, const View &after, size_t index);

}  // namespace infini
