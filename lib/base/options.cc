#include "base/options.h"

#include <cmath>
#include <limits>

#include "base/fields.h"
#include "base/status.h"

namespace infini {
namespace {

constexpr double kLong = 0x1p63;  // every int64_t is below

// Visits fields of structs, which become rows of the table.
struct Rows {
  std::vector<OptionSpec> table;
  OptionScope scope{};

  template <class T>
  void add(OptionScope of) {
    scope = of;
    T().fields(*this);
  }
  template <class T>
  void operator()(const char *name, const T &value, double least, double greatest, const char *help) {
    add({name, scope, std::conditional_t<std::is_integral_v<T>, int64_t, double>(value), least, greatest, "", help});
  }
  void operator()(const char *name, bool value, const char *help) { (*this)(name, int{value}, 0, 1, help); }
  void operator()(const char *name, const std::string &value, const char *choices, const char *help) {
    add({name, scope, value, 0, 0, choices, help});
  }
  void add(const OptionSpec &row) {
    for (OptionSpec &there : table)
      if (there.name == std::string_view(row.name)) return void(there.scope = OptionScope::ANY);
    table.push_back(row);
  }
};

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
  static const auto &table = *new std::vector<OptionSpec>([] {  // never destroyed: a thread may be at work at the end
    Rows rows;
    rows.add<ModelOptions>(OptionScope::MODEL);
    rows.add<SessionOptions>(OptionScope::SESSION);
    rows.add<GenerationOptions>(OptionScope::GENERATION);
    rows.add<TextOptions>(OptionScope::TEXT);
    return std::move(rows.table);
  }());
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

void Options::check_for(OptionTaker taker) const {
  for (const auto &[name, value] : values_) {
    const OptionScope scope = spec_of(name).scope;
    const bool of_model = scope == OptionScope::MODEL, trains = taker == OptionTaker::TRAINER;
    if (trains ? name == "compute" || name == "threads"
               : scope == OptionScope::ANY || of_model == (taker == OptionTaker::MODEL))
      continue;
    fail(Status::INVALID_ARGUMENT, "option '", name, "' belongs to ",
         of_model ? "a model: give it where the model is opened or created"
                  : "a session: give it where the session is created",
         trains ? "; a trainer takes compute and threads" : "");
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
