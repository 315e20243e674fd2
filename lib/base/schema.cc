#include "base/schema.h"

namespace infini {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

// f(choice) for each, until it returns true.
template <class Function>
void each_choice(std::string_view choices, const Function &f) {
  while (!choices.empty()) {
    const size_t bar = std::min(choices.find('|'), choices.size());
    if (f(choices.substr(0, bar))) return;
    choices.remove_prefix(std::min(bar + 1, choices.size()));
  }
}

}  // namespace

size_t count_choices(const char *choices) {
  size_t count = 0;
  each_choice(choices, [&](std::string_view) { return ++count, false; });
  return count;
}

std::string choice_at(const char *choices, size_t index) {
  std::string found;
  each_choice(choices, [&](std::string_view choice) { return index-- == 0 ? (found = choice, true) : false; });
  return found;
}

size_t choice_index(const char *choices, const std::string &text) {
  size_t index = 0;
  bool found = false;
  each_choice(choices, [&](std::string_view choice) { return found = choice == text, index += !found, found; });
  return found ? index : SIZE_MAX;
}

std::string listed(const char *choices) {
  const size_t count = count_choices(choices);
  std::string list;
  for (size_t i = 0; i < count; ++i) list += cat(i == 0 ? "" : i + 1 == count ? " or " : ", ", choice_at(choices, i));
  return list;
}

ordered_json DescribeFields::choices_json(const char *choices) {
  auto list = ordered_json::array();
  each_choice(choices, [&](std::string_view choice) { return list.push_back(choice), false; });
  return list;
}

void DescribeFields::set_range(ordered_json &field, bool is_whole, double least, double greatest) {
  const auto bound = [&](const char *key, double value) {
    if (std::abs(value) < 0x1p62) is_whole ? field[key] = static_cast<int64_t>(value) : field[key] = value;
  };
  bound("least", least);
  bound("greatest", greatest);
}

ordered_json describe_option(const OptionSpec &option) {
  static const char *const types[] = {"int", "double", "string"};
  const size_t type = option.standard.index();
  ordered_json row = {{"name", option.name}, {"scope", scope_name(option.scope)}, {"type", types[type]}};
  std::visit([&](const auto &value) { row["default"] = value; }, option.standard);
  if (type < 2) DescribeFields::set_range(row, type == 0, option.least, option.greatest);
  else if (const std::string choices = choices_of(option); !choices.empty())
    row["choices"] = DescribeFields::choices_json(choices.c_str());
  row["help"] = option.help;
  return row;
}

std::string differences(const json &before, const json &now) {
  std::string out;
  for (const auto &[field, value] : now.items())
    if (const json was = before.is_object() ? before.value(field, json()) : json(); was != value)
      out += cat(" \"", field, "\" was ", was.dump(), " and is ", value.dump(), ";");
  return out;
}

}  // namespace infini
