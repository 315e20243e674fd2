// Chat templates, recognised from the Jinja text in the model's file.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace infini {

struct ChatMessage {
  std::string role;  // "system", "developer" (the same), "user" or "assistant"
  std::string content;
};

// A JSON list of messages, as programs have them: {"role": text, "content": text}, where the content may be null (an
// empty one) or a list of {"type": "text", "text": text}, which are joined by line ends; other keys are left alone.
// INVALID_ARGUMENT, with the number of the message, for anything else.
std::vector<ChatMessage> read_chat_messages(std::string_view json);

// Messages as the model was trained to see them, with control tokens written out.
struct ChatText {
  std::string text;
  std::vector<TextRange> words;  // what the messages say; all else are the template's marks
  // The tokens: of the marks all that are control tokens, of the words none.
  Tokenizer::Encode encode(bool start) const { return {.special = true, .start = start, .words = words}; }
};

// Where in a conversation messages stand.
struct ChatPlace {
  bool reply = true;  // an answer follows: the text ends with the opening of the assistant's turn or, where the last
                      // message is the assistant's, within it, to be continued
  bool first = true;  // they begin the conversation: with the default system message, where the template has one
  bool start = true;  // they begin the stream: the BOS that the template writes is left to Tokenizer::encode
  bool open = false;  // an assistant's turn is open before them, and is closed first
};

// `eos`: the text of the model's end token, which Zephyr's template uses. Where a template has no system turn (Llama 2,
// Gemma), a system message goes into the user's that follows.
// An unknown template is an UNSUPPORTED error that names the known ones: ChatML, Llama 2, Llama 3, Zephyr, Gemma.
// A role that the template has no turn for is an INVALID_ARGUMENT error.
ChatText chat_text(std::string_view chat_template, const std::vector<ChatMessage> &messages, ChatPlace place,
                   std::string_view eos = "</s>");
// The same by the template and the end token of the model's file.
ChatText chat_text(const Tokenizer &tokenizer, const std::vector<ChatMessage> &messages, ChatPlace place);
// What closes the assistant's turn: to be fed after a generated reply, because its end token is not.
std::string chat_turn_end(std::string_view chat_template, std::string_view eos = "</s>");
std::string chat_turn_end(const Tokenizer &tokenizer);
// "chatml", "llama2", ...; "" for an unknown one.
std::string chat_template_name(std::string_view chat_template);

}  // namespace infini
