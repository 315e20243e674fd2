#include "model/memory_config.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/limits.h"
#include "base/log.h"
#include "base/schema.h"
#include "model/keys.h"

namespace infini {
namespace {

const MemoryKind *memory_kind(const std::string &name) {
  if (const MemoryKind *kind = find_memory_kind(name)) return kind;
  fail(Status::FORMAT, "key 'infini.memory.update' is '", name, "', but must be ",
       listed(memory_kind_choices().c_str()));
}

std::vector<float> read_gates(const Gguf &gguf, const Config &config, const std::string &asked) {
  const size_t count = static_cast<size_t>(config.layers) * static_cast<size_t>(config.heads);
  std::vector<float> gates(count, -std::numeric_limits<float>::infinity());
  const auto has_memory = [&](size_t i) { return config.plans[i / static_cast<size_t>(config.heads)].has_memory(); };
  for (size_t i = 0; i < count && asked == "open"; ++i)
    if (has_memory(i)) gates[i] = 0;
  if (asked != "file" || !gguf.find("infini.memory.gate")) return gates;
  const std::vector<double> values = gguf.get_doubles("infini.memory.gate");
  if (values.size() != count)
    fail(Status::FORMAT, "key 'infini.memory.gate' holds ", values.size(), " values, but the model has ", config.layers,
         " layers of ", config.heads, " heads");
  for (size_t i = 0; i < count; ++i) {
    const bool shut = values[i] == -std::numeric_limits<double>::infinity();
    if (!shut && !(std::abs(values[i]) <= 1e30))
      fail(Status::FORMAT, "key 'infini.memory.gate' holds ", values[i], " at ", i,
           "; a gate is a number or minus infinity");
    if (has_memory(i)) gates[i] = static_cast<float>(values[i]);
  }
  return gates;
}

// Numbers of at most this size, as many as there must be; none where the key is absent.
std::vector<float> read_learned(const Gguf &gguf, const char *key, int64_t count, double largest) {
  std::vector<float> numbers;
  if (!gguf.find(key)) return numbers;
  for (const double value : gguf.get_doubles(key)) {
    if (!(std::abs(value) <= largest)) fail(Status::FORMAT, "key '", key, "' holds ", value);
    numbers.push_back(static_cast<float>(value));
  }
  if (static_cast<int64_t>(numbers.size()) != count)
    fail(Status::FORMAT, "key '", key, "' holds ", numbers.size(), " numbers, but must hold ", count);
  return numbers;
}

KeepProbe read_probe(const Gguf &gguf, const Config &config) {
  KeepProbe probe;
  probe.weight = read_learned(gguf, "infini.keep.probe", config.width, 1e6);
  if (!probe.weight.empty())
    probe.layer =
        static_cast<int>(in_range("key 'infini.keep.layer'", gguf.get_int("infini.keep.layer"), 0, config.layers - 1));
  probe.least = static_cast<float>(gguf.get_double("infini.keep.least", probe.least));
  if (!(std::abs(probe.least) <= kMarked))
    fail(Status::FORMAT, "key 'infini.keep.least' is ", probe.least, ", but must be a number of at most ", kMarked);
  probe.bias = read_learned(gguf, "infini.keep.bias", int64_t{config.layers} * config.heads, 100);
  probe.focus = static_cast<float>(gguf.get_double("infini.keep.focus", 0));
  if (!(probe.focus >= 0 && probe.focus <= 100))
    fail(Status::FORMAT, "key 'infini.keep.focus' is ", probe.focus, ", but must be a number from 0 to 100");
  probe.standing =
      static_cast<int>(in_range("key 'infini.keep.standing'", gguf.get_int("infini.keep.standing", 0), 0, kLargestKey));
  return probe;
}

}  // namespace

MemoryConfig read_memory(const Gguf &gguf, const Config &config, const ModelOptions &options) {
  MemoryConfig memory;
  const int64_t version = gguf.get_int("infini.version", 0);
  if (version < 0 || version > 1)
    fail(Status::VERSION, "key 'infini.version' is ", version, "; this library knows version 1");
  memory.trained = version == 1;
  const auto number =
      [&](const char *key, const char *option, int64_t asked, int64_t unset, int64_t absent, int64_t least) {
    if (asked != unset) return in_range(cat("option '", option, "'"), asked, least, kLargestKey);
    return in_range(cat("key '", key, "'"), gguf.get_int(key, absent), least, kLargestKey);
  };
  const int64_t plain_segment = std::max<int64_t>(1, std::min<int64_t>(2048, (config.context - 4) / 2));
  memory.segment = number("infini.segment_length", "segment", options.segment, 0, plain_segment, 1);
  memory.carry = number("infini.local.carry", "carry", options.carry, -1, memory.trained ? 0 : memory.segment, 0);
  memory.sinks = number("infini.local.sinks", "sinks", options.sinks, -1, memory.trained ? 0 : 4, 0);
  memory.keep = number("infini.local.keep", "keep", options.keep, -1, 0, 0);
  memory.probe = read_probe(gguf, config);
  memory.kind = memory_kind(options.update == "file" ? gguf.get_string("infini.memory.update", memory.kind->name())
                                                     : options.update);
  const std::string first =
      gguf.get_string("infini.memory.first_segment", first_segment_name(memory.first_segment_gated));
  memory.first_segment_gated = first == first_segment_name(true);
  if (first != first_segment_name(memory.first_segment_gated))
    fail(Status::FORMAT, "key 'infini.memory.first_segment' is '", first, "'; known are gated, ungated");
  memory.epsilon = static_cast<float>(gguf.get_double("infini.memory.epsilon", memory.epsilon));
  if (!(memory.epsilon >= 0) || !std::isfinite(memory.epsilon))
    fail(Status::FORMAT, "key 'infini.memory.epsilon' is ", memory.epsilon, ", but must be finite and not negative");
  memory.gate = read_gates(gguf, config, options.memory);

  const int64_t window = int64_t{memory.sinks} + memory.keep + memory.carry + memory.segment;
  const bool by_option = options.segment != 0 || options.carry != -1 || options.sinks != -1 || options.keep != -1;
  if (memory.keep > 0 && memory.carry < memory.segment)
    fail(by_option ? Status::INVALID_ARGUMENT : Status::FORMAT, "to keep sentences (keep ", memory.keep,
         ") the carry must be at least a segment, but carry is ", memory.carry, " and segment ", memory.segment);
  if (window > kMostWindow)
    fail(by_option ? Status::INVALID_ARGUMENT : Status::FORMAT, "the window (sinks + keep + carry + segment) is ",
         window, " tokens, but can be at most ", kMostWindow);
  if (window > config.context) {
    const std::string what = cat("the window of ", window, " tokens (sinks ", memory.sinks, " + keep ", memory.keep,
                                 " + carry ", memory.carry, " + segment ", memory.segment,
                                 ") is longer than the context of ", config.context, " that the model was trained for");
    if (by_option) fail(Status::INVALID_ARGUMENT, what);
    log(LogLevel::WARNING, what);
  }
  return memory;
}

// In this order ever since: the fingerprint of a model that is created anew, with the same seed, hangs on it.
void write_memory(const MemoryConfig &memory, Gguf &gguf) {
  gguf.set("infini.version", uint32_t{1});
  gguf.set("infini.segment_length", static_cast<uint32_t>(memory.segment));
  gguf.set("infini.memory.update", std::string(memory.kind->name()));
  gguf.set("infini.memory.first_segment", std::string(first_segment_name(memory.first_segment_gated)));
  gguf.set("infini.memory.epsilon", memory.epsilon);
  gguf.set_doubles("infini.memory.gate", memory.gate);  // beta [layer][query head]
  gguf.set("infini.local.carry", static_cast<uint32_t>(memory.carry));
  gguf.set("infini.local.sinks", static_cast<uint32_t>(memory.sinks));
}

void write_probe(const KeepProbe &probe, Gguf &gguf) {
  gguf.set_doubles("infini.keep.probe", probe.weight);
  gguf.set("infini.keep.layer", static_cast<uint32_t>(probe.layer));
  gguf.set("infini.keep.least", probe.least);
  if (probe.bias.empty()) gguf.erase("infini.keep.bias");
  else gguf.set_doubles("infini.keep.bias", probe.bias);
  gguf.set("infini.keep.focus", probe.focus);
  gguf.set("infini.keep.standing", int64_t{probe.standing});
}

}  // namespace infini
