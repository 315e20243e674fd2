#include "adapt/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "adapt/fit_heads.h"
#include "train/text_sources.h"

namespace infini {
namespace {

constexpr double kOpen = 2, kShut = -std::numeric_limits<double>::infinity();  // beta of supervised heads; of others
// Numbers that are no values, in 1,000 tokens of filler: ten times as many as in books, so that heads learn not to take
// them for values.
constexpr double kNumbers = 4;

// First and last layer that are trained end to end: from `lowest` on a quarter of the model's layers, and up to
// `highest` at least.
void choose_layers(AdaptHeads &chosen, int lowest, int highest, int layers, const AdaptSettings &settings) {
  chosen.first = lowest;
  chosen.last = std::min(layers - 1, std::max(highest, lowest + (layers + 3) / 4 - 1));
  if (settings.layers.empty()) return;
  chosen.first = static_cast<int>(settings.layers[0]);
  chosen.last = static_cast<int>(settings.layers[1]);
  if (chosen.first > chosen.last || chosen.last >= layers)
    fail(Status::INVALID_ARGUMENT, "adapt.layers must be the first and the last, of layers 0 to ", layers - 1);
  if (!chosen.memory.empty() && (chosen.first > lowest || chosen.last < highest))
    fail(Status::INVALID_ARGUMENT, "adapt.layers: heads of layers ", lowest, " to ", highest, " are supervised, of ",
         layers, " layers, and must be among those that are trained");
}

// Sums of head weights for each [layer, KV head]: the heads of a group share their keys.
std::map<std::pair<int, int>, double> group_weights(const HeadSearch &found, double FoundHead::*weight, int group) {
  std::map<std::pair<int, int>, double> sums;
  for (const FoundHead &head : found.best())
    sums[{static_cast<int>(head.layer), static_cast<int>(head.head) / group}] += head.*weight;
  return sums;
}

int64_t segments_for(int64_t tokens, int64_t segment) { return (tokens + segment - 1) / segment; }

}  // namespace

AdaptHeads choose_heads(const HeadSearch &found, const Config &model, const AdaptSettings &settings) {
  const int layers = model.layers, kv_heads = model.kv_heads, group = model.heads / kv_heads;
  const int needed = (kValueDigits + kv_heads - 1) / kv_heads;  // layers with a group for every digit
  if (needed >= layers || !heads_can_be_fitted(model)) return no_heads(model, settings);
  int lowest = layers;
  const double greatest = std::ranges::max(found.value_weight);
  for (size_t i = 0; i < found.value_weight.size(); ++i)
    if (found.value_weight[i] >= settings.share * greatest)
      lowest = std::min(lowest, static_cast<int>(i) / found.heads);
  const int carrier = std::clamp(lowest - 1, 0, layers - 1 - needed);

  AdaptHeads chosen;
  const auto names = group_weights(found, &FoundHead::name_weight, group),
             values = group_weights(found, &FoundHead::weight, group);
  int carries = 0;
  for (int g = 1; g < kv_heads; ++g)
    if (names.at({carrier, g}) > names.at({carrier, carries})) carries = g;
  for (int h = 0; h < group; ++h) chosen.carriers.push_back({carrier, carries * group + h});

  // In each layer first the groups that retrieve most, since they do least else.
  int digit = 0;
  for (int layer = carrier + 1; digit < kValueDigits; ++layer) {
    std::vector<int> groups;
    for (int g = 0; g < kv_heads; ++g) groups.push_back(g);
    std::stable_sort(groups.begin(), groups.end(), [&](int a, int b) {
      return values.at({layer, a}) > values.at({layer, b});
    });
    for (const int g : groups) {
      if (digit == kValueDigits) break;
      for (int h = 0; h < group; ++h) chosen.memory.push_back({layer, g * group + h, digit});
      ++digit;
    }
  }
  choose_layers(chosen, carrier + 1, carrier + needed, layers, settings);
  return chosen;
}

AdaptHeads no_heads(const Config &model, const AdaptSettings &settings) {
  AdaptHeads chosen;
  choose_layers(chosen, model.layers / 2, model.layers - 1, model.layers, settings);
  return chosen;
}

void AdaptPlan::check_room() const {
  if (const int64_t tokens = teaching_segments() * settings_.segment; tokens < kFactTokens + kQuestionTokens)
    fail(Status::INVALID_ARGUMENT, "adapt.segment, adapt.segments: heads are supervised in sequences of ", tokens,
         " tokens, but a fact and a question take ", kFactTokens + kQuestionTokens);
}

// --- what all phases have in common

RecallConfig AdaptPlan::window(int64_t segments) const {
  RecallConfig c;
  c.compute = compute_;
  c.segment = static_cast<int>(settings_.segment);
  c.segments = static_cast<int>(segments);
  c.carry = static_cast<int>(settings_.carry);
  c.sinks = static_cast<int>(settings_.sinks);
  return c;
}

// Steps of `sequences` sequences of `segments` segments, which go through the layers one sequence at a time.
RecallConfig AdaptPlan::common(int64_t segments, int64_t sequences) const {
  RecallConfig c = window(segments);
  c.rows = settings_.segment * segments;
  c.tokens = sequences * c.rows;
  c.seed = seed(0);
  c.first_segment = FirstSegment::UNGATED;
  c.epsilon = 1;
  c.optimizer.muon_decay = c.optimizer.decay = 0;
  return c;
}

// From `least` to `greatest` facts in 1,000 tokens, half of the sequences in prose.
RecallTask AdaptPlan::recall(double least, double greatest) const {
  RecallTask s;
  s.prose = settings_.texts;
  s.difficulty.density_least = least;
  s.difficulty.density_greatest = greatest;
  return s;
}

// Facts from the start of the sequence down to the depth `deepest`, and questions at its end.
RecallTask AdaptPlan::asked(int64_t names, int64_t questions, double deepest) const {
  RecallTask s;
  s.kind = RecallTask::Kind::PASSKEY;
  s.prose = settings_.texts;
  s.keys = std::max<int64_t>(1, names);
  s.questions = std::max<int64_t>(1, questions);
  s.depth_greatest = deepest;
  return s;
}

// One fact at the very start, then filler: prose more often, since it is harder to tell from facts than the paper's
// sentences are.
RecallTask AdaptPlan::one_asked() const {
  RecallTask s = asked(1, 1, 0);
  s.prose_share = 0.8;
  return s;
}

AdaptPlan::Source AdaptPlan::source(RecallTask task, int64_t number) const {
  task.seed = seed(number);
  return std::make_unique<RecallSource>(tokenizer_, task, nullptr, &cache_);
}

// --- the phases

PhasePlan AdaptPlan::finding() const {
  RecallConfig c = window(settings_.segments);
  c.part = TrainedPart::GATES;
  return {c, source(recall(0.7, 9), 0)};
}

PhasePlan AdaptPlan::carriers(const AdaptHeads &heads) const {
  RecallConfig c = common(settings_.segments, 4);
  c.part = TrainedPart::FEATURES;
  c.first_layer = c.last_layer = heads.carriers.front().layer;
  c.gates = {{-1, -1, kShut}};
  OptimizerConfig &o = c.optimizer;
  o.gate_rate = 0;
  o.feature_rate = settings_.carrier_rate;
  o.schedule = {ScheduleShape::LINEAR, 5, settings_.carrier_steps, 0.3, o.schedule.floor};
  c.drawn = 5 * c.tokens;
  c.repeat = 5;
  c.local_supervision = 1;
  c.local_supervised = heads.carriers;
  c.fitted_norm = settings_.carrier_size;
  RecallTask s = recall(1, 24);
  s.across = s.inside = s.other_share = 0;
  return {c, source(s, 1)};
}

PhasePlan AdaptPlan::teaching(const AdaptHeads &heads, int layer) const {
  constexpr int64_t kSequences = 8;  // of a step
  const int64_t segments = teaching_segments(), tokens = settings_.segment * segments;
  const int64_t many =
      std::clamp<int64_t>(tokens * 7 / 8 / (kFactTokens + kQuestionTokens * 3 / 4), 1, settings_.names);
  RecallConfig c = common(segments, kSequences);
  c.part = TrainedPart::RETRIEVAL;
  c.supervision = 1;
  c.silence = 0.3;
  c.gates = {{-1, -1, kShut}};
  for (const SupervisedHead &head : heads.memory) {
    if (head.layer == layer) c.supervised.push_back(head);
    if (head.layer < layer) c.gates.push_back({head.layer, head.head, kOpen});
  }
  const int64_t steps = std::max<int64_t>(1, settings_.teach_sequences / kSequences);  // that read all of them
  OptimizerConfig &o = c.optimizer;
  o.feature_rate = settings_.teach_rate;
  o.clip = 0;
  o.schedule = {ScheduleShape::LINEAR, 10, settings_.teach_steps, 0.5, o.schedule.floor};
  c.rows = 2 * tokens;
  c.drawn = steps * c.tokens;
  c.repeat = static_cast<int>(settings_.teach_steps / steps + 1);
  const auto part = [&](RecallTask s, int64_t number) {
    s.across = s.inside = s.other_share = 0;
    s.difficulty.log_repeat = std::log(settings_.virtual_length);
    s.numbers = kNumbers;
    return source(s, number);
  };
  std::vector<MixedSource::Part> parts;
  parts.push_back({0.3, part(asked(many, many * 3 / 4, 1), 2)});           // so many names that all must be told apart
  parts.push_back({0.15, part(asked(many * 3 / 4, many * 5 / 8, 0), 3)});  // the same, as far back as can be
  parts.push_back({0.15, part(asked(many / 4, many / 4, 1), 4)});          // few, among much that is none
  parts.push_back({0.15, part(recall(0.7, 3), 5)});                        // few, asked again at all distances
  parts.push_back({0.25, part(one_asked(), 6)});                           // one: elsewhere heads must find nothing
  return {c, std::make_unique<MixedSource>(std::move(parts), seed(7))};
}

PhasePlan AdaptPlan::training(const AdaptHeads &heads, const Config &model) const {
  const bool remembers = !heads.memory.empty(), lora = settings_.part == "lora";
  RecallConfig c = common(settings_.segments, 1);
  c.part = lora                        ? TrainedPart::LORA
           : settings_.part == "gates" ? TrainedPart::GATES
           : settings_.part == "all"   ? TrainedPart::ALL
                                       : TrainedPart::ATTENTION;
  c.first_layer = heads.first;
  c.last_layer = heads.last;
  c.gates = {{-1, -1, kShut}};
  for (const SupervisedHead &head : heads.memory) c.gates.push_back({head.layer, head.head, kOpen});
  if (!remembers)
    for (int l = heads.first; l <= heads.last; ++l) c.gates.push_back({l, -1, -kOpen});
  c.hidden = lora ? HiddenRule::ADAMW : HiddenRule::MUON;
  if (lora) c.lora.rank = 16;
  const bool some = heads.first > 0 || heads.last + 1 < model.layers;
  OptimizerConfig &o = c.optimizer;
  o.muon_rate = o.feature_rate = c.part == TrainedPart::ALL && some ? settings_.rate / 2 : settings_.rate;
  o.rate = settings_.rate / 3;
  o.gate_rate = settings_.gate_rate;
  o.schedule = {ScheduleShape::LINEAR, 20, settings_.steps, 0.4, o.schedule.floor};
  auto text =
      std::make_unique<ExcerptSource>(tokenizer_, TextSettings{.files = settings_.texts, .weight = 0.05}, seed(8));
  if (!remembers) return {c, std::move(text)};
  // The memory learns nothing where the window holds the value: most questions ask for values beyond it.
  const auto part = [&](RecallTask s, int64_t number) {
    s.carry = settings_.carry;
    s.across = 0.8;
    s.inside = 0.2;
    s.other = 0.1;
    s.other_share = 0.04;
    s.difficulty.log_repeat = std::log(settings_.virtual_length);
    s.numbers = kNumbers;
    return source(s, number);
  };
  const auto anywhere = [&](double least, double greatest) {
    RecallTask s = recall(least, greatest);
    s.nearest = static_cast<double>(std::max<int64_t>(12, (settings_.segment + settings_.carry) * 3 / 4));
    return s;
  };
  const int64_t many = std::min({int64_t{12}, settings_.names, settings_.segment * settings_.segments / 64});
  const double of_tasks = 1 - settings_.text_ratio;
  std::vector<MixedSource::Part> parts;
  parts.push_back({0.35 * of_tasks, part(anywhere(1, 20), 9)});   // facts of any density, at all distances
  parts.push_back({0.2 * of_tasks, part(anywhere(0.7, 2), 10)});  // few, so that most lie far back
  parts.push_back({0.1 * of_tasks, part(one_asked(), 11)});       // one, as far back as can be
  parts.push_back({0.15 * of_tasks, part(asked(many / 3, many / 3, 0.3), 12)});  // some in the first third
  parts.push_back({0.2 * of_tasks, part(asked(many, many / 2, 0.1), 13)});       // many at the start
  parts.push_back({settings_.text_ratio, std::move(text)});                      // what the model was good at
  return {c, std::make_unique<MixedSource>(std::move(parts), seed(14))};
}

// --- what is measured

RecallConfig AdaptPlan::reading() const {
  RecallConfig c = window(RecallConfig().segments);
  c.part = TrainedPart::GATES;
  return c;
}

std::unique_ptr<SequenceSource> AdaptPlan::asking(int64_t borders, int64_t names) const {
  RecallTask s = asked(names, std::min<int64_t>(names, 4), 0);
  s.prose.assign(settings_.held_out.empty() ? 0 : 1, settings_.held_out);
  s.seed = static_cast<uint64_t>(1000 + borders);
  return std::make_unique<RecallSource>(tokenizer_, s, nullptr, &cache_);
}

int64_t AdaptPlan::segments_of_asking(int64_t borders, int64_t names) const {
  return borders + segments_for(names * kFactTokens, settings_.segment) +
         segments_for(std::min<int64_t>(names, 4) * kQuestionTokens, settings_.segment) - 1;
}

}  // namespace infini
