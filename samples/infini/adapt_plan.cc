#include <algorithm>
#include <map>
#include <stdexcept>

#include "adapt.h"

namespace cli {
namespace {

constexpr double kOpen = 2;     // beta of heads that were taught
constexpr int64_t kDigits = 5;  // of a value
constexpr double kNumbers =
    4;  // among 1,000 tokens of filler; books have a tenth of that, and their digits must not be taken for values
constexpr int64_t kFact = 32, kQuestion = 20;  // tokens, at most

int64_t teaching_segments(const AdaptSettings &settings) { return std::max<int64_t>(2, settings.segments * 7 / 12); }

// First and last layer that are trained end to end: from `lowest` on as many as a quarter of the model, `highest` at least.
void choose_layers(AdaptHeads &chosen, int64_t lowest, int64_t highest, int64_t layers, const AdaptSettings &settings) {
  chosen.first = lowest;
  chosen.last = std::min(layers - 1, std::max(highest, lowest + (layers + 3) / 4 - 1));
  if (settings.layers.empty()) return;
  chosen.first = settings.layers[0];
  chosen.last = settings.layers[1];
  if (chosen.first < 0 || chosen.first > chosen.last || chosen.last >= layers)
    throw std::runtime_error(
        format("--adapt-layers: the first and the last, of layers 0 to %lld", static_cast<long long>(layers - 1)));
  if (!chosen.memory.empty() && (chosen.first > lowest || chosen.last < highest))
    throw std::runtime_error(format("--adapt-layers: heads of layers %lld to %lld are taught, of %lld layers",
                                    static_cast<long long>(lowest), static_cast<long long>(highest),
                                    static_cast<long long>(layers)));
}

Json window(const AdaptSettings &settings, int64_t segments) {
  return {{"segment", settings.segment}, {"segments", segments}, {"carry", settings.carry}, {"sinks", settings.sinks}};
}

// What every trainer has in common: sequences of so many segments, so many a step, through the layers one by one.
Json trainer(const AdaptSettings &settings, int64_t segments, int64_t sequences) {
  Json out = window(settings, segments);
  const int64_t tokens = settings.segment * segments;
  out.update({{"tokens", sequences * tokens},
              {"rows", tokens},
              {"seed", settings.seed},
              {"first_segment", "ungated"},
              {"epsilon", 1},
              {"muon_decay", 0},
              {"decay", 0}});
  return out;
}

Json seeded(Json data, const AdaptSettings &settings, int64_t number) {
  data["seed"] = settings.seed + number;
  return data;
}

// Many facts and few, half of them in prose.
Json recall(const AdaptSettings &settings, double least, double greatest) {
  return {{"type", "recall"}, {"prose", settings.texts}, {"density", {least, greatest}}};
}

// Facts within a stretch of the sequence, from its start on, and questions at its end.
Json asked(const AdaptSettings &settings, int64_t names, int64_t questions, double deepest) {
  return {{"type", "passkey"},
          {"prose", settings.texts},
          {"keys", std::max<int64_t>(1, names)},
          {"questions", std::max<int64_t>(1, questions)},
          {"depth", {0, deepest}}};
}

// One fact at the very start: what follows is filler, and prose has more to tell apart from it than the paper's sentences.
Json one_asked(const AdaptSettings &settings) {
  Json data = asked(settings, 1, 1, 0);
  data["prose_share"] = 0.8;
  return data;
}

Json mixture(const AdaptSettings &settings, const std::vector<std::pair<double, Json>> &parts, int64_t number) {
  Json sources = Json::array();
  for (const auto &[ratio, source] : parts) sources.push_back({{"ratio", ratio}, {"source", source}});
  return seeded({{"type", "mixture"}, {"sources", sources}}, settings, number);
}

// Heads of a group share their keys: [layer, kv head] and the sum of what was found of its heads.
std::map<std::pair<int64_t, int64_t>, double> group_weights(const Json &found, int64_t group, const char *weight) {
  std::map<std::pair<int64_t, int64_t>, double> sums;
  for (const Json &head : found["heads"])
    sums[{head["layer"].get<int64_t>(), head["head"].get<int64_t>() / group}] += head[weight].get<double>();
  return sums;
}

}  // namespace

AdaptHeads choose_heads(const Json &found, const Json &info, const AdaptSettings &settings) {
  const int64_t layers = info["layers"], kv_heads = info["kv_heads"], group = info["heads"].get<int64_t>() / kv_heads;
  const int64_t needed = (kDigits + kv_heads - 1) / kv_heads;  // layers with a group for every digit
  if (needed >= layers) return no_heads(info, settings);
  const Json &all = found["heads"];
  int64_t lowest = layers;
  for (const Json &head : all)
    if (head["weight"].get<double>() >= settings.share * all[0]["weight"].get<double>())
      lowest = std::min(lowest, head["layer"].get<int64_t>());
  const int64_t carrier = std::clamp<int64_t>(lowest - 1, 0, layers - 1 - needed);

  AdaptHeads chosen;
  const auto names = group_weights(found, group, "name_weight"), values = group_weights(found, group, "weight");
  int64_t carries = 0;
  for (int64_t g = 1; g < kv_heads; ++g)
    if (names.at({carrier, g}) > names.at({carrier, carries})) carries = g;
  for (int64_t h = 0; h < group; ++h) chosen.carriers.push_back({carrier, carries * group + h});

  // In each layer first the groups that retrieve most: they have least else to do.
  int64_t place = 0;
  for (int64_t layer = carrier + 1; place < kDigits; ++layer) {
    std::vector<int64_t> groups;
    for (int64_t g = 0; g < kv_heads; ++g) groups.push_back(g);
    std::stable_sort(groups.begin(), groups.end(), [&](int64_t a, int64_t b) {
      return values.at({layer, a}) > values.at({layer, b});
    });
    for (const int64_t g : groups) {
      if (place == kDigits) break;
      for (int64_t h = 0; h < group; ++h) chosen.memory.push_back({layer, g * group + h, place});
      ++place;
    }
  }
  choose_layers(chosen, carrier + 1, carrier + needed, layers, settings);
  return chosen;
}

AdaptHeads no_heads(const Json &info, const AdaptSettings &settings) {
  AdaptHeads chosen;
  const int64_t layers = info["layers"];
  choose_layers(chosen, layers / 2, layers - 1, layers, settings);
  return chosen;
}

void check_room(const AdaptSettings &settings) {
  if (const int64_t tokens = teaching_segments(settings) * settings.segment; tokens < kFact + kQuestion)
    throw std::runtime_error(format(
        "--segment, --segments: heads are taught with sequences of %lld tokens, but a fact and a question take %lld",
        static_cast<long long>(tokens), static_cast<long long>(kFact + kQuestion)));
}

Json finding(const AdaptSettings &settings) {
  return {{"training", window(settings, settings.segments)}, {"data", seeded(recall(settings, 0.7, 9), settings, 0)}};
}

// Nothing is predicted: local attention alone is told where to look.
Json carrying(const AdaptSettings &settings, const AdaptHeads &heads) {
  const int64_t layer = heads.carriers[0][0], sequences = 4;
  Json training = trainer(settings, settings.segments, sequences);
  training.update({{"train", "features"},
                   {"layers", {layer, layer}},
                   {"gates", {{-1, -1, nullptr}}},
                   {"gate_rate", 0},
                   {"optimizer", "muon"},
                   {"feature_rate", settings.carry_rate},
                   {"schedule", "linear"},
                   {"warmup", 5},
                   {"steps", settings.carry_steps},
                   {"decay_from", 0.3},
                   {"drawn", 5 * training["tokens"].get<int64_t>()},
                   {"repeat", 5},
                   {"local_supervision", 1},
                   {"local_supervised", heads.carriers},
                   {"hand_on", settings.carry_size}});
  Json data = recall(settings, 1, 24);
  data.update({{"across", 0}, {"inside", 0}, {"other_share", 0}});
  return {{"training", training}, {"data", seeded(data, settings, 1)}};
}

// Dense sequences: as many names as there is room for, told anywhere or at the very start, and few names.
Json teaching(const AdaptSettings &settings, const AdaptHeads &heads, int64_t layer) {
  constexpr int64_t kSequences = 8;  // of a step
  const int64_t segments = teaching_segments(settings), tokens = settings.segment * segments;
  const int64_t many = std::clamp<int64_t>(tokens * 7 / 8 / (kFact + kQuestion * 3 / 4), 1, settings.names);
  Json supervised = Json::array(), gates = {{-1, -1, nullptr}};
  for (const Json &head : heads.memory) {
    if (head[0] == layer) supervised.push_back(head);
    if (head[0] < layer) gates.push_back({head[0], head[1], kOpen});
  }
  Json training = trainer(settings, segments, kSequences);
  const int64_t steps = std::max<int64_t>(1, settings.teach_sequences / kSequences);  // that read all of them
  training.update({{"train", "retrieval"},
                   {"supervision", 1},
                   {"supervised", supervised},
                   {"silence", 0.3},
                   {"gates", gates},
                   {"optimizer", "muon"},
                   {"feature_rate", settings.teach_rate},
                   {"clip", 0},
                   {"schedule", "linear"},
                   {"warmup", 10},
                   {"steps", settings.teach_steps},
                   {"decay_from", 0.5},
                   {"rows", 2 * tokens},
                   {"drawn", steps * training["tokens"].get<int64_t>()},
                   {"repeat", settings.teach_steps / steps + 1}});
  const auto part = [&](Json data, int64_t number) {
    data.update({{"across", 0}, {"inside", 0}, {"other_share", 0}, {"fold", settings.fold}, {"numbers", kNumbers}});
    return seeded(data, settings, number);
  };
  return {{"training", training},
          {"data", mixture(settings,
                           {{0.3, part(asked(settings, many, many * 3 / 4, 1), 2)},
                            {0.15, part(asked(settings, many * 3 / 4, many * 5 / 8, 0), 3)},
                            {0.15, part(asked(settings, many / 4, many / 4, 1), 4)},
                            {0.15, part(recall(settings, 0.7, 3), 5)},
                            {0.25, part(one_asked(settings), 6)}},
                           7)}};
}

Json training(const AdaptSettings &settings, const AdaptHeads &heads, const Json &info) {
  const bool remembers = !heads.memory.empty();
  Json gates = {{-1, -1, nullptr}};
  if (remembers)
    for (const Json &head : heads.memory) gates.push_back({head[0], head[1], kOpen});
  else
    for (int64_t l = heads.first; l <= heads.last; ++l) gates.push_back({l, -1, -kOpen});
  Json training = trainer(settings, settings.segments, 1);
  training.update({{"train", settings.part},
                   {"layers", {heads.first, heads.last}},
                   {"gates", gates},
                   {"optimizer", settings.part == "lora" ? "adamw" : "muon"},
                   {"muon_rate", settings.rate},
                   {"rate", settings.rate / 3},
                   {"gate_rate", settings.gate_rate},
                   {"schedule", "linear"},
                   {"warmup", 20},
                   {"steps", settings.steps},
                   {"decay_from", 0.4}});
  if (settings.part == "lora") training["lora"] = {{"rank", 16}};
  if (settings.part == "all" && (heads.first > 0 || heads.last + 1 < info["layers"].get<int64_t>()))
    training["muon_rate"] = settings.rate / 2;
  const Json text =
      seeded({{"type", "text"}, {"files", settings.texts}, {"order", "excerpts"}, {"weight", 0.05}}, settings, 8);
  if (!remembers) return {{"training", training}, {"data", text}};
  // What the window shows teaches the memory nothing: most questions come from beyond it.
  const auto part = [&](Json data, int64_t number) {
    data.update({{"carry", settings.carry},
                 {"across", 0.8},
                 {"inside", 0.2},
                 {"other", 0.1},
                 {"other_share", 0.04},
                 {"fold", settings.fold},
                 {"numbers", kNumbers}});
    return seeded(data, settings, number);
  };
  const auto anywhere = [&](double least, double greatest) {
    Json data = recall(settings, least, greatest);
    data["nearest"] = std::max<int64_t>(12, (settings.segment + settings.carry) * 3 / 4);
    return data;
  };
  const int64_t many = std::min({int64_t{12}, settings.names, settings.segment * settings.segments / 64});
  const double task = 1 - settings.text_ratio;
  return {{"training", training},
          {"data", mixture(settings,
                           {{0.35 * task, part(anywhere(1, 20), 9)},
                            {0.2 * task, part(anywhere(0.7, 2), 10)},
                            {0.1 * task, part(one_asked(settings), 11)},
                            {0.15 * task, part(asked(settings, many / 3, many / 3, 0.3), 12)},
                            {0.2 * task, part(asked(settings, many, many / 2, 0.1), 13)},
                            {settings.text_ratio, text}},
                           14)}};
}

}  // namespace cli
