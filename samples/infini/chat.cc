// infini chat: a conversation, by the model's chat template.
#include <cstdio>

#include "editor.h"
#include "writing.h"

namespace cli {
namespace {

struct ChatArguments : ModelArguments {
  std::string system;
  Keeping keeping;
};

constexpr const char *kCommands =
    "  /memory        what the model has read, and what its memory takes\n"
    "  /save [FILE]   keep the conversation\n"
    "  /load FILE     go on with another one\n"
    "  /reset         forget all of it\n"
    "  /quit          leave; so does Ctrl-D, and Ctrl-C twice\n"
    "A line that begins with // is told with one of them. An empty line has the model write on.\n";

void say(const std::string &text) { std::fputs(text.c_str(), stderr); }

class Conversation {
 public:
  explicit Conversation(ChatArguments &arguments)
      : arguments_(arguments), keeping_(arguments.keeping), editor_("> "), model_(arguments.open()),
        session_(arguments.start(model_.get())) {}
  void run();

 private:
  void begin();
  std::optional<std::string> next_line();
  bool command(const std::string &line);  // false: leave
  void tell(const std::string &line);
  void reply();
  void show_memory() const;

  ChatArguments &arguments_;
  Keeping &keeping_;
  Editor editor_;
  const Model model_;
  const Session session_;
  bool first_ = true;  // nothing was said yet
  Run last_;
};

// A snapshot of a conversation goes on with it; one of texts that were read begins one.
void Conversation::begin() {
  const Json info = session_info(session_.get());
  first_ = info["chat_begin"] < 0;
  check(infini_session_set_options(session_.get(), arguments_.flags.weak_defaults(info["options"]).get()));
  last_ = Run();
}

// One Ctrl-C at the prompt may have been meant for a reply that had just ended, so it leaves only where another
// follows.
std::optional<std::string> Conversation::next_line() {
  for (bool told = false;; told = true) {
    try {
      return editor_.line();
    } catch (const Cancelled &) {
      if (told || !editor_.interactive() || !interrupted_by_key()) throw;
      forget_interrupts();
      say("(Ctrl-C again, or Ctrl-D, leaves)\n");
    }
  }
}

void Conversation::tell(const std::string &line) {
  Json messages = Json::array();
  if (first_ && !arguments_.system.empty()) messages.push_back({{"role", "system"}, {"content", arguments_.system}});
  messages.push_back({{"role", "user"}, {"content", line}});
  const std::string told = json_text(messages, "this line");
  const Patience patience;
  Progress progress("reading");
  const int64_t unknown = session_info(session_.get())["unknown_bytes"];
  check(infini_session_chat(session_.get(), told.c_str(), progress.task()));
  progress.clear();
  tell_of_unknown_text(session_info(session_.get())["unknown_bytes"].get<int64_t>() - unknown);
  first_ = false;
}

void Conversation::reply() {
  last_ = generate_run(session_.get(), arguments_.json, keeping_);
  if (arguments_.json) print_json(last_.json(session_.get()));
  else print("\n");
  if (last_.cancelled) {
    if (!editor_.interactive() || !interrupted_by_key() || interrupt_count() > 1) throw Cancelled();
    forget_interrupts();
    say("(stopped; an empty line goes on with it, Ctrl-D leaves)\n");
  } else if (last_.stop_reason == "max_tokens" && editor_.interactive()) {
    say("(cut after " + grouped(last_.tokens) + " tokens, --max-tokens; an empty line goes on with it)\n");
  }
  keeping_.save_if_due(session_.get());
}

void Conversation::show_memory() const {
  const Json info = session_info(session_.get());
  say(grouped(info["position"]) + " tokens read and written, " + grouped(info["memory_tokens"]) +
      " of them folded into the memory; the session takes " + size_text(info["session_bytes"]) +
      ", and will not take more\n");
  tell_of_no_memory(arguments_.model, model_.get());
}

bool Conversation::command(const std::string &line) {
  const size_t space = line.find(' ');
  const std::string name = line.substr(0, space),
                    file = space == std::string::npos ? "" : line.substr(line.find_last_of(' ') + 1);
  if (name == "/quit" || name == "/exit" || name == "/bye") return false;
  if (name == "/help") {
    say(kCommands);
  } else if (name == "/memory") {
    show_memory();
  } else if (name == "/reset") {
    check(infini_session_reset(session_.get()));
    begin();
    say("(forgotten)\n");
  } else if (name == "/save") {
    if (!file.empty()) keeping_.save_as(file);
    if (!keeping_.saves()) throw std::runtime_error("name a file: /save FILE");
    keeping_.save(session_.get());
    say("(saved in " + keeping_.path() + ")\n");
  } else if (name == "/load") {
    if (file.empty()) throw std::runtime_error("name a file: /load FILE");
    check(infini_session_restore(session_.get(), file.c_str(), nullptr));
    begin();
    say("(goes on with " + file + ")\n");
  } else {
    throw std::runtime_error("there is no " + name + "; /help lists what there is, and // begins a line with /");
  }
  return true;
}

void Conversation::run() {
  all_of(infini_model_chat_turn_end, model_.get());  // fails where there is no template
  keeping_.load(session_.get());
  begin();
  if (!first_ && !arguments_.system.empty() && !keeping_.is_session())
    throw std::runtime_error("--system: the conversation that is loaded has begun already; leave it out");
  tell_of_no_memory(arguments_.model, model_.get());
  if (editor_.interactive())
    say(std::string(first_ ? "Say something." : "The conversation goes on.") +
        " /help tells what else there is; Ctrl-C stops a reply, Ctrl-D leaves.\n");
  const Patience patience(1, 3);  // the second interrupt leaves, after saving
  try {
    while (std::optional<std::string> line = next_line()) {
      try {
        if (editor_.interactive() && line->starts_with("/") && !line->starts_with("//")) {
          if (!command(*line)) break;
          continue;
        }
        if (editor_.interactive() && line->empty()) {
          if (last_.stop_reason != "cancelled" && last_.stop_reason != "max_tokens") continue;
        } else {
          tell(editor_.interactive() && line->starts_with("//") ? line->substr(1) : *line);
        }
        reply();
      } catch (const Cancelled &) { throw; } catch (const OutputFailed &) {
        throw;
      } catch (const std::exception &error) {
        if (arguments_.json) print_json({{"error", error.what()}});
        else say(std::string("infini: ") + error.what() + "\n");
      }
    }
    if (interrupted()) throw Cancelled();
  } catch (const Cancelled &) { keeping_.save_interrupted(session_.get()); }
  keeping_.save(session_.get());
  if (editor_.interactive() && keeping_.saves()) say("(saved in " + keeping_.path() + ")\n");
}

}  // namespace

void add_chat(CLI::App &app) {
  const auto arguments = std::make_shared<ChatArguments>();
  CLI::App *command = app.add_subcommand("chat", "Answers the lines of standard input, by the model's chat template");
  arguments->add(*command);
  command->add_option("--system", arguments->system, "what the model is told before the conversation");
  arguments->keeping.add_session(*command, *arguments);
  arguments->add_text_flags(*command);
  arguments->add_generation_flags(*command);
  arguments->flags.set_default("temperature", 0.7, true);
  arguments->flags.set_default("repetition_penalty", 1.1, true);
  arguments->flags.set_default("max_tokens", 4096, true);
  arguments->add_session_flags(*command);
  command->footer(
      "The whole conversation is one stream: it may go on for ever, and with --session another day. On a terminal,\n"
      "/help lists what can be done besides; Ctrl-C stops a reply, and Ctrl-D, /quit or a second Ctrl-C leaves, after\n"
      "saving. What is told is a person's words: control tokens in it are text. Defaults of sampling are the "
      "command's.\n"
      "Examples:\n"
      "  infini chat model.gguf\n"
      "  infini chat model.gguf --session friend.snap\n"
      "  echo 'Who wrote Emma?' | infini chat model.gguf --system 'Answer in one sentence.' --json\n");
  command->callback([arguments] {
    arguments->keeping.check_early();
    Conversation(*arguments).run();
  });
}

}  // namespace cli
