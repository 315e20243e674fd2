#include "text/chat.h"

#include <algorithm>

#include "base/json.h"
#include "text/jinja_text.h"
#include "text/utf8.h"

namespace infini {
namespace {

using jinja::Text;
using jinja::Value;

// What stands for all that was said, and for the end of what is to be continued: texts that no template looks for, and
// that keep their form whatever it does at the ends of a text.
constexpr const char *kAsked = "infini-asked-0b1f", *kAnswered = "infini-answered-0b1f", *kEnd = "infini-end-0b1f",
                     *kBriefed = "infini-briefed-0b1f";

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

std::string content_of(const nlohmann::ordered_json &message, size_t number) {
  const auto refuse = [&](const std::string &reason) {
    fail(Status::INVALID_ARGUMENT, "messages_json: message ", number, " ", reason);
  };
  if (!message.contains("content")) refuse("has no \"content\"");
  const nlohmann::ordered_json &content = message["content"];
  if (content.is_null()) return "";
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) refuse("has a \"content\" that is no text and no list of parts");
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const nlohmann::ordered_json &part = content[i];
    const auto has_text = [&](const char *key) {
      return part.is_object() && part.contains(key) && part[key].is_string();
    };
    if (has_text("type") && part["type"].get_ref<const std::string &>() != "text")
      refuse(cat("has a part of type '", printable(part["type"].get<std::string>()), "'; only text can be read"));
    if (!has_text("type") || !has_text("text"))
      refuse(cat("has a part ", i, " that is not {\"type\": \"text\", \"text\": text}"));
    if (i > 0) text += '\n';
    text += part["text"].get<std::string>();
  }
  return text;
}

// A message as templates see it: its content may be made of contents and marks.
struct Turn {
  std::string role;
  Text content;
  const jinja::Dict *more = nullptr;
};

}  // namespace

struct ChatTemplate::Run {
  std::string bos, eos;
  bool tools, developers;  // the template knows of these roles
  jinja::Node tree;

  Text render(const std::vector<Turn> &turns, bool reply) const {
    jinja::List messages;
    for (const Turn &turn : turns) {
      jinja::Dict message = {{Text("role"), Text(turn.role)}, {Text("content"), turn.content}};
      if (turn.more) message.insert(message.end(), turn.more->begin(), turn.more->end());
      messages.push_back(std::move(message));
    }
    return jinja::render(tree, {{Text("messages"), messages},
                                {Text("add_generation_prompt"), reply},
                                {Text("bos_token"), Text(bos)},
                                {Text("eos_token"), Text(eos)}});
  }

  std::vector<Turn> before() const { return {{"user", Text(kAsked)}, {"assistant", Text(kAnswered)}}; }

  // What is written behind the answer that stands for all that was said.
  Text behind_answer(const std::vector<Turn> &more, bool reply) const {
    std::vector<Turn> turns = before();
    turns.insert(turns.end(), more.begin(), more.end());
    const Text all = render(turns, reply);
    const size_t at = all.text.find(kAnswered);
    if (at == all.text.npos) fail(Status::UNSUPPORTED, "the chat template does not write what the assistant says");
    return all.part(at + std::string_view(kAnswered).size(), all.text.size());
  }

  // Whether a system message at the beginning of a conversation, or within it, is written.
  bool takes_system(bool first) const {
    const std::vector<Turn> turns = {{"system", Text(kBriefed)}, {"user", Text(kAsked)}};
    try {
      return contains((first ? render(turns, false) : behind_answer(turns, false)).text, kBriefed);
    } catch (const Error &error) {
      if (error.status() == Status::INVALID_ARGUMENT) return false;
      throw;
    }
  }

  // The roles checked, and system messages that the template does not take within the user's that follow.
  std::vector<Turn> turns_of(const std::vector<ChatMessage> &messages, bool first) const {
    std::vector<Turn> turns;
    Text waiting;
    for (size_t i = 0; i < messages.size(); ++i) {
      const ChatMessage &message = messages[i];
      std::string role = message.role;
      if (role == "developer" && !developers) role = "system";
      if (role == "tool" && !tools)
        fail(Status::INVALID_ARGUMENT, "message ", i,
             " has the role 'tool', for which the template has no turn; give what the tool said as a user's message");
      if (role != "system" && role != "developer" && role != "user" && role != "assistant" && role != "tool")
        fail(Status::INVALID_ARGUMENT, "message ", i, " has the role '", printable(role),
             "'; roles are system, developer, user and assistant", tools ? ", and tool" : "");
      Text content = Text::of_content(message.content);
      if (role == "system" && !takes_system(first && i == 0)) {
        waiting.append(content);
        waiting.append(Text("\n\n"));
        continue;
      }
      if (role == "user" && !waiting.text.empty()) {
        waiting.append(jinja::strip(content, nullptr, true, false));
        content = std::exchange(waiting, Text());
      }
      turns.push_back({role, std::move(content), &message.more});
    }
    if (!waiting.text.empty())
      fail(Status::INVALID_ARGUMENT, "the chat template needs a user's message after the system's");
    return turns;
  }
};

