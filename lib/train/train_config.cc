#include "train/train_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/fields.h"
#include "base/status.h"

namespace infini {
namespace {

constexpr const char *kParts[] = {"all", "attention", "features", "gates", "lora", "retrieval"};
constexpr const char *kShapes[] = {"constant", "cosine", "linear"};
constexpr const char *kTargets[] = {"q", "k", "v", "o", "gate", "up", "down"};

template <size_t N>
size_t choice(Fields &fields, const char *name, const char *const (&choices)[N], size_t standard) {
  const std::string given = fields.text(name, choices[standard]);
  std::string all;
  for (size_t i = 0; i < N; ++i) {
    if (given == choices[i]) return i;
    all += cat(i ? ", " : "one of ", choices[i]);
  }
  fields.refuse(name, all);
}

// A list of lists of `least` to `count` numbers each; null stands for minus infinity in the last place.
std::vector<std::vector<double>> rows(Fields &fields, const char *name, size_t least, size_t count) {
  std::vector<std::vector<double>> out;
  const nlohmann::json *list = fields.find(name);
  if (!list) return out;
  const std::string expected = least == count ? cat("a list of lists of ", count, " numbers")
                                              : cat("a list of lists of ", least, " or ", count, " numbers");
  if (!list->is_array()) fields.refuse(name, expected);
  for (const nlohmann::json &row : *list) {
    if (!row.is_array() || row.size() < least || row.size() > count) fields.refuse(name, expected);
    out.emplace_back();
    for (size_t i = 0; i < row.size(); ++i) {
      const bool shut = i == 2 && row[i].is_null();
      if (!shut && !row[i].is_number()) fields.refuse(name, expected);
      const double value = shut ? -std::numeric_limits<double>::infinity() : row[i].get<double>();
      if (i < 2 && !(value >= -1 && value <= 1e6 && value == static_cast<int>(value)))
        fields.refuse(name, "layers and heads, or -1 for all");
      out.back().push_back(value);
    }
  }
  return out;
}

}  // namespace

TrainConfig parse_train_config(std::string_view text) {
  const nlohmann::json json = parse_json(text, Status::INVALID_ARGUMENT, "the training configuration");
  Fields fields(json, "train");
  TrainConfig c;
  constexpr double kMost = 1e9;
  c.part = static_cast<TrainedPart>(choice(fields, "train", kParts, 0));
  if (const auto layers = fields.numbers("layers", 2, -1, 4096); !layers.empty()) {
    c.first_layer = static_cast<int>(layers[0]);
    c.last_layer = static_cast<int>(layers[1]);
    if (c.first_layer < 0) fields.refuse("layers", "[first, last]");
  }
  if (const nlohmann::json *lora = fields.find("lora")) {
    Fields of(*lora, "train.lora");
    c.lora.rank = static_cast<int>(of.whole("rank", c.lora.rank, 1, 1024));
    c.lora.alpha = of.number("alpha", c.lora.alpha, 1e-6, 1e6);
    if (of.find("targets")) c.lora.targets = of.texts("targets");
    for (const std::string &target : c.lora.targets)
      if (std::find(std::begin(kTargets), std::end(kTargets), target) == std::end(kTargets))
        of.refuse("targets", "some of q, k, v, o, gate, up, down");
    if (c.lora.targets.empty()) of.refuse("targets", "some of q, k, v, o, gate, up, down");
    of.finish();
  }
  constexpr const char *kOptimizers[] = {"muon", "adamw"};
  c.muon = choice(fields, "optimizer", kOptimizers, 0) == 0;
  OptimizerConfig &o = c.optimizer;
  o.rate = fields.number("rate", o.rate, 0, 10);
  o.muon_rate = fields.number("muon_rate", o.muon_rate, 0, 10);
  o.feature_rate = fields.number("feature_rate", o.muon_rate, 0, 10);
  o.gate_rate = fields.number("gate_rate", 5 * o.rate, 0, 100);
  o.decay = fields.number("decay", o.decay, 0, 10);
  o.muon_decay = fields.number("muon_decay", o.muon_decay, 0, 10);
  o.momentum = fields.number("momentum", o.momentum, 0, 0.9999);
  o.beta1 = fields.number("beta1", o.beta1, 0, 0.9999);
  o.beta2 = fields.number("beta2", o.beta2, 0, 0.99999);
  o.clip = fields.number("clip", o.clip, 0, kMost);
  o.schedule.shape = static_cast<ScheduleShape>(choice(fields, "schedule", kShapes, 0));
  o.schedule.warmup = fields.whole("warmup", o.schedule.warmup, 0, 1000000000);
  o.schedule.total = fields.whole("steps", o.schedule.total, 0, 1000000000);
  o.schedule.decay_from = fields.number("decay_from", o.schedule.decay_from, 0, 1);
  o.schedule.floor = fields.number("floor", o.schedule.floor, 0, 1);
  c.tokens = fields.whole("tokens", c.tokens, 1, 1 << 28);
  c.drawn = fields.whole("drawn", c.drawn, 0, 1 << 28);
  c.repeat = static_cast<int>(fields.whole("repeat", c.repeat, 1, 1000000));
  c.rows = fields.whole("rows", c.rows, 1, 1 << 26);
  c.segment = static_cast<int>(fields.whole("segment", c.segment, 0, 1 << 24));
  c.segments = static_cast<int>(fields.whole("segments", c.segments, 1, 1 << 24));
  c.carry = static_cast<int>(fields.whole("carry", c.carry, -1, 1 << 24));
  c.sinks = static_cast<int>(fields.whole("sinks", c.sinks, -1, 65536));
  c.epsilon = fields.number("epsilon", c.epsilon, -1, kMost);
  if (c.epsilon < 0 && c.epsilon != -1) fields.refuse("epsilon", "0 or more, or -1: as the model says");
  constexpr const char *kFirst[] = {"model", "gated", "ungated"};
  c.first_segment = kFirst[choice(fields, "first_segment", kFirst, 0)];
  c.supervision = fields.number("supervision", c.supervision, 0, kMost);
  for (const auto &row : rows(fields, "supervised", 2, 3)) {
    const double offset = row.size() > 2 ? row[2] : -1;
    if (!(offset >= -1 && offset <= 1e6 && offset == static_cast<int>(offset)))
      fields.refuse("supervised", "[layer, head] or [layer, head, offset]");
    c.supervised.push_back({static_cast<int>(row[0]), static_cast<int>(row[1]), static_cast<int>(offset)});
  }
  c.silence = fields.number("silence", c.silence, 0, kMost);
  c.local_supervision = fields.number("local_supervision", c.local_supervision, 0, kMost);
  for (const auto &row : rows(fields, "local_supervised", 2, 2))
    c.local_supervised.emplace_back(static_cast<int>(row[0]), static_cast<int>(row[1]));
  c.hand_on = fields.number("hand_on", c.hand_on, 0, kMost);
  if (c.hand_on > 0 && (c.part != TrainedPart::FEATURES || c.local_supervised.empty()))
    fields.refuse("hand_on", "0 unless \"features\" are trained and local_supervised names heads");
  if (c.local_supervision > 0 && c.local_supervised.empty())
    fields.refuse("local_supervised", "[[layer, head], ...], which local_supervision needs");
  for (const auto &row : rows(fields, "gates", 3, 3)) {
    const bool shut = row[2] == -std::numeric_limits<double>::infinity();
    if (!shut && !(std::abs(row[2]) <= 1e4))
      fields.refuse("gates", "[[layer, head, beta], ...], each beta between -10,000 and 10,000, or null");
    c.gates.push_back({static_cast<int>(row[0]), static_cast<int>(row[1]), row[2]});
  }
  c.feature_scale = fields.number("feature_scale", c.feature_scale, 1e-3, 1e3);
  constexpr const char *kCompute[] = {"auto", "f32", "bf16"};
  c.compute = kCompute[choice(fields, "compute", kCompute, 0)];
  c.keep_bytes = fields.whole("keep_mb", c.keep_bytes >> 20, 0, 1 << 30) << 20;
  c.seed = static_cast<uint64_t>(fields.whole("seed", 1, 0, std::numeric_limits<int64_t>::max()));
  if (c.part == TrainedPart::RETRIEVAL && c.supervision == 0) c.supervision = 1;
  if (c.part == TrainedPart::RETRIEVAL && c.feature_scale != 1)
    fields.refuse("feature_scale", "1 where retrieval is trained: the model feeds its layers as it was");
  fields.finish();
  return c;
}

std::string describe(const TrainConfig &c) {
  const OptimizerConfig &o = c.optimizer;
  nlohmann::ordered_json gates = nlohmann::ordered_json::array(), supervised = gates;
  for (const SupervisedHead &s : c.supervised) supervised.push_back({s.layer, s.head, s.offset});
  for (const HeadGate &g : c.gates)
    gates.push_back({g.layer, g.head, g.beta});  // an infinite number is written as null
  const nlohmann::ordered_json json = {
      {"train", kParts[static_cast<size_t>(c.part)]},
      {"layers", {c.first_layer, c.last_layer}},
      {"lora", {{"rank", c.lora.rank}, {"alpha", c.lora.alpha}, {"targets", c.lora.targets}}},
      {"optimizer", c.muon ? "muon" : "adamw"},
      {"rate", o.rate},
      {"muon_rate", o.muon_rate},
      {"feature_rate", o.feature_rate},
      {"gate_rate", o.gate_rate},
      {"decay", o.decay},
      {"muon_decay", o.muon_decay},
      {"momentum", o.momentum},
      {"beta1", o.beta1},
      {"beta2", o.beta2},
      {"clip", o.clip},
      {"schedule", kShapes[static_cast<size_t>(o.schedule.shape)]},
      {"warmup", o.schedule.warmup},
      {"steps", o.schedule.total},
      {"decay_from", o.schedule.decay_from},
      {"floor", o.schedule.floor},
      {"tokens", c.tokens},
      {"drawn", c.drawn},
      {"repeat", c.repeat},
      {"rows", c.rows},
      {"segment", c.segment},
      {"segments", c.segments},
      {"carry", c.carry},
      {"sinks", c.sinks},
      {"epsilon", c.epsilon},
      {"first_segment", c.first_segment},
      {"supervision", c.supervision},
      {"supervised", supervised},
      {"silence", c.silence},
      {"local_supervision", c.local_supervision},
      {"local_supervised", c.local_supervised},
      {"hand_on", c.hand_on},
      {"gates", gates},
      {"feature_scale", c.feature_scale},
      {"compute", c.compute},
      {"keep_mb", c.keep_bytes >> 20},
      {"seed", c.seed}};
  return json.dump();
}

}  // namespace infini
