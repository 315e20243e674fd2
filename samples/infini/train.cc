// infini train: pictures of a training.
#include "common.h"
#include "plot.h"

namespace cli {

void add_train(CLI::App &app) {
  const auto files = std::make_shared<std::vector<std::string>>();
  CLI::App *command = app.add_subcommand("train", "Draws logs of training");
  command->add_option("--plot", *files, "draw logs and measurements; the last file is the picture: LOG.jsonl... OUT.svg")
      ->required()
      ->expected(2, 1000)
      ->type_name("FILE...");
  command->footer(
      "Examples:\n"
      "  infini train --plot log.jsonl log.svg                     # loss, recall, gates and speed over steps\n"
      "  infini train --plot linear.jsonl delta.jsonl both.svg     # trainings compared\n"
      "  infini train --plot passkey.json passkey.svg              # what passkey --json printed\n");
  command->callback([files] { plot({files->begin(), files->end() - 1}, files->back()); });
}

}  // namespace cli
