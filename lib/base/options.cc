#include "base/options.h"

#include <cmath>
#include <limits>

#include "base/status.h"

namespace infini {
namespace {

constexpr double kAny = std::numeric_limits<double>::max();
constexpr double kInt = 2147483647.0;

OptionValue integer(int64_t value) { return value; }
OptionValue real(double value) { return value; }
OptionValue text(const char *value) { return std::string(value); }

const OptionSpec &spec_of(const std::string &name) {
  for (const OptionSpec &spec : option_table())
    if (name == spec.name) return spec;
  std::string names;
  for (const OptionSpec &spec : option_table()) names += cat(names.empty() ? "" : ", ", spec.name);
  fail(Status::UNKNOWN_OPTION, "no option is named '", name, "'; the options are: ", names);
}

const char *type_name(const OptionSpec &spec) {
  static const char *const names[] = {"an integer", "a number", "a text"};
  return names[spec.standard.index()];
}

void check_range(const OptionSpec &spec, double value) {
  if (value >= spec.least && value <= spec.greatest) return;  // false for NaN
  fail(Status::INVALID_ARGUMENT, "option '", spec.name, "' is ", value, ", but must lie between ", spec.least, " and ",
       spec.greatest, " (", spec.help, ")");
}

bool is_choice(const std::string &choices, const std::string &value) {
  return ("|" + choices + "|").find("|" + value + "|") != std::string::npos && value.find('|') == std::string::npos;
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
  static const auto &table = *new std::vector<OptionSpec>{
      // never destroyed: a thread may be at work when the process ends
      // Opening and creating a model.
      {"compute", text("auto"), 0, 0, "auto|f32|bf16",
       "number type of weights and products; auto: bf16 where the processor has it"},
      {"gemm", text("auto"), 0, 0, "auto|onednn|openblas|native",
       "library for matrix products; auto: oneDNN, or native below AVX-512"},
      {"threads", integer(0), 0, 1024, "", "threads of a call; 0: one a physical core"},
      {"memory", text("file"), 0, 0, "file|open|off", "gates: as in the file, all at one half, or all shut"},
      {"update", text("file"), 0, 0, "file|linear|delta", "update rule of the memory; file: as the model says"},
      {"segment", integer(0), 0, kInt, "", "tokens per segment; 0: as the model says"},
      {"carry", integer(-1), -1, kInt, "",
       "tokens before the segment that local attention sees; -1: as the model says"},
      {"sinks", integer(-1), -1, 65536, "",
       "first tokens of the stream that local attention always sees; -1: as the model says"},
      {"keep", integer(-1), -1, 65536, "",
       "tokens of sentences that stood out, which local attention sees for ever; -1: as the model says"},
      // Sessions.
      {"block", integer(512), 1, 4096, "", "tokens that are fed through the layers together"},
      {"deterministic", integer(0), 0, 1, "",
       "1: results do not depend, bit for bit, on how the input is cut or batched; slower"},
      {"checkpoints", integer(0), 0, 4096, "", "segment boundaries kept for rewinding"},
      {"rewind_sampler", integer(0), 0, 1, "", "1: rewinding takes the sampler and the penalties back too"},
      {"compress", integer(0), 0, 22, "", "Zstandard level of snapshots; 0: not compressed"},
      // Generation.
      {"max_tokens", integer(256), -1, kAny, "", "tokens after which generation ends; -1: no limit"},
      {"temperature", real(0), 0, 100, "", "0: always the likeliest token"},
      {"top_k", integer(0), 0, kInt, "", "sample among the k likeliest tokens; 0: all"},
      {"top_p", real(1), 0, 1, "", "sample among the likeliest tokens that together reach p"},
      {"min_p", real(0), 0, 1, "", "sample among tokens at least min_p times as likely as the likeliest"},
      {"repetition_penalty", real(1), 0.01, 100, "",
       "divides positive logits of recent tokens, multiplies negative ones; 1: none"},
      {"presence_penalty", real(0), -100, 100, "", "subtracted from the logits of recent tokens"},
      {"frequency_penalty", real(0), -100, 100, "",
       "subtracted from the logit of a recent token once for each time it occurs"},
      {"penalty_window", integer(64), 0, 65536, "", "how many of the last tokens count as recent"},
      {"logit_bias", text(""), 0, 0, "", "ID:BIAS,... added to the logits; -inf forbids a token"},
      {"seed", integer(0), 0, kAny, "", "setting it restarts the random generator"},
      {"stop", text(""), 0, 0, "", "texts that end generation, separated by newlines; \\n and \\\\ escape"},
      {"ignore_end", integer(0), 0, 1, "", "1: the end token does not end generation"},
      // Text.
      {"special", integer(0), 0, 1, "", "1: control tokens are parsed from text"},
      {"unknown_text", text("error"), 0, 0, "error|skip|replace",
       "characters of a text that the vocabulary has no token for; replace: U+FFFD, or ? where there is none"},
  };
  return table;
}

void Options::set(const std::string &name, int64_t value) {
  const OptionSpec &spec = spec_of(name);
  if (std::holds_alternative<double>(spec.standard)) return set(name, static_cast<double>(value));
  if (!std::holds_alternative<int64_t>(spec.standard))
    fail(Status::INVALID_ARGUMENT, "option '", name, "' takes ", type_name(spec), ", not an integer");
  check_range(spec, static_cast<double>(value));
  values_[name] = value;
}

void Options::set(const std::string &name, double value) {
  const OptionSpec &spec = spec_of(name);
  if (!std::holds_alternative<double>(spec.standard))
    fail(Status::INVALID_ARGUMENT, "option '", name, "' takes ", type_name(spec), ", not a number with a fraction");
  check_range(spec, value);
  values_[name] = value;
}

void Options::set(const std::string &name, const std::string &value) {
  const OptionSpec &spec = spec_of(name);
  if (!std::holds_alternative<std::string>(spec.standard))
    fail(Status::INVALID_ARGUMENT, "option '", name, "' takes ", type_name(spec), ", not a text");
  if (spec.choices[0] && !is_choice(spec.choices, value))
    fail(Status::INVALID_ARGUMENT, "option '", name, "' is '", value, "', but must be one of ", spec.choices);
  values_[name] = value;
}

int64_t Options::get_int(const std::string &name) const { return value_of<int64_t>(values_, name); }
double Options::get_double(const std::string &name) const { return value_of<double>(values_, name); }
const std::string &Options::get_string(const std::string &name) const { return value_of<std::string>(values_, name); }

}  // namespace infini
