// Options: values by name, checked against one table when they are set.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace infini {

using OptionValue = std::variant<int64_t, double, std::string>;

// What an option belongs to, and so which calls take it.
enum class OptionScope { ANY, MODEL, SESSION, GENERATION, TEXT };
const char *scope_name(OptionScope scope);  // "any", "model", ...

struct OptionSpec {
  const char *name;
  OptionScope scope;
  OptionValue standard;    // its alternative is the option's type
  double least, greatest;  // numbers: the closed range that is allowed
  const char *choices;     // strings: "a|b|c", or "" for any text
  const char *help;        // one line: meaning and unit
};

// Every option there is, in the order in which they are documented.
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

  // The value that was set, or the table's.
  int64_t get_int(const std::string &name) const;
  double get_double(const std::string &name) const;
  const std::string &get_string(const std::string &name) const;
  // Takes over every value that is set in `other`.
  void merge(const Options &other) {
    for (const auto &[name, value] : other.values_) values_[name] = value;
  }
  // INVALID_ARGUMENT if an option is set that belongs to something else: to models for a session (anything but MODEL),
  // to sessions for a model.
  void check_for_model() const { check_scopes(true); }
  void check_for_session() const { check_scopes(false); }
  bool is_set(const std::string &name) const { return find(name) != nullptr; }
  const OptionValue *find(const std::string &name) const {  // nullptr: not set
    const auto found = values_.find(name);
    return found == values_.end() ? nullptr : &found->second;
  }

 private:
  void check_scopes(bool for_model) const;
  std::map<std::string, OptionValue> values_;
};

// The options that are set, by name; of one scope alone where it is given.
JsonObject options_json(const Options &options, std::optional<OptionScope> scope = {});

}  // namespace infini
