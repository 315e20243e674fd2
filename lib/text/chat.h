// Conversations as a model was trained to see them, by the Jinja template in its file.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_value.h"
#include "text/tokenizer.h"

namespace infini {

struct ChatMessage {
  std::string role;  // "system", "developer" (the same, where the template knows none), "user", "assistant" or "tool"
  std::string content;
  jinja::Dict more{};  // what else the message has, such as "tool_calls": for templates that look for it
};

// A JSON list of messages, as programs have them: {"role": text, "content": text}, where the content may be null (an
// empty one) or a list of {"type": "text", "text": text}, which are joined by line ends.
// INVALID_ARGUMENT, with the number of the message, for anything else. Other keys go to the template.
std::vector<ChatMessage> read_chat_messages(std::string_view json);

// Messages as the model was trained to see them, with control tokens written out.
struct ChatText {
  std::string text;
  std::vector<TextRange> contents;  // ranges that are messages' contents; all else are the template's marks
  // How to tokenize it: control tokens are parsed in the marks, and never in contents.
  Tokenizer::Encode encode(bool start) const { return {.special = true, .start = start, .contents = contents}; }
};

// Where messages stand in a conversation.
struct ChatPosition {
  bool reply = true;  // an answer follows: the text ends with the opening of the assistant's turn or, where the last
                      // message is the assistant's, within it, to be continued
  bool first = true;  // they begin the conversation: with the default system message, where the template has one
  bool start = true;  // they begin the stream: the BOS that the template writes is left to Tokenizer::encode
  bool open = false;  // an assistant's turn is open before them, and is closed first
};

// A template, and the model's texts of the BOS and EOS tokens, which templates use. Messages that begin a conversation
// are rendered as they are. Messages that go on with one are what the template writes behind a question and an answer
// that stand for all that was said before.
class ChatTemplate {
 public:
  // UNSUPPORTED, with the line, where it is no Jinja that can be run, or does not write what messages say.
  explicit ChatTemplate(std::string_view jinja, std::string bos = "<s>", std::string eos = "</s>");
  ~ChatTemplate();

  // INVALID_ARGUMENT where the template refuses the messages, or has no turn for a role. Where it refuses or forgets a
  // system message, that goes into the user's message that follows.
  ChatText text(const std::vector<ChatMessage> &messages, ChatPosition position) const;
  // What closes the assistant's turn: to be fed after a generated reply, because its end token is not.
  std::string turn_end() const;

 private:
  struct Run;
  std::unique_ptr<Run> run_;
};

// The template of the model's file. UNSUPPORTED where it has none.
ChatTemplate chat_template_of(const Tokenizer &tokenizer);
ChatText chat_text(const Tokenizer &tokenizer, const std::vector<ChatMessage> &messages, ChatPosition position);
std::string chat_turn_end(const Tokenizer &tokenizer);
// The family of a template by its marks: "chatml", "llama2", "llama3", "gemma", "zephyr"; "other"; "unknown" for one
// that cannot be used.
std::string chat_template_name(std::string_view jinja);

}  // namespace infini
