#include "model/engine.h"

#include <algorithm>

#include "model/forward.h"
#include "model/kept.h"
#include "model/merge.h"

namespace infini {
namespace {

// Layers of windows of this type, with nothing in them.
std::vector<LayerState> empty_layers(const Model &model, NumberType type) {
  std::vector<LayerState> layers;
  for (const LayerWeights &layer : model.weights().layers) {
    AttentionRules rules = model.weights().kinds[layer.kind];
    rules.shape.type = type;
    layers.emplace_back(rules, layer.gate_weight.data());
  }
  return layers;
}

// Where M and z, and where the windows stand. Bytes: spans of constant bytes, or of others.
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
template <class Bytes>
Bytes window_bytes(auto &layers, const View &view) {
  Bytes parts;
  for (auto &layer : layers)
    layer.window.visit(view, [&](auto *data, int64_t bytes, NumberType) {
      using Byte = typename Bytes::value_type::element_type;
      parts.push_back({reinterpret_cast<Byte *>(data), static_cast<size_t>(bytes)});
    });
  return parts;
}
using Saved = std::vector<std::span<const std::byte>>;
using Restored = std::vector<std::span<std::byte>>;

}  // namespace

Engine::Engine(const Model &model) : model_(model), workspace_(std::make_unique<Workspace>()) {}
Engine::~Engine() = default;

State Engine::make_state(int checkpoints) const { return State(model_, checkpoints); }

Checkpoint Engine::make_checkpoint() const {
  Checkpoint checkpoint;
  checkpoint.layers = empty_layers(model_, number_type());
  checkpoint.hidden.resize(static_cast<size_t>(model_.config().width));
  return checkpoint;
}

int64_t Engine::longest_block(const State &state) const { return infini::longest_block(model_, state); }

void Engine::forward(const Threads &threads, std::span<const Part> parts, bool exact, const LogitsSink &sink) {
  infini::forward(threads, model_, parts, *workspace_, exact, sink);
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

NumberType Engine::number_type() const { return model_.weights().compute; }

SectionBytes Engine::memory_section(const Place &place) const { return {memory_bytes<Saved>(place.layers), {}}; }

bool Engine::read_memory(Place &place, const ReadSection &read) const {
  const Restored parts = memory_bytes<Restored>(place.layers);
  read(parts);
  return std::all_of(parts.begin(), parts.end(), [](const std::span<std::byte> part) {
    return all_finite({reinterpret_cast<const float *>(part.data()), part.size() / sizeof(float)});
  });
}

SectionBytes Engine::window_section(const Place &place) const {
  return {window_bytes<Saved>(place.layers, place.view), {}};
}

bool Engine::read_window(Place &place, NumberType stored, const ReadSection &read) const {
  const bool same = stored == number_type();
  std::vector<LayerState> other;
  if (!same) other = empty_layers(model_, stored);
  for (LayerState &layer : place.layers) layer.window.settle(place.view);
  read(window_bytes<Restored>(same ? place.layers : other, place.view));
  for (size_t l = 0; l < place.layers.size(); ++l) {
    if (!same) place.layers[l].window.convert_from(other[l].window, place.view);
    if (!place.layers[l].window.is_finite(place.view)) return false;
  }
  return true;
}

SectionBytes Engine::kept_section(const State &state) const {
  SectionBytes section;
  section.made.resize(static_cast<size_t>(kept_bytes(state.view.kept, number_type())));
  char *to = section.made.data();
  for (const std::vector<float> &layer : kept_of(model_, state).layers) {
    const auto count = static_cast<int64_t>(layer.size());
    store(layer.data(), count, number_type(), to);
    to += count * bytes_of(number_type());
  }
  section.parts.push_back(std::as_bytes(std::span(section.made)));
  return section;
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
  set_kept(Threads(), model_, state, kept.choose(choose_spans(kept.spans, model_.weights().attention.shape)));
  return true;
}

}  // namespace infini
