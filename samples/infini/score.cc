// infini score: how well a model foresees a text.
#include <cmath>

#include "input.h"
#include "common.h"

namespace cli {
namespace {

struct ScoreArguments : ModelArguments {
  std::string file;
};

void score(const ScoreArguments &arguments) {
  const Model model = arguments.open();
  const Session session = arguments.start(model.get());
  Foresight seen;
  double seconds = 0;
  {
    Input input(arguments.file);
    Progress progress("scoring", input.size(), Progress::BYTES);
    input.read(false, false, [&](std::string_view piece) {
      const Stopwatch watch;
      progress.next_part(static_cast<int64_t>(piece.size()));
      seen.add(session.get(), piece, progress);
      seconds += watch.seconds();
      progress.add_done(static_cast<int64_t>(piece.size()));
      return true;
    });
  }
  const int64_t unknown = session_info(session.get())["unknown_bytes"];
  tell_of_unknown_text(unknown);
  const double mean = seen.mean(arguments.file), rate = static_cast<double>(seen.tokens) / seconds;
  if (arguments.json)
    return print_json({{"tokens", seen.tokens},
                       {"nll_mean", mean},
                       {"perplexity", std::exp(mean)},
                       {"unknown_bytes", unknown},
                       {"tokens_per_second", rate},
                       {"resident_bytes", resident_bytes()},
                       {"session_bytes", session_info(session.get())["session_bytes"]}});
  print(format("tokens      %s\nnll_mean    %.6f nats\nperplexity  %.4f\nspeed       %s tokens/s\n",
               grouped(seen.tokens).c_str(), mean, std::exp(mean), grouped(std::llround(rate)).c_str()));
}

}  // namespace

void add_score(CLI::App &app) {
  const auto arguments = std::make_shared<ScoreArguments>();
  CLI::App *command = app.add_subcommand("score", "Shows how well a model foresees a text: its perplexity");
  arguments->add(*command);
  command->add_option("--file", arguments->file, "the text, of any length; -: standard input")
      ->type_name("FILE")
      ->required();
  arguments->flags.add(*command, {"special"}, "Text");
  arguments->add_text_flags(*command);
  arguments->add_session_flags(*command);
  command->footer(
      "Counts every token but a first one with nothing before it. nll_mean is -ln p a token, in nats.\n"
      "Examples:\n"
      "  infini score model.gguf --file novel.txt\n"
      "  infini score model.gguf --file novel.txt --memory off --json    # what the memory is worth\n");
  command->callback([arguments] { score(*arguments); });
}

}  // namespace cli