ChatTemplate::ChatTemplate(std::string_view jinja, std::string bos, std::string eos)
    : run_(std::make_unique<Run>(Run{std::move(bos), std::move(eos), contains(jinja, "tool"),
                                     contains(jinja, "developer"), jinja::parse(jinja)})) {
  const std::string probe = run_->render(run_->before(), false).text;
  if (!contains(probe, kAsked) || !contains(probe, kAnswered))
    fail(Status::UNSUPPORTED, "the chat template does not write what messages say");
}

ChatTemplate::~ChatTemplate() = default;

ChatText ChatTemplate::text(const std::vector<ChatMessage> &messages, ChatPosition position) const {
  const bool begins = position.first && !position.open;
  std::vector<Turn> turns = run_->turns_of(messages, begins);
  const bool within = position.reply && !turns.empty() && turns.back().role == "assistant";
  if (within) turns.back().content.append(Text(kEnd));
  const bool opens = position.reply && !within;
  Text text = begins ? run_->render(turns, opens) : run_->behind_answer(turns, opens);
  size_t begin = 0, end = text.text.size();
  if (within && (end = text.text.rfind(kEnd)) == text.text.npos)
    fail(Status::UNSUPPORTED, "the chat template does not write what the assistant says last");
  if (begins && position.start && text.text.starts_with(run_->bos)) begin = run_->bos.size();
  if (!begins && !position.open)
    if (const std::string close = turn_end(); text.text.starts_with(close)) begin = close.size();
  text = text.part(begin, end);
  return {std::move(text.text), std::move(text.contents)};
}

// What stands both before another turn and before the end, where a template may have text of its own.
std::string ChatTemplate::turn_end() const {
  const std::string end = run_->behind_answer({}, false).text;
  const std::string next = run_->behind_answer({{"user", Text(kAsked)}}, false).text;
  return end.substr(
      0, static_cast<size_t>(std::mismatch(end.begin(), end.end(), next.begin(), next.end()).first - end.begin()));
}

std::vector<ChatMessage> read_chat_messages(std::string_view text) {
  const auto json = parse_json<nlohmann::ordered_json>(text, Status::INVALID_ARGUMENT, "messages_json");
  if (!json->is_array())
    fail(Status::INVALID_ARGUMENT, "messages_json: not a JSON list of {\"role\": text, \"content\": text}");
  std::vector<ChatMessage> messages;
  for (const auto &message : *json) {
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string())
      fail(Status::INVALID_ARGUMENT, "messages_json: message ", messages.size(),
           " is not {\"role\": text, \"content\": text}");
    ChatMessage &read = messages.emplace_back();
    read = {message["role"].get<std::string>(), content_of(message, messages.size() - 1)};
    for (const auto &[key, value] : message.items())
      if (key != "role" && key != "content") read.more.emplace_back(Text::of_content(key), Value::of_json(value));
  }
  return messages;
}

ChatTemplate chat_template_of(const Tokenizer &tokenizer) {
  if (tokenizer.chat_template().empty()) fail(Status::UNSUPPORTED, "the model has no chat template");
  const auto name = [&](int32_t token) { return token < 0 ? "" : tokenizer.piece(token, true); };
  return ChatTemplate(tokenizer.chat_template(), name(tokenizer.bos()), name(tokenizer.eos()));
}

ChatText chat_text(const Tokenizer &tokenizer, const std::vector<ChatMessage> &messages, ChatPosition position) {
  // Where encode() adds no BOS, the template's own stays.
  if (position.start && tokenizer.encode("", {.start = true}).empty()) position.start = false;
  return chat_template_of(tokenizer).text(messages, position);
}

std::string chat_turn_end(const Tokenizer &tokenizer) { return chat_template_of(tokenizer).turn_end(); }

std::string chat_template_name(std::string_view jinja) {
  try {
    const ChatTemplate usable(jinja);
  } catch (const Error &) { return "unknown"; }
  if (contains(jinja, "<|start_header_id|>")) return "llama3";
  if (contains(jinja, "<|im_start|>") && !contains(jinja, "<|im_sep|>")) return "chatml";
  if (contains(jinja, "<start_of_turn>")) return "gemma";
  if (contains(jinja, "[INST]") && contains(jinja, "<<SYS>>")) return "llama2";
  if (contains(jinja, "<|user|>") && contains(jinja, "<|assistant|>") && contains(jinja, "eos_token")) return "zephyr";
  return "other";
}

}  // namespace infini
