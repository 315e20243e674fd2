#include "base/schema.h"

namespace infini {

using nlohmann::json;

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

JsonText DescribeFields::choices_json(const char *choices) {
  JsonList list;
  each_choice(choices, [&](std::string_view choice) { return list.add(choice), false; });
  return list.json();
}

void DescribeFields::add_range(JsonObject &row, bool is_whole, double least, double greatest) {
  const auto bound = [&](const char *key, double value) {
    if (std::abs(value) < 0x1p62) is_whole ? row.add(key, static_cast<int64_t>(value)) : row.add(key, value);
  };
  bound("least", least);
  bound("greatest", greatest);
}

JsonText describe_options() {
  DescribeFields describer;
  for (const OptionSpec &option : option_table()) {
    describer.scope = scope_name(option.scope);
    std::visit(
        [&]<class T>(const T &value) {
      if constexpr (Choice<T>) describer(option.name, value, choices_of(option).c_str(), option.help);
      else describer(option.name, value, option.least, option.greatest, option.help);
        },
        option.standard);
  }
  return describer.table.json();
}

std::string differences(const json &before, const json &now) {
  std::string out;
  const json none;
  for (const auto &[field, value] : now.items()) {
    const auto found = before.is_object() ? before.find(field) : before.end();
    if (const json &was = found == before.end() ? none : *found; was != value)
      out += cat(" \"", field, "\" was ", text_of(was), " and is ", text_of(value), ";");
  }
  return out;
}

}  // namespace infini
