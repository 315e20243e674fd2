#include "base/options.h"

#include <cmath>
#include <limits>

#include "base/fields.h"
#include "base/limits.h"
#include "base/status.h"

namespace infini {
namespace {

constexpr double kInt = 2147483647.0;
constexpr double kLong = 0x1p63;  // every int64_t is below

OptionValue integer(int64_t value) { return value; }
OptionValue real(double value) { return value; }
OptionValue text(const char *value) { return std::string(value); }

// Filled while the library is loaded, and then only read.
std::map<std::string, std::string (*)()> &added_choices() {
  static auto &added = *new std::map<std::string, std::string (*)()>;  // never destroyed, as the table
  return added;
}

const OptionSpec &spec_of(const std::string &name) {
  for (const OptionSpec &spec : option_table())
    if (name == spec.name) return spec;
  std::vector<std::string> names;
  std::string all;
  for (const OptionSpec &spec : option_table()) {
    names.emplace_back(spec.name);
    all += cat(all.empty() ? "" : ", ", spec.name);
  }
  fail(Status::UNKNOWN_OPTION, "no option is named '", name, "'; the options are: ", all, did_you_mean(name, names));
}

const char *type_name(const OptionSpec &spec) {
  static const char *const names[] = {"an integer", "a number", "a text"};
  return names[spec.standard.index()];
}

std::string bound_text(const OptionSpec &spec, double bound) {
  if (bound >= kLong) return cat(std::numeric_limits<int64_t>::max());
  return std::holds_alternative<int64_t>(spec.standard) ? cat(static_cast<int64_t>(bound)) : cat(bound);
}

[[noreturn]] void refuse_range(const OptionSpec &spec, const auto &value) {
  fail(Status::INVALID_ARGUMENT, "option '", spec.name, "' is ", value, ", but must lie between ",
       bound_text(spec, spec.least), " and ", bound_text(spec, spec.greatest), " (", spec.help, ")");
}
bool in_range(const OptionSpec &spec, double value) {
  return value >= spec.least && value <= spec.greatest;  // false for NaN
}

template <class T>
const T &value_of(const std::map<std::string, OptionValue> &values, const std::string &name) {
  const OptionSpec &spec = spec_of(name);
  const auto found = values.find(name);
  const T *value = std::get_if<T>(found == values.end() ? &spec.standard : &found->second);
  if (!value) fail(Status::INVALID_ARGUMENT, "option '", name, "' takes ", type_name(spec), " and is read as such");
  return *value;
}

}  // namespace

const std::vector<OptionSpec> &option_table() {
  using enum OptionScope;
  static const auto &table = *new std::vector<OptionSpec>{
      // never destroyed: a thread may be at work when the process ends
      // Opening and creating a model.
      {"weights", MODEL, text("file"), 0, 0, "file|f32|bf16|q8_0|q4_0",
       "how weights are kept; file: blocks of a quantised file at their bits, the rest as compute says; q8_0, q4_0: "
       "quantised when the model is opened, as infini_model_quantize does"},
      {"compute", MODEL, text("auto"), 0, 0, "auto|f32|bf16|int8",
       "number type of products; auto: int8 for weights in blocks, else bf16 where the processor has it"},
      {"gemm", MODEL, text("auto"), 0, 0, "auto|onednn|openblas|native",
       "library for matrix products; auto: oneDNN, or native below AVX-512"},
      {"threads", ANY, integer(0), 0, kMostThreads, "",
       "threads of a call; 0: one a physical core, as many as the container's quota allows"},
      {"memory", MODEL, text("file"), 0, 0, "file|open|off", "gates: as in the file, all at one half, or all shut"},
      {"update", MODEL, text("file"), 0, 0, "file", "update rule of the memory; file: as the model says"},
      {"segment", MODEL, integer(0), 0, kMostAsked, "", "tokens per segment; 0: as the model says"},
      {"carry", MODEL, integer(-1), -1, kMostAsked, "",
       "tokens before the segment that local attention sees; -1: as the model says"},
      {"sinks", MODEL, integer(-1), -1, kMostSinks, "",
       "first tokens of the stream that local attention always sees; -1: as the model says"},
      {"keep", MODEL, integer(-1), -1, kMostKept, "",
       "tokens of sentences that stood out, which local attention sees for ever; -1: as the model says"},
      // Sessions.
      {"chunk", SESSION, integer(512), 1, 4096, "", "tokens that are fed through the layers together"},
      {"deterministic", SESSION, integer(0), 0, 1, "",
       "1: results do not depend, bit for bit, on how the input is cut or batched; slower"},
      {"checkpoints", SESSION, integer(0), 0, kMostCheckpoints, "", "segment boundaries kept for rewinding"},
      {"rewind_sampler", SESSION, integer(0), 0, 1, "", "1: rewinding takes the sampler and the penalties back too"},
      {"compress", SESSION, integer(0), 0, 22, "", "Zstandard level of snapshots; 0: not compressed"},
      // Generation.
      {"max_tokens", GENERATION, integer(256), -1, kLong, "", "tokens after which generation ends; -1: no limit"},
      {"temperature", GENERATION, real(0), 0, 100, "", "0: always the likeliest token"},
      {"top_k", GENERATION, integer(0), 0, kInt, "", "sample among the k likeliest tokens; 0: all"},
      {"top_p", GENERATION, real(1), 0, 1, "", "sample among the likeliest tokens that together reach p"},
      {"min_p", GENERATION, real(0), 0, 1, "", "sample among tokens at least min_p times as likely as the likeliest"},
      {"repetition_penalty", GENERATION, real(1), 0.01, 100, "",
       "divides positive logits of recent tokens, multiplies negative ones; 1: none"},
      {"presence_penalty", GENERATION, real(0), -100, 100, "", "subtracted from the logits of recent tokens"},
      {"frequency_penalty", GENERATION, real(0), -100, 100, "",
       "subtracted from the logit of a recent token once for each time it occurs"},
      {"penalty_window", GENERATION, integer(64), 0, kMostRecent, "", "how many of the last tokens count as recent"},
      {"logit_bias", GENERATION, text(""), 0, 0, "", "ID:BIAS,... added to the logits; -inf forbids a token"},
      {"seed", GENERATION, integer(0), 0, kLong, "", "setting it restarts the random generator"},
      {"stop", GENERATION, text(""), 0, 0, "", "texts that end generation, separated by newlines; \\n and \\\\ escape"},
      {"ignore_end", GENERATION, integer(0), 0, 1, "", "1: the end token does not end generation"},
      // Text.
      {"special", TEXT, integer(0), 0, 1, "", "1: control tokens are parsed from text"},
      {"unknown_text", TEXT, text("error"), 0, 0, "error|skip|replace",
       "characters of a text that the vocabulary has no token for; replace: U+FFFD, or ? where there is none"},
  };
  return table;
}

std::string choices_of(const OptionSpec &option) {
  const auto more = added_choices().find(option.name);
  return more == added_choices().end() ? option.choices : cat(option.choices, "|", more->second());
}

void add_option_choices(const char *option, std::string (*list)()) { added_choices()[option] = list; }

const char *scope_name(OptionScope scope) {
  static const char *const names[] = {"any", "model", "session", "generation", "text"};
  return names[static_cast<int>(scope)];
}

void Options::check_scopes(bool for_model) const {
  for (const auto &[name, value] : values_) {
    const OptionScope scope = spec_of(name).scope;
    if (scope == OptionScope::ANY || (scope == OptionScope::MODEL) == for_model) continue;
    fail(Status::INVALID_ARGUMENT, "option '", name, "' belongs to ", for_model ? "a session" : "a model", ", not to ",
         for_model ? "a model: give it where the session is created"
                   : "a session: give it where the model is opened or created");
  }
}

void Options::set(const std::string &name, int64_t value) {
  const OptionSpec &spec = spec_of(name);
  if (std::holds_alternative<double>(spec.standard)) return set(name, static_cast<double>(value));
  if (!std::holds_alternative<int64_t>(spec.standard))
    fail(Status::INVALID_ARGUMENT, "option '", name, "' takes ", type_name(spec), ", not an integer");
  if (!in_range(spec, static_cast<double>(value))) refuse_range(spec, value);
  values_[name] = value;
}

void Options::set(const std::string &name, double value) {
  const OptionSpec &spec = spec_of(name);
  if (std::holds_alternative<int64_t>(spec.standard) && value == std::trunc(value)) {  // of a host without integers
    if (!in_range(spec, value) || value >= kLong) refuse_range(spec, value);
    return set(name, static_cast<int64_t>(value));
  }
  if (!std::holds_alternative<double>(spec.standard))
    fail(Status::INVALID_ARGUMENT, "option '", name, "' takes ", type_name(spec), ", not ",
         std::holds_alternative<int64_t>(spec.standard) ? "a number with a fraction" : "a number");
  if (!in_range(spec, value)) refuse_range(spec, value);
  values_[name] = value;
}

void Options::set(const std::string &name, const std::string &value) {
  const OptionSpec &spec = spec_of(name);
  if (!std::holds_alternative<std::string>(spec.standard))
    fail(Status::INVALID_ARGUMENT, "option '", name, "' takes ", type_name(spec), ", not a text");
  if (const std::string choices = choices_of(spec); !choices.empty() && !is_choice(value, choices))
    fail(Status::INVALID_ARGUMENT, "option '", name, "' is '", value, "', but must be one of ", choices);
  values_[name] = value;
}

JsonObject options_json(const Options &options, std::optional<OptionScope> scope) {
  JsonObject json;
  for (const OptionSpec &spec : option_table())
    if (const OptionValue *set = options.find(spec.name); set && scope.value_or(spec.scope) == spec.scope)
      std::visit([&](const auto &value) { json.add(spec.name, value); }, *set);
  return json;
}

int64_t Options::get_int(const std::string &name) const { return value_of<int64_t>(values_, name); }
double Options::get_double(const std::string &name) const { return value_of<double>(values_, name); }
const std::string &Options::get_string(const std::string &name) const { return value_of<std::string>(values_, name); }

}  // namespace infini
