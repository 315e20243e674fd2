#include "text/chat.h"

#include <algorithm>
#include <functional>

#include "base/json.h"
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

constexpr std::string_view kSpaces = " \t\n\v\f\r";

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpaces);
  return begin == text.npos ? "" : text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
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

// The text of the model's end token, which closes turns in some templates.
std::string end_text(const Tokenizer &tokenizer) {
  return tokenizer.eos() < 0 ? "" : tokenizer.piece(tokenizer.eos(), true);
}

// Writes turns one behind the other, and notes which parts of them are a message's words.
class Writer {
 public:
  explicit Writer(Trim trim) : trim_(trim) {}

  void mark(std::string_view text) { out_.text += text; }
  // Words that stay as they are.
  void quote(std::string_view text) {
    if (!text.empty()) out_.words.push_back({out_.text.size(), out_.text.size() + text.size()});
    out_.text += text;
  }
  // A message behind the opening of its turn, and behind `before`, which stands in the turn too.
  void content(const std::function<void()> &before, std::string_view text) {
    const size_t begin = out_.text.size();
    before();
    quote(trim_ == Trim::CONTENT || (trim_ == Trim::TURN && out_.text.size() == begin) ? trim(text) : text);
    if (trim_ == Trim::TURN) trim_end(begin);
  }
  ChatText take() { return std::move(out_); }

 private:
  void trim_end(size_t begin) {
    const std::string inner = out_.text.substr(begin);
    const size_t last = inner.find_last_not_of(kSpaces);
    out_.text.resize(begin + (last == inner.npos ? 0 : last + 1));
    for (TextRange &range : out_.words) range.end = std::min(range.end, out_.text.size());
    std::erase_if(out_.words, [](const TextRange &range) { return range.begin >= range.end; });
  }

  Trim trim_;
  ChatText out_;
};

std::string content_of(const nlohmann::json &message, size_t number) {
  const auto refuse = [&](const std::string &reason) {
    fail(Status::INVALID_ARGUMENT, "messages_json: message ", number, " ", reason);
  };
  if (!message.contains("content")) refuse("has no \"content\"");
  const nlohmann::json &content = message["content"];
  if (content.is_null()) return "";
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) refuse("has a \"content\" that is no text and no list of parts");
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const nlohmann::json &part = content[i];
    const auto is_text = [&](const char *key) {
      return part.is_object() && part.contains(key) && part[key].is_string();
    };
    if (is_text("type") && part["type"] != "text")
      refuse(cat("has a part of type '", printable(part["type"].get<std::string>()), "'; only text can be read"));
    if (!is_text("type") || !is_text("text"))
      refuse(cat("has a part ", i, " that is not {\"type\": \"text\", \"text\": text}"));
    if (i > 0) text += '\n';
    text += part["text"].get<std::string>();
  }
  return text;
}

}  // namespace

std::vector<ChatMessage> read_chat_messages(std::string_view text) {
  const auto json = parse_json(text, Status::INVALID_ARGUMENT, "messages_json");
  if (!json.is_array())
    fail(Status::INVALID_ARGUMENT, "messages_json: not a JSON list of {\"role\": text, \"content\": text}");
  std::vector<ChatMessage> messages;
  for (const auto &message : json) {
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string())
      fail(Status::INVALID_ARGUMENT, "messages_json: message ", messages.size(),
           " is not {\"role\": text, \"content\": text}");
    messages.push_back({message["role"].get<std::string>(), content_of(message, messages.size())});
  }
  return messages;
}

ChatText chat_text(std::string_view chat_template, const std::vector<ChatMessage> &messages, ChatPlace place,
                   std::string_view eos) {
  const Format format = recognised(chat_template, eos);
  const auto is_system = [](const ChatMessage &message) {
    return message.role == "system" || message.role == "developer";
  };
  Writer writer(format.trim);
  if (place.open) writer.mark(format.assistant.close);
  if (place.first && !messages.empty() && !is_system(messages[0])) {
    const std::string content = format.preamble + format.default_system;
    if (!content.empty()) writer.mark(format.system.open + content + format.system.close);
  }
  std::vector<std::string_view> waiting;  // system messages, for the user's turn
  bool within = false;                    // the last message's turn, which stays open
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage &message = messages[i];
    const auto turn = [&](const Turn &of, const std::function<void()> &before, bool closed) {
      writer.mark(of.open);
      writer.content(before, message.content);
      if (closed) writer.mark(of.close);
    };
    if (is_system(message) && !format.own_system) {
      waiting.push_back(message.content);
    } else if (is_system(message)) {
      turn(
          format.system, [&] { writer.mark(place.first && i == 0 ? format.preamble : ""); }, true);
    } else if (message.role == "user") {
      const auto systems = [&] {
        for (const std::string_view system : waiting) {
          writer.mark(format.system.open);
          writer.quote(system);
          writer.mark(format.system.close);
        }
      };
      turn(format.user, systems, true);
      waiting.clear();
    } else if (message.role == "assistant") {
      within = place.reply && i + 1 == messages.size();
      turn(
          format.assistant, [] {}, !within);
    } else if (message.role == "tool") {
      fail(Status::INVALID_ARGUMENT, "message ", i, " has the role 'tool', for which the template ", format.name,
           " has no turn here; give what the tool said as a user's message");
    } else {
      fail(Status::INVALID_ARGUMENT, "message ", i, " has the role '", printable(message.role),
           "'; roles are system, developer, user and assistant");
    }
  }
  if (!waiting.empty())
    fail(Status::INVALID_ARGUMENT, "the template ", format.name, " needs a user's message after the system's");
  if (place.reply && !within) writer.mark(format.reply);
  ChatText chat = writer.take();
  constexpr std::string_view bos = "<s>";
  if (place.start && !place.open && format.user.open.starts_with(bos) && chat.text.starts_with(bos)) {
    chat.text.erase(0, bos.size());
    for (TextRange &range : chat.words) range.begin -= bos.size(), range.end -= bos.size();
  }
  return chat;
}

ChatText chat_text(const Tokenizer &tokenizer, const std::vector<ChatMessage> &messages, ChatPlace place) {
  return chat_text(tokenizer.chat_template(), messages, place, end_text(tokenizer));
}

std::string chat_turn_end(std::string_view chat_template, std::string_view eos) {
  return recognised(chat_template, eos).assistant.close;
}

std::string chat_turn_end(const Tokenizer &tokenizer) {
  return chat_turn_end(tokenizer.chat_template(), end_text(tokenizer));
}

std::string chat_template_name(std::string_view chat_template) { return recognise(chat_template, "").name; }

}  // namespace infini
