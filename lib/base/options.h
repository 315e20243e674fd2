// Options: values by name, checked when they are set. What options there are, structs with fields say, as those of all
// settings do (schema.h): the table, checks, descriptions and reading follow.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "base/limits.h"

namespace infini {

// --- what options there are, in the order in which they are documented

// Those of both models and sessions.
struct ThreadOptions {
  int threads = 0;
  template <class Visitor>
  void fields(Visitor &v) {
    v("threads", threads, 0, kMostThreads,
      "threads of a call; 0: one a physical core, as many as the container's quota allows");
  }
};

// Opening and creating a model.
struct ModelOptions : ThreadOptions {
  std::string weights = "file", compute = "auto", gemm = "auto", memory = "file", update = "file", adapter,
              window_type = "compute";
  int segment = 0, carry = -1, sinks = -1, keep = -1;
  double adapter_weight = 1;
  template <class Visitor>
  void fields(Visitor &v) {
    v("weights", weights, "file|f32|bf16|q8_0|q4_0",
      "how weights are kept; file: blocks of a quantised file at their bits, the rest as compute says; q8_0, q4_0: "
      "quantised when the model is opened, as infini_model_quantize does");
    v("compute", compute, "auto|f32|bf16|int8",
      "number type of products; auto: int8 for weights in blocks, else bf16 where the processor has it");
    v("window_type", window_type, "compute|int8",
      "keys and values that local attention sees: numbers as of products, or int8 with a scale a token, half as large");
    v("gemm", gemm, "auto|onednn|openblas|native",
      "library for matrix products; auto: oneDNN, or native below AVX-512");
    ThreadOptions::fields(v);
    v("memory", memory, "file|open|off", "gates: as in the file, all at one half, or all shut");
    v("update", update, "file", "update rule of the memory; file: as the model says");
    v("segment", segment, 0, kMostAsked, "tokens per segment; 0: as the model says");
    v("carry", carry, -1, kMostAsked, "tokens before the segment that local attention sees; -1: as the model says");
    v("sinks", sinks, -1, kMostSinks,
      "first tokens of the stream that local attention always sees; -1: as the model says");
    v("keep", keep, -1, kMostKept,
      "tokens of sentences that stood out, which local attention sees for ever; -1: as the model says");
    v("adapter", adapter, "", "path of a GGUF file with LoRA adapters, which change the model's products; empty: none");
    v("adapter_weight", adapter_weight, -1000, 1000,
      "how much the adapter counts; its memory's settings and gates are taken as they are");
  }
};

struct SessionOptions : ThreadOptions {
  int64_t chunk = 512;
  bool exact = false;
  int checkpoints = 0;
  bool rewind_sampler = false;
  int compress = 0;
  template <class Visitor>
  void fields(Visitor &v) {
    ThreadOptions::fields(v);
    v("chunk", chunk, 1, 4096, "tokens that are fed through the layers together");
    v("deterministic", exact, "1: results do not depend, bit for bit, on how the input is cut or batched; slower");
    v("checkpoints", checkpoints, 0, kMostCheckpoints, "segment boundaries kept for rewinding");
    v("rewind_sampler", rewind_sampler, "1: rewinding takes the sampler and the penalties back too");
    v("compress", compress, 0, 22, "Zstandard level of snapshots; 0: not compressed");
  }
};

struct GenerationOptions {
  int64_t max_tokens = 256;
  double temperature = 0;
  int64_t top_k = 0;
  double top_p = 1, min_p = 0;
  float repetition_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  int penalty_window = 64;
  std::string logit_bias;
  int64_t seed = 0;
  std::string stop;
  bool ignore_end = false;
  template <class Visitor>
  void fields(Visitor &v) {
    constexpr double kInt = 2147483647, kAny = 0x1p63;  // any number of an int, an int64_t
    v("max_tokens", max_tokens, -1, kAny, "tokens after which generation ends; -1: no limit");
    v("temperature", temperature, 0, 100, "0: always the likeliest token");
    v("top_k", top_k, 0, kInt, "sample among the k likeliest tokens; 0: all");
    v("top_p", top_p, 0, 1, "sample among the likeliest tokens that together reach p");
    v("min_p", min_p, 0, 1, "sample among tokens at least min_p times as likely as the likeliest");
    v("repetition_penalty", repetition_penalty, 0.01, 100,
      "divides positive logits of recent tokens, multiplies negative ones; 1: none");
    v("presence_penalty", presence_penalty, -100, 100, "subtracted from the logits of recent tokens");
    v("frequency_penalty", frequency_penalty, -100, 100,
      "subtracted from the logit of a recent token once for each time it occurs");
    v("penalty_window", penalty_window, 0, kMostRecent, "how many of the last tokens count as recent");
    v("logit_bias", logit_bias, "", "ID:BIAS,... added to the logits; -inf forbids a token");
    v("seed", seed, 0, kAny, "setting it restarts the random generator");
    v("stop", stop, "", "texts that end generation, separated by newlines; \\n and \\\\ escape");
    v("ignore_end", ignore_end, "1: the end token does not end generation");
  }
};

struct TextOptions {
  bool special = false;
  std::string unknown_text = "error";
  template <class Visitor>
  void fields(Visitor &v) {
    v("special", special, "1: control tokens are parsed from text");
    v("unknown_text", unknown_text, "error|skip|replace",
      "characters of a text that the vocabulary has no token for; replace: U+FFFD, or ? where there is none");
  }
};

// --- the table of them

using OptionValue = std::variant<int64_t, double, std::string>;

// What an option belongs to, and so which calls take it: the struct that has it; ANY: models and sessions.
enum class OptionScope { ANY, MODEL, SESSION, GENERATION, TEXT };
const char *scope_name(OptionScope scope);  // "any", "model", ...
// A model takes those of models, a session all others, a trainer compute and threads.
enum class OptionTaker { MODEL, SESSION, TRAINER };

struct OptionSpec {
  const char *name;
  OptionScope scope;
  OptionValue standard;    // its alternative is the option's type; of flags a number, 0 or 1
  double least, greatest;  // numbers: the closed range that is allowed
  const char *choices;     // strings: "a|b|c", or "" for any text
  const char *help;        // one line: meaning and unit
};

// Every option there is.
const std::vector<OptionSpec> &option_table();
// The choices of an option: the table's, and behind them what a layer above knows and lists as "a|b|c".
std::string choices_of(const OptionSpec &option);
void add_option_choices(const char *option, std::string (*list)());

// Whether `value` is one of choices that are separated by |.
inline bool is_choice(std::string_view value, std::string_view choices) {
  while (true) {
    const size_t end = choices.find('|');
    if (choices.substr(0, end) == value) return true;
    if (end == choices.npos) return false;
    choices.remove_prefix(end + 1);
  }
}

class JsonObject;

class Options {
 public:
  // An unknown name is an UNKNOWN_OPTION error that lists the names; a bad value is INVALID_ARGUMENT
  // and says what is allowed. A failed set changes nothing.
  void set(const std::string &name, int64_t value);
  void set(const std::string &name, double value);
  void set(const std::string &name, const std::string &value);

