// infini generate: text that comes as it is made.
#include <optional>

#include "input.h"
#include "writing.h"

namespace cli {
namespace {

struct GenerateArguments : ModelArguments {
  std::string prompt, file;
  CLI::Option *prompt_flag = nullptr;
  Keeping keeping;
};

void generate(GenerateArguments &arguments) {
  Keeping &keeping = arguments.keeping;
  const bool prompted = arguments.prompt_flag->count() || !arguments.file.empty();
  if (!prompted && !keeping.loads())
    throw std::runtime_error("give --prompt or --file, or --load a session to go on with");
  std::optional<Input> input;
  if (!arguments.file.empty()) input.emplace(arguments.file);
  keeping.check_early();
  const Model model = arguments.open();
  const Session session = arguments.start(model.get());
  if (input) tell_of_no_memory(arguments.model, model.get());
  keeping.load(session.get());
  const int64_t loaded = position_of(session.get()), unknown_before = session_info(session.get())["unknown_bytes"];
  const Stopwatch watch;
  if (prompted) {
    check(infini_session_start_generation(session.get()));  // not on with a run that the snapshot was taken in
    Progress progress("reading", input ? input->size() : 0, Progress::BYTES);
    const auto read = [&](std::string_view piece) {
      progress.next_part(static_cast<int64_t>(piece.size()));
      check(infini_session_feed_text(session.get(), piece.data(), piece.size(), progress.task()));
      progress.add_done(static_cast<int64_t>(piece.size()));
      keeping.save_if_due(session.get());
      return true;
    };
    try {
      if (input) input->read(false, keeping.saves(), read);
      else read(arguments.prompt);
    } catch (const Cancelled &) {
      progress.clear();
      keeping.save_interrupted(session.get(),
                               input && !input->lasts()
                                   ? "; that is the first " + grouped(input->bytes()) + " bytes of standard input"
                                   : "");
    }
  }
  const double seconds = watch.seconds();
  const int64_t unknown = session_info(session.get())["unknown_bytes"].get<int64_t>() - unknown_before;
  tell_of_unknown_text(unknown);
  const int64_t prompt_tokens = position_of(session.get()) - loaded;
  const Run run = generate_run(session.get(), arguments.json, keeping);
  if (!run.cancelled) keeping.save(session.get());
  if (arguments.json) {
    Json json = run.json(session.get());
    json["position"] = position_of(session.get());
    json["prompt_tokens"] = prompt_tokens;
    json["unknown_bytes"] = unknown;
    json["prompt_tokens_per_second"] = static_cast<double>(prompt_tokens) / seconds;
    if (!run.cancelled) keeping.describe(json);
    print_json(json);
  } else {
    print("\n");
  }
  if (run.cancelled) keeping.save_interrupted(session.get());
}

}  // namespace

void add_generate(CLI::App &app) {
  const auto arguments = std::make_shared<GenerateArguments>();
  CLI::App *command = app.add_subcommand("generate", "Reads a prompt and writes on");
  arguments->add(*command);
  arguments->prompt_flag = command->add_option("--prompt", arguments->prompt, "the text to go on from");
  command->add_option("--file", arguments->file, "a file that holds it, of any length; -: standard input")
      ->type_name("FILE")
      ->excludes(arguments->prompt_flag);
  arguments->flags.add(*command, {"special"}, "Text");
  arguments->add_text_flags(*command);
  arguments->keeping.add(*command, *arguments);
  arguments->add_generation_flags(*command);
  arguments->add_session_flags(*command);
  command->footer(
      "Text comes as it is made; with --json, all of it at the end. --load without a prompt goes on where the "
      "snapshot\n"
      "stopped, in the middle of a run too. With --save, Ctrl-C saves what was read and written.\n"
      "Examples:\n"
      "  infini generate model.gguf --prompt 'Once upon a time'\n"
      "  infini generate model.gguf --file novel.txt --max-tokens 200 --temperature 0.8 --top-p 0.95 --seed 1\n"
      "  infini generate model.gguf --load memory.snap --prompt 'In short,' --max-tokens 50\n"
      "  cat notes/*.txt | infini generate model.gguf --file - --stop '\\n\\n' --json\n");
  command->callback([arguments] { generate(*arguments); });
}

}  // namespace cli
