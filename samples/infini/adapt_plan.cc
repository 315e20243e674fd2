#include <algorithm>
#include <set>

#include "adapt.h"

namespace cli {
namespace {

constexpr double kAlmostShut = -6;  // beta of heads that may learn to remember, but need not

// Layers from the lowest head on: as many as a quarter of the model, or up to the highest head.
void choose_layers(AdaptHeads &chosen, int64_t lowest, int64_t highest, int64_t layers, const AdaptSettings &settings) {
  chosen.first = lowest;
  chosen.last = std::min(layers - 1, std::max(highest, lowest + (layers + 3) / 4 - 1));
  if (settings.layers.empty()) return;
  chosen.first = settings.layers[0];
  chosen.last = settings.layers[1];
  if (chosen.first > lowest || chosen.last < highest || chosen.last >= layers)
    throw std::runtime_error(format("--adapt-layers: heads of layers %lld to %lld are taught, of %lld layers", static_cast<long long>(lowest),
                                    static_cast<long long>(highest), static_cast<long long>(layers)));
}

Json window(const AdaptSettings &settings) {
  return {{"segment", settings.segment}, {"segments", settings.segments}, {"carry", settings.carry}, {"sinks", settings.sinks}};
}

int64_t sequence_tokens(const AdaptSettings &settings) { return settings.segment * settings.segments; }

}  // namespace

AdaptHeads choose_heads(const Json &found, const Json &info, const AdaptSettings &settings) {
  const int64_t group = info["heads"].get<int64_t>() / info["kv_heads"].get<int64_t>();
  const Json &all = found["heads"];
  std::set<std::pair<int64_t, int64_t>> heads;
  for (const Json &head : all) {
    if (head["weight"].get<double>() < settings.share * all[0]["weight"].get<double>()) break;
    // Heads of a group share their keys: what is taught to one changes the others.
    const int64_t first = head["head"].get<int64_t>() / group * group;
    for (int64_t h = first; h < first + group; ++h) heads.emplace(head["layer"].get<int64_t>(), h);
  }
  AdaptHeads chosen;
  for (const auto &[layer, head] : heads) chosen.heads.push_back({layer, head});
  choose_layers(chosen, heads.begin()->first, heads.rbegin()->first, info["layers"], settings);
  return chosen;
}

AdaptHeads no_heads(const Json &info, const AdaptSettings &settings) {
  AdaptHeads chosen;
  const int64_t layers = info["layers"];
  choose_layers(chosen, layers / 2, layers - 1, layers, settings);
  return chosen;
}

// Many facts and few, half of them in prose.
Json recall_data(const AdaptSettings &settings, uint64_t seed) {
  return {{"type", "recall"}, {"seed", seed}, {"prose", settings.texts}, {"density", {0.7, 9}}};
}

Json finding(const AdaptSettings &settings) {
  return {{"training", window(settings)}, {"data", recall_data(settings, static_cast<uint64_t>(settings.seed))}};
}

Json teaching(const AdaptSettings &settings, const AdaptHeads &heads) {
  Json training = window(settings);
  training.update({{"train", "retrieval"}, {"supervision", 1}, {"supervised", heads.heads}, {"optimizer", "muon"},
                   {"muon_rate", settings.teach_rate}, {"muon_decay", 0}, {"warmup", 1}, {"tokens", settings.teach_sequences * sequence_tokens(settings)},
                   {"repeat", settings.teach_repeat},
                   {"rows", sequence_tokens(settings)}, {"seed", settings.seed}});
  return {{"training", training}, {"data", recall_data(settings, static_cast<uint64_t>(settings.seed) + 1)}};
}

Json training(const AdaptSettings &settings, const AdaptHeads &heads, const Json &info) {
  const int64_t tokens = sequence_tokens(settings), view = settings.segment + settings.carry;
  Json gates = {{-1, -1, nullptr}};
  for (int64_t l = heads.first; l <= heads.last; ++l) gates.push_back({l, -1, heads.heads.empty() ? -2 : kAlmostShut});
  for (const Json &head : heads.heads) gates.push_back({head[0], head[1], 0});
  Json training = window(settings);
  training.update({{"train", settings.part}, {"layers", {heads.first, heads.last}}, {"gates", gates}, {"first_segment", "ungated"},
                   {"optimizer", settings.part == "lora" ? "adamw" : "muon"}, {"muon_rate", settings.rate}, {"muon_decay", 0},
                   {"rate", settings.rate / 3}, {"gate_rate", settings.gate_rate}, {"decay", 0}, {"schedule", "linear"}, {"warmup", 20},
                   {"steps", settings.steps}, {"decay_from", 0.6}, {"tokens", tokens}, {"rows", tokens}, {"seed", settings.seed}});
  if (settings.part == "lora") training["lora"] = {{"rank", 16}};
  if (settings.part == "all" && (heads.first > 0 || heads.last + 1 < info["layers"].get<int64_t>())) training["muon_rate"] = settings.rate / 2;
  const auto seed = static_cast<uint64_t>(settings.seed);
  const Json text = {{"type", "text"}, {"files", settings.texts}, {"order", "excerpts"}, {"seed", seed + 2}, {"weight", 0.05}};
  if (heads.heads.empty()) return {{"training", training}, {"data", text}};
  // What the window shows teaches the memory nothing: most questions come from beyond it.
  Json recall = recall_data(settings, seed + 3);
  recall.update({{"carry", settings.carry}, {"nearest", std::max<int64_t>(12, view * 3 / 4)}, {"across", 0.8}, {"inside", 0.2},
                 {"other", 0.1}, {"other_share", 0.04}});
  // The memory goes on being told where to look, so that what it was taught is not undone by what changes below it.
  training.update({{"supervision", settings.supervision}, {"supervised", heads.heads}});
  Json description = {{"training", training}, {"data", recall}};
  description["curriculum"] = {{"stages", {{{"segment", settings.segment}, {"segments", settings.segments}, {"density", {0.7, 9}}}}},
                               {"distance", std::min(tokens, view + 2 * settings.segment)}, {"threshold", 0.6}};
  if (settings.text_ratio > 0)
    description["data"] = {{"type", "mixture"}, {"seed", seed + 4},
                           {"sources", {{{"ratio", 1 - settings.text_ratio}, {"source", recall}}, {{"ratio", settings.text_ratio}, {"source", text}}}}};
  return description;
}

}  // namespace cli
