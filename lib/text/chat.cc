#include "text/chat.h"

#include "base/status.h"
#include "text/utf8.h"

namespace infini {
namespace {

struct Turn {
  std::string open, close;
};

// Whose white space is taken off at both ends.
enum class Trim { NONE, CONTENT, TURN };

struct Format {
  std::string name;
  Turn system, user, assistant;
  std::string reply;  // opens the assistant's turn when the reply is to be generated
  Trim trim = Trim::NONE;
  bool own_system = true;        // else a system message stands within the next user's
  std::string default_system{};  // content of the system turn where the messages begin without one
  std::string preamble{};        // begins the first system turn, which is then always there
};

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

std::string replace_all(const std::string &text, std::string_view from, std::string_view to) {
  std::string out;
  size_t begin = 0;
  for (size_t at; (at = text.find(from, begin)) != text.npos; begin = at + from.size())
    out.append(text, begin, at - begin).append(to);
  return out.append(text, begin);
}

// What stands between two marks, the second one the nearest; "" where they are not there.
std::string between(std::string_view text, std::string_view before, std::string_view after) {
  const size_t mark = text.find(before);
  if (mark == text.npos) return "";
  const size_t begin = mark + before.size(), end = text.find(after, begin);
  return end == text.npos ? "" : std::string(text.substr(begin, end - begin));
}

std::string trim(std::string_view text) {
  constexpr std::string_view spaces = " \t\n\v\f\r";
  const size_t begin = text.find_first_not_of(spaces);
  return begin == text.npos ? "" : std::string(text.substr(begin, text.find_last_not_of(spaces) + 1 - begin));
}

// The literal text that a ChatML template has as a system turn of its own.
std::string default_system_message(std::string_view jinja) {
  constexpr std::string_view open = "<|im_start|>system\n";
  constexpr int kMostTurns = 16;  // templates have one or two; each costs a look at the rest
  size_t at = 0;
  for (int turn = 0; turn < kMostTurns && (at = jinja.find(open, at)) != jinja.npos; ++turn, at += open.size()) {
    const std::string message = between(jinja.substr(at), open, "<|im_end|>");
    if (!message.empty() && message.find_first_of("{}+") == message.npos && message[0] != '\'' && message[0] != '"')
      return replace_all(message, "\\'", "'");
  }
  return "";
}

// Llama 3.1 and later tell the model two dates. Today's is the one in the file, so that the same messages
// give the same text every day.
std::string llama3_preamble(std::string_view jinja) {
  const std::string knowledge = between(jinja, "Cutting Knowledge Date: ", "\n");
  if (knowledge.empty()) return "";
  const std::string today = between(jinja, "set date_string = \"", "\"");
  return "Cutting Knowledge Date: " + knowledge + "\nToday Date: " + (today.empty() ? "26 Jul 2024" : today) + "\n\n";
}

// The format of a template; one without a name for an unknown template.
Format recognise(std::string_view chat_template, std::string_view eos) {
  // A newline is written as such or as \n, depending on the converter.
  const std::string jinja = replace_all(std::string(chat_template), "\\n", "\n");
  if (contains(jinja, "<|start_header_id|>")) {
    const auto open = [](const char *role) { return cat("<|start_header_id|>", role, "<|end_header_id|>\n\n"); };
    const std::string close = "<|eot_id|>";
    return {.name = "llama3",
            .system = {open("system"), close},
            .user = {open("user"), close},
            .assistant = {open("assistant"), close},
            .reply = open("assistant"),
            .trim = Trim::CONTENT,
            .preamble = llama3_preamble(jinja)};
  }
  if (contains(jinja, "<|im_start|>") && !contains(jinja, "<|im_sep|>")) {
    const std::string open = "<|im_start|>", close = "<|im_end|>\n";
    return {.name = "chatml",
            .system = {open + "system\n", close},
            .user = {open + "user\n", close},
            .assistant = {open + "assistant\n", close},
            .reply = open + "assistant\n",
            .default_system = default_system_message(jinja)};
  }
  if (contains(jinja, "<start_of_turn>")) {
    const std::string close = "<end_of_turn>\n";
    return {.name = "gemma",
            .system = {"", "\n\n"},
            .user = {"<start_of_turn>user\n", close},
            .assistant = {"<start_of_turn>model\n", close},
            .reply = "<start_of_turn>model\n",
            .trim = Trim::CONTENT,
            .own_system = false};
  }
  if (contains(jinja, "[INST]") && contains(jinja, "<<SYS>>"))
    return {.name = "llama2",
            .system = {"<<SYS>>\n", "\n<</SYS>>\n\n"},
            .user = {"<s>[INST] ", " [/INST]"},
            .assistant = {" ", " </s>"},
            .reply = "",
            .trim = Trim::TURN,
            .own_system = false};
  // Other templates have these marks too, but end a user's turn otherwise.
  if (contains(replace_all(jinja, " ", ""), "'<|user|>\n'+message['content']+eos_token")) {
    const std::string close = cat(eos, "\n");
    return {.name = "zephyr",
            .system = {"<|system|>\n", close},
            .user = {"<|user|>\n", close},
            .assistant = {"<|assistant|>\n", close},
            .reply = "<|assistant|>\n"};
  }
  return {};
}

Format recognised(std::string_view chat_template, std::string_view eos) {
  Format format = recognise(chat_template, eos);
  if (format.name.empty())
    fail(Status::UNSUPPORTED, chat_template.empty() ? "the model has no chat template" : "unknown chat template",
         "; known are ChatML, Llama 2, Llama 3, Zephyr and Gemma");
  return format;
}

}  // namespace

std::string apply_chat_template(std::string_view chat_template, const std::vector<ChatMessage> &messages, bool reply,
                                bool first, std::string_view eos) {
  const Format format = recognised(chat_template, eos);
  const auto render = [&](const Turn &turn, const std::string &before, const std::string &content) {
    const std::string inner = before + (format.trim == Trim::CONTENT ? trim(content) : content);
    return turn.open + (format.trim == Trim::TURN ? trim(inner) : inner) + turn.close;
  };
  std::string text;
  if (first && !messages.empty() && messages[0].role != "system") {
    const std::string content = format.preamble + format.default_system;
    if (!content.empty()) text = format.system.open + content + format.system.close;
  }
  std::string system;  // waits for the user's message
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto &[role, content] = messages[i];
    if (role == "system" && format.own_system) {
      text += render(format.system, first && i == 0 ? format.preamble : "", content);
    } else if (role == "system") {
      system += format.system.open + content + format.system.close;
    } else if (role == "user") {
      text += render(format.user, system, content);
      system.clear();
    } else if (role == "assistant") {
      text += render(format.assistant, "", content);
    } else {
      fail(Status::INVALID_ARGUMENT, "message ", i, " has the role '", printable(role),
           "'; roles are system, user and assistant");
    }
  }
  if (!system.empty())
    fail(Status::INVALID_ARGUMENT, "the template ", format.name, " needs a user's message after the system's");
  if (reply) text += format.reply;
  constexpr std::string_view bos = "<s>";
  if (first && text.starts_with(bos)) text.erase(0, bos.size());
  return text;
}

std::string chat_turn_end(std::string_view chat_template, std::string_view eos) {
  return recognised(chat_template, eos).assistant.close;
}

std::string chat_template_name(std::string_view chat_template) { return recognise(chat_template, "").name; }

}  // namespace infini
