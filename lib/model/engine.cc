#include "model/engine.h"

#include <algorithm>
#include <atomic>

#include "model/forward.h"
#include "model/kept.h"
#include "model/layers.h"
#include "model/merge.h"

namespace infini {
namespace {

// Every stretch of M and z. Bytes: a vector of spans of bytes, constant or not.
template <class Bytes>
Bytes memory_bytes(auto &layers) {
  Bytes parts;
  for (auto &layer : layers)
    for (auto &memory : layer.memory)
      memory.visit([&](auto *values, int64_t count) {
        using Byte = typename Bytes::value_type::element_type;
        parts.push_back({reinterpret_cast<Byte *>(values), static_cast<size_t>(count) * sizeof(float)});
      });
  return parts;
}
// Every stretch of the windows, in the order of snapshots of format 1.
std::vector<std::span<std::byte>> panels_of(std::vector<LayerState> &layers, const View &view) {
  std::vector<std::span<std::byte>> parts;
  for (LayerState &layer : layers)
    layer.window.visit(view, [&](char *data, int64_t bytes, NumberType) {
      parts.push_back(std::as_writable_bytes(std::span(data, static_cast<size_t>(bytes))));
    });
  return parts;
}
// Where each layer's rows begin, and where they all end.
std::vector<int64_t> row_offsets(const Point &point, RowNumbers numbers) {
  std::vector<int64_t> offsets{0};
  for (const LayerState &layer : layers_of(point))
    offsets.push_back(offsets.back() + layer.window.row_bytes(point.view, numbers));
  return offsets;
}
using Saved = std::vector<std::span<const std::byte>>;
using Restored = std::vector<std::span<std::byte>>;

}  // namespace

Engine::Engine(const Model &model) : model_(model), workspace_(std::make_unique<Workspace>()) {}
Engine::~Engine() = default;

State Engine::make_state(int checkpoints) const {
  return {model_.config(), std::make_unique<HostLayers>(model_, row_numbers()), checkpoints};
}

Checkpoint Engine::make_checkpoint() const {
  Checkpoint checkpoint;
  checkpoint.layers = std::make_unique<HostLayers>(model_, row_numbers());
  checkpoint.hidden.resize(static_cast<size_t>(model_.config().width));
  return checkpoint;
}

void Engine::reserve(int64_t tokens, int threads) { workspace_->reserve(model_, tokens, threads); }

int64_t Engine::longest_chunk(const State &state) const { return infini::longest_chunk(model_, state); }

void Engine::forward(const Threads &threads, std::span<const StateTokens> chunk, bool exact, const LogitsSink &sink) {
  infini::forward(threads, model_, chunk, *workspace_, exact, sink);
}

void Engine::close_segment(const Threads &threads, State &state, bool empty) {
  infini::close_segment(threads, model_, state, *workspace_, empty);
}

void Engine::compute_logits(const Threads &threads, std::span<State *const> states, bool exact) {
  infini::compute_logits(threads, model_, states, *workspace_, exact);
}

void Engine::merge(const Threads &threads, State &state, const State &other, double weight) const {
  infini::merge(threads, model_, state, other, weight);
}

int64_t Engine::bytes() const { return workspace_->bytes(); }

NumberType Engine::number_type() const { return model_.rules().choice.floats; }
RowNumbers Engine::row_numbers() const { return {number_type(), model_.rules().attention.shape.int8}; }

SnapshotSection Engine::memory_section(const Point &point) const { return {"", memory_bytes<Saved>(layers_of(point))}; }

bool Engine::read_memory(Point &point, const ReadSection &read) const {
  const Restored parts = memory_bytes<Restored>(layers_of(point));
  read(parts);
  return std::all_of(parts.begin(), parts.end(), [](const std::span<std::byte> part) {
    return all_finite({reinterpret_cast<const float *>(part.data()), part.size() / sizeof(float)});
  });
}

SnapshotSection Engine::window_section(const Point &point) const {
  const std::vector<int64_t> offsets = row_offsets(point, row_numbers());
  // A layer at a time: its rows are written while they are in the processor's cache, and made where those of the layer
  // before were. On one thread: memory and the file are what takes the time.
  const auto make = [&point, offsets](const auto &take) {
    Buffer<char> rows;
    const std::vector<LayerState> &layers = layers_of(point);
    for (size_t l = 0; l < layers.size(); ++l) {
      const int64_t bytes = offsets[l + 1] - offsets[l];
      rows.reserve(bytes);
      layers[l].window.to_rows(point.view, rows.data());
      take(std::as_bytes(std::span(rows.data(), static_cast<size_t>(bytes))));
    }
  };
  return {"", {}, static_cast<uint64_t>(offsets.back()), make};
}

uint64_t Engine::window_bytes(const Point &point, RowNumbers stored) const {
  return static_cast<uint64_t>(row_offsets(point, stored).back());
}

bool Engine::read_window(const Threads &threads, Point &point, RowNumbers stored,
                         std::span<const std::byte> section) const {
  const std::vector<int64_t> offsets = row_offsets(point, stored);
  const char *rows = reinterpret_cast<const char *>(section.data());
  std::vector<LayerState> &layers = layers_of(point);
  std::atomic<bool> finite{true};
  parallel_items(threads, static_cast<int64_t>(layers.size()), offsets.back(), [&](int64_t item) {
    const auto l = static_cast<size_t>(item);
    Window &window = layers[l].window;
    window.prepare(point.view);
    window.from_rows(point.view, stored, rows + offsets[l]);
    if (!window.is_finite(point.view)) finite = false;
  });
  return finite;
}

bool Engine::read_window_1(Point &point, NumberType stored, const ReadSection &read) const {
  const bool same = RowNumbers(stored) == row_numbers();
  std::vector<LayerState> &layers = layers_of(point), other;
  if (!same) other = std::move(HostLayers(model_, stored).list);
  for (LayerState &layer : layers) layer.window.prepare(point.view);
  read(panels_of(same ? layers : other, point.view));
  Buffer<char> rows;
  for (size_t l = 0; l < layers.size(); ++l) {
    Window &window = layers[l].window;
    if (!same) {
      rows.reserve(other[l].window.row_bytes(point.view, stored));
      other[l].window.to_rows(point.view, rows.data());
      window.from_rows(point.view, stored, rows.data());
    }
    if (!window.is_finite(point.view)) return false;
  }
  return true;
}

SnapshotSection Engine::kept_section(const State &state) const {
  const auto make = [this, &state](const auto &take) {
    std::vector<char> numbers;
    for (const std::vector<float> &layer : kept_of(model_, state).layers) {
      const auto count = static_cast<int64_t>(layer.size());
      numbers.resize(static_cast<size_t>(count * bytes_of(number_type())));
      store(layer.data(), count, number_type(), numbers.data());
      take(std::as_bytes(std::span(numbers)));
    }
  };
  return {"", {}, static_cast<uint64_t>(kept_bytes(state.view.kept, number_type())), make};
}

int64_t Engine::kept_bytes(int64_t tokens, NumberType stored) const {
  return tokens * kept_token_floats(model_) * kept_layers(model_) * bytes_of(stored);
}

bool Engine::read_kept(State &state, std::vector<KeptSpan> spans, NumberType stored, const ReadSection &read) const {
  Kept kept{std::move(spans), {}};
  const int64_t layer = kept.tokens() * kept_token_floats(model_);
  std::vector<char> bytes(static_cast<size_t>(kept_bytes(kept.tokens(), stored)));
  read({std::as_writable_bytes(std::span(bytes))});
  for (int64_t l = 0; l < kept_layers(model_); ++l) {
    const char *from = bytes.data() + l * layer * bytes_of(stored);
    std::vector<float> &values = kept.layers.emplace_back(static_cast<size_t>(layer));
    load(stored, from, layer, values.data());
    if (!all_finite(values)) return false;
  }
  set_kept(Threads(), model_, state, kept.within_budget(model_.rules().attention.shape));
  return true;
}

}  // namespace infini
