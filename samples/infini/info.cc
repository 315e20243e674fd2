// infini info: what a model is.
#include "common.h"

namespace cli {
namespace {

void info(const ModelArguments &arguments) {
  const Model model = arguments.open();
  const Json facts = model_info(model.get());
  if (arguments.json) return print_json(facts);
  for (const auto &[name, value] : facts.items())
    print(format("%-16s %s\n", name.c_str(),
                 value.is_string()           ? value.get<std::string>().c_str()
                 : value.is_null()           ? "none"
                 : value.is_number_integer() ? grouped(value.get<int64_t>()).c_str()
                                             : value.dump().c_str()));
}

}  // namespace

void add_info(CLI::App &app) {
  const auto arguments = std::make_shared<ModelArguments>();
  CLI::App *command = app.add_subcommand("info", "Shows what a model is: its shape, its memory, its tokenizer");
  arguments->add(*command);
  arguments->add_session_flags(*command);
  command->footer(
      "Examples:\n"
      "  infini info model.gguf\n"
      "  infini info model.gguf --json\n"
      "  infini info model.gguf --segment 512 --memory open    # as it would run with these options\n");
  command->callback([arguments] { info(*arguments); });
}

}  // namespace cli