  // A struct of options, with the values that are set.
  template <class T>
  T as() const {
    T options;
    const auto take = [this]<class Value>(const char *name, Value &value, const auto &...) {
      using Kept = std::conditional_t<std::is_integral_v<Value>, int64_t,
                                      std::conditional_t<std::is_floating_point_v<Value>, double, Value>>;
      if (const OptionValue *const set = find(name)) value = static_cast<Value>(std::get<Kept>(*set));
    };
    options.fields(take);
    return options;
  }
  // The value that was set, or the table's.
  int64_t get_int(const std::string &name) const;
  double get_double(const std::string &name) const;
  const std::string &get_string(const std::string &name) const;
  // Takes over every value that is set in `other`.
  void merge(const Options &other) {
    for (const auto &[name, value] : other.values_) values_[name] = value;
  }
  // INVALID_ARGUMENT where one is set that something else takes.
  void check_for(OptionTaker taker) const;
  bool is_set(const std::string &name) const { return find(name) != nullptr; }
  const OptionValue *find(const std::string &name) const {  // nullptr: not set
    const auto found = values_.find(name);
    return found == values_.end() ? nullptr : &found->second;
  }

 private:
  std::map<std::string, OptionValue> values_;
};

// The options that are set, by name; of one scope alone where it is given.
JsonObject options_json(const Options &options, std::optional<OptionScope> scope = {});

}  // namespace infini
