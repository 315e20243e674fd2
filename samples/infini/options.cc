// infini options: the library's table of options.
#include "common.h"

namespace cli {
namespace {

void show(bool json) {
  const Json table = Json::parse(all_of(infini_options_json));
  if (json) return print_json({{"options", table}});
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
  CLI::App *command = app.add_subcommand("options", "Lists the options of the library: type, default, what each is");
  command->add_flag("--json", *json, "print JSON and nothing else");
  command->footer(
      "Commands take those that concern them as flags: top_k is --top-k.\n"
      "Examples:\n"
      "  infini options\n"
      "  infini options --json\n");
  command->callback([json] { show(*json); });
}

}  // namespace cli
