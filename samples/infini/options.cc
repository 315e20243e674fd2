// infini options: the library's tables of options, and of what training and new models are described by.
#include "common.h"

namespace cli {
namespace {

// Fields of objects, and of their types, stand indented below them.
void show_fields(const Json &table, int indent) {
  for (const Json &field : table) {
    const std::string name = std::string(static_cast<size_t>(indent), ' ') + field["name"].get<std::string>();
    const std::string value = field.contains("required")                            ? "required"
                              : field.contains("fields") || field.contains("types") ? ""
                                                                                    : field["default"].dump();
    print(format("%-19s %-7s %-10s %s\n", name.c_str(), field["type"].get<std::string>().c_str(), value.c_str(),
                 help_of(field).c_str()));
    if (field.contains("fields")) show_fields(field["fields"], indent + 2);
    if (!field.contains("types")) continue;
    for (const auto &[type, fields] : field["types"].items()) {
      print(format("%*s\"type\": \"%s\"\n", indent + 2, "", type.c_str()));
      show_fields(fields, indent + 4);
    }
  }
}

using Table = infini_status (*)(char *, size_t, size_t *);

struct Settings {
  const char *flag, *help;
  Table table;
};
constexpr Settings kSettings[] = {
    {"--training", "the fields of a description of training instead (train --description)",
     infini_trainer_settings_json},
    {"--creation", "the fields of a new model's configuration instead (train --create)", infini_creation_settings_json},
    {"--adaptation", "the settings of an adaptation instead (train --adapt, infini_adaptation_create)",
     infini_adaptation_settings_json},
    {"--keep", "the fields of a lesson in what is worth keeping instead (keep, infini_model_fit_keep)",
     infini_keep_settings_json}};

void show(bool json, Table settings) {
  const Json table = json_of(settings ? settings : infini_options_json);
  if (json) return print_json({{settings ? "fields" : "options", table}});
  if (settings) return show_fields(table, 0);
  for (const Json &spec : table) {
    const Json &standard = spec["default"];
    print(format("%-19s %-7s %-6s %s\n", spec["name"].get<std::string>().c_str(),
                 spec["type"].get<std::string>().c_str(),
                 (standard.is_string() ? standard.get<std::string>() : standard.dump()).c_str(),
                 spec["help"].get<std::string>().c_str()));
  }
}

}  // namespace

void add_options(CLI::App &app) {
  const auto json = std::make_shared<bool>(false);
  const auto table = std::make_shared<Table>(nullptr);
  CLI::App *command = app.add_subcommand("options", "Lists the options of the library: type, default, what each is");
  command->add_flag("--json", *json, "print JSON and nothing else");
  for (const Settings &settings : kSettings)
    command->add_flag_callback(
        settings.flag, [table, &settings] { *table = settings.table; }, settings.help);
  command->footer(
      "Commands take those that concern them as flags: top_k is --top-k.\n"
      "Examples:\n"
      "  infini options\n"
      "  infini options --json\n"
      "  infini options --training\n");
  command->callback([json, table] { show(*json, *table); });
}

}  // namespace cli
