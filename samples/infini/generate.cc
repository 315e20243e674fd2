// infini generate, infini chat: text that comes as it is made.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "keeping.h"

namespace cli {
namespace {

struct GenerateArguments : ModelArguments {
  std::string prompt, file;
  CLI::Option *prompt_flag = nullptr;
  Keeping keeping;
};

struct ChatArguments : ModelArguments {
  std::string system;
  Keeping keeping;
};

// What one run of generation came to.
struct Run {
  std::string text;  // filled only if it was not printed
  int64_t tokens = 0;
  double seconds = 0;
  std::string stop_reason;
  bool cancelled = false;

  Json json(const infini_session *session) const {
    return {{"text", text},
            {"tokens", tokens},
            {"stop_reason", stop_reason},
            {"tokens_per_second", static_cast<double>(tokens) / seconds},
            {"resident_bytes", resident_bytes()},
            {"session_bytes", session_info(session)["session_bytes"]}};
  }
};

int64_t position(const infini_session *session) { return value_of<int64_t>(infini_session_position, session); }

// Generates until the run ends or is interrupted; prints the text as it comes, or keeps it.
Run generate_run(infini_session *session, bool keep) {
  struct Sink {
    std::string *kept;
    std::exception_ptr error;
  };
  const auto receive = [](void *user_data, const char *text, size_t text_size) -> int {
    auto &sink = *static_cast<Sink *>(user_data);
    try {
      if (sink.kept) sink.kept->append(text, text_size);
      else print({text, text_size});
      return 0;
    } catch (...) {
      sink.error = std::current_exception();
      return 1;
    }
  };
  Run run;
  Sink sink{keep ? &run.text : nullptr, nullptr};
  const Progress progress;
  const int64_t before = position(session);
  const Stopwatch watch;
  const infini_status status = infini_session_generate(session, receive, &sink, progress.task());
  run.seconds = watch.seconds();
  if (sink.error) std::rethrow_exception(sink.error);
  run.cancelled = status == INFINI_CANCELLED;
  if (!run.cancelled) check(status);
  run.tokens = position(session) - before;
  run.stop_reason = run.cancelled ? "cancelled" : all_of(infini_session_stop_reason, session);
  return run;
}

void generate(GenerateArguments &arguments) {
  Keeping &keeping = arguments.keeping;
  const bool prompted = arguments.prompt_flag->count() || !arguments.file.empty();
  if (!prompted && !keeping.loads())
    throw std::runtime_error("give --prompt or --file, or --load a session to go on with");
  keeping.check_early();
  const Model model = arguments.open();
  const Session session = arguments.start(model.get());
  keeping.load(session.get());
  const int64_t loaded = position(session.get());
  const Stopwatch watch;
  if (prompted) {
    check(infini_session_start_generation(session.get()));  // not on with a run that the snapshot was taken in
    Progress progress("reading");
    const auto read = [&](std::string_view piece) {
      const int64_t before = position(session.get());
      check(infini_session_feed_text(session.get(), piece.data(), piece.size(), progress.task()));
      progress.add_done(position(session.get()) - before);
      return true;
    };
    try {
      if (arguments.prompt_flag->count()) read(arguments.prompt);
      else for_each_piece(arguments.file, false, read);
    } catch (const Cancelled &) {
      progress.clear();
      keeping.save_interrupted(session.get());
    }
  }
  const double seconds = watch.seconds();
  const int64_t prompt_tokens = position(session.get()) - loaded;
  const Run run = generate_run(session.get(), arguments.json);
  if (!run.cancelled) keeping.save(session.get());
  if (arguments.json) {
    Json json = run.json(session.get());
    json["position"] = position(session.get());
    json["prompt_tokens"] = prompt_tokens;
    json["prompt_tokens_per_second"] = static_cast<double>(prompt_tokens) / seconds;
    if (!run.cancelled) keeping.describe(json);
    print_json(json);
  } else {
    print("\n");
  }
  if (run.cancelled) keeping.save_interrupted(session.get());
}

// One line of standard input, without its end; false: there are no more.
bool read_line(std::string &line) {
  char *data = nullptr;
  size_t capacity = 0;
  const ssize_t size = getline(&data, &capacity, stdin);
  if (size >= 0) line.assign(data, static_cast<size_t>(size));
  std::free(data);
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
  return size >= 0;
}

void chat(ChatArguments &arguments) {
  Keeping &keeping = arguments.keeping;
  keeping.check_early();
  const Model model = arguments.open();
  const Options options = arguments.flags.options();
  check(infini_options_set_int(options.get(), "special", 1));  // templates are written with control tokens
  const Session session = make<Session>(infini_session_create, model.get(), options.get());
  keeping.load(session.get());
  // A snapshot that was taken in or after a reply goes on with that conversation; one of texts that were read begins one.
  const Json run_before = keeping.loaded().value("generation", Json::object());
  bool first = run_before.value("generated", int64_t{0}) == 0;
  if (!first && !arguments.system.empty())
    throw std::runtime_error("--system: the conversation that is loaded has begun already; leave it out");
  const bool prompts = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
  const auto read = [&](const std::string &text) {
    Progress progress("reading");
    check(infini_session_feed_text(session.get(), text.data(), text.size(), progress.task()));
  };
  try {
    std::string line;
    for (;; first = false) {
      if (prompts) std::fputs("> ", stderr);
      if (!read_line(line)) break;
      Json messages = Json::array();
      if (first && !arguments.system.empty()) messages.push_back({{"role", "system"}, {"content", arguments.system}});
      messages.push_back({{"role", "user"}, {"content", line}});
      if (!first) read(all_of(infini_model_chat_turn_end, model.get()));
      read(all_of(infini_model_apply_chat, model.get(), messages.dump().c_str(), int{first}, 1));
      check(infini_session_start_generation(session.get()));
      const Run run = generate_run(session.get(), arguments.json);
      if (arguments.json) print_json(run.json(session.get()));
      else print("\n");
      if (run.cancelled) throw Cancelled();
    }
    if (interrupted()) throw Cancelled();
  } catch (const Cancelled &) { keeping.save_interrupted(session.get()); }
  keeping.save(session.get());
}

}  // namespace

void add_generate(CLI::App &app) {
  const auto arguments = std::make_shared<GenerateArguments>();
  CLI::App *command = app.add_subcommand("generate", "Reads a prompt and writes on");
  arguments->add(*command);
  arguments->prompt_flag = command->add_option("--prompt", arguments->prompt, "the text to go on from");
  command->add_option("--file", arguments->file, "a file that holds it, of any length; -: standard input")
      ->excludes(arguments->prompt_flag);
  arguments->flags.add(*command, {"special"}, "Options");
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

void add_chat(CLI::App &app) {
  const auto arguments = std::make_shared<ChatArguments>();
  CLI::App *command = app.add_subcommand("chat", "Answers the lines of standard input, by the model's chat template");
  arguments->add(*command);
  command->add_option("--system", arguments->system, "what the model is told before the conversation");
  arguments->keeping.add(*command, *arguments);
  arguments->add_generation_flags(*command);
  arguments->add_session_flags(*command);
  command->footer(
      "The whole conversation is one stream: it may go on for ever, and with --save and --load another day.\n"
      "Examples:\n"
      "  infini chat model.gguf\n"
      "  infini chat model.gguf --load friend.snap --save friend.snap\n"
      "  echo 'Who wrote Emma?' | infini chat model.gguf --system 'Answer in one sentence.' --json\n");
  command->callback([arguments] { chat(*arguments); });
}

}  // namespace cli
