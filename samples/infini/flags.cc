#include "flags.h"

#include <algorithm>
#include <regex>

#include "common.h"

namespace cli {
namespace {

std::string flag_of(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return "--" + name;
}

// Options that are 0 or 1: their flags take no value.
bool is_switch(const Json &row) {
  return row["type"] == "int" && row.value("least", Json()) == 0 && row.value("greatest", Json()) == 1;
}

std::string text_of(const Json &value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

// Of the command's own checks, only a number within a list gets by.
template <class Number>
Json number_of(const std::string &text, const CLI::Option &option) {
  Number number = 0;
  if (!parse_number(text, number))
    throw std::runtime_error(option.get_name() + ": '" + text + "' is no number that it takes");
  return number;
}

std::vector<std::string> parts_of(const std::string &text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

// Texts that stop generation, as option "stop" wants them: one a line. Escapes are the user's, but for line ends.
std::string stop_value(const std::vector<std::string> &texts) {
  std::string value;
  for (const std::string &text : texts) {
    if (!value.empty()) value += '\n';
    for (const char letter : text) value += letter == '\n' ? "\\n" : std::string(1, letter);
  }
  return value;
}

void set(infini_options *options, const std::string &name, const Json &value) {
  if (value.is_string()) check(infini_options_set_string(options, name.c_str(), value.get<std::string>().c_str()));
  else if (value.is_number_float()) check(infini_options_set_double(options, name.c_str(), value));
  else check(infini_options_set_int(options, name.c_str(), value));
}

}  // namespace

std::string help_of(const Json &row) {
  std::string help = row["help"];
  if (is_switch(row) && help.starts_with("1: ")) help.erase(0, 3);
  if (row.contains("choices") && !row["choices"].empty()) {
    std::string choices;
    for (const std::string choice : row["choices"]) choices += (choices.empty() ? "" : ", ") + choice;
    help += " (" + choices + ")";
  }
  if (row.contains("shape")) help += " (" + row["shape"].get<std::string>() + ")";
  return help;
}

Json TableFlag::value() const {
  if (is_switch(row)) return 1;
  const std::vector<std::string> given = option->results();
  std::string type = row["type"];
  if (name() == "stop") return stop_value(given);
  if (type == "rows") {
    Json rows = Json::array();
    for (const std::string &text : parts_of(given.back(), ',')) {
      rows.push_back(Json::array());
      for (const std::string &part : parts_of(text, ':'))
        rows.back().push_back(part.find('.') == part.npos ? number_of<int64_t>(part, *option)
                                                          : number_of<double>(part, *option));
    }
    return rows;
  }
  const auto one = [&](const std::string &text) -> Json {
    return type.starts_with("string") ? Json(text)
           : type.starts_with("int")  ? number_of<int64_t>(text, *option)
                                      : number_of<double>(text, *option);
  };
  if (!type.ends_with('s')) return one(given.back());
  Json list = Json::array();
  for (const std::string &text : given) list.push_back(one(text));
  return list;
}

CLI::Option *TableFlags::add(CLI::App &command, const Json &row, std::string flag, const std::string &more) {
  const std::string type = row["type"];
  if (flag.empty()) flag = flag_of(row["name"]);
  const std::string help = help_of(row) + more;  // const: else CLI would write into it what is given
  CLI::Option *option = nullptr;
  if (is_switch(row)) {
    option = command.add_flag(flag, help);
  } else {
    option = command.add_option(flag, help)->type_size(1)->default_str(text_of(row["default"]));
    option->type_name(type.starts_with("int") ? "INT" : type.starts_with("double") ? "NUMBER" : "TEXT");
    constexpr int kMost = 100000;
    if (type == "ints" || type == "doubles" || type == "strings") option->expected(1, kMost);
  }
  flags_.push_back({row, option});
  return option;
}

void TableFlags::share(CLI::App &command, const Json &row, const std::string &flag) {
  flags_.push_back({row, command.get_option(flag)});
}

bool TableFlags::given(const std::string &name) const {
  return std::any_of(flags_.begin(), flags_.end(),
                     [&](const TableFlag &flag) { return flag.name() == name && flag.given(); });
}

void TableFlags::write(Json &settings) const {
  for (const TableFlag &flag : flags_)
    if (flag.given()) settings[flag.name()] = flag.value();
}

std::string TableFlags::of_flags(std::string message, const std::string &settings) const {
  for (const TableFlag &flag : flags_)
    message = std::regex_replace(message, std::regex(settings + "\\." + flag.name() + "\\b"), flag.option->get_name());
  return message;
}

void OptionFlags::add(CLI::App &command, const std::vector<std::string> &names, const std::string &group) {
  static const Json table = json_of(infini_options_json);
  for (const std::string &name : names) {
    const auto row = std::find_if(table.begin(), table.end(), [&](const Json &one) { return one["name"] == name; });
    if (row == table.end()) throw std::runtime_error("the library has no option '" + name + "'");
    CLI::Option *const option = TableFlags::add(command, *row)->group(group);
    if (name == "stop") option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
}

void OptionFlags::set_default(const std::string &name, const Json &value, bool weak) {
  for (const TableFlag &flag : flags_)
    if (flag.name() == name) flag.option->default_str(text_of(value));
  defaults_[name] = {value, weak};
}

template <class Takes>
Options OptionFlags::options(const Takes &takes) const {
  Options options = make<Options>(infini_options_create);
  for (const TableFlag &flag : flags_) {
    const auto own = defaults_.find(flag.name());
    if (!takes(flag.row)) continue;
    if (flag.given()) set(options.get(), flag.name(), flag.value());
    else if (own != defaults_.end() && !own->second.second) set(options.get(), flag.name(), own->second.first);
  }
  return options;
}

Options OptionFlags::model_options() const {
  return options([](const Json &row) { return row["scope"] == "any" || row["scope"] == "model"; });
}
Options OptionFlags::session_options() const {
  return options([](const Json &row) { return row["scope"] != "model"; });
}
Options OptionFlags::trainer_options() const {
  return options([](const Json &row) { return row["name"] == "compute" || row["name"] == "threads"; });
}

Options OptionFlags::weak_defaults(const Json &already) const {
  Options options = make<Options>(infini_options_create);
  for (const auto &[name, own] : defaults_)
    if (own.second && !given(name) && !already.contains(name)) set(options.get(), name, own.first);
  return options;
}

}  // namespace cli
