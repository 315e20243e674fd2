// infini train: adapts a plain model, and draws pictures of a training.
#include "adapt.h"
#include "plot.h"

namespace cli {

void add_train(CLI::App &app) {
  struct TrainArguments : ModelArguments {
    AdaptFlags adapt;
  };
  const auto arguments = std::make_shared<TrainArguments>();
  const auto files = std::make_shared<std::vector<std::string>>();
  CLI::App *command = app.add_subcommand("train", "Adapts a plain model to its memory, and draws logs of training");
  arguments->add(*command);
  command->get_option("MODEL")->required(false);
  arguments->flags.add(*command, {"threads", "compute", "gemm"}, "How it is computed");
  arguments->adapt.add(*command, *arguments);
  command->add_option("--plot", *files, "draw logs and measurements; the last file is the picture: LOG.jsonl... OUT.svg")
      ->expected(2, 1000)
      ->type_name("FILE...");
  command->footer(
      "Examples:\n"
      "  infini train plain.gguf --adapt --text novel.txt --held-out other.txt --out adapted.gguf\n"
      "  infini train --plot log.jsonl log.svg                     # loss, recall, gates and speed over steps\n"
      "  infini train --plot linear.jsonl delta.jsonl both.svg     # trainings compared\n"
      "  infini train --plot passkey.json passkey.svg              # what passkey --json printed\n");
  command->callback([files, arguments] {
    if (arguments->adapt.wanted()) return arguments->adapt.run();
    if (files->empty()) throw std::runtime_error("give a MODEL and --adapt, or --plot");
    plot({files->begin(), files->end() - 1}, files->back());
  });
}

}  // namespace cli
