// Chat templates, recognised from the Jinja text in the model's file.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace infini {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

// The messages as the model was trained to see them, with control tokens written out, to be encoded with
// `special`. `reply`: ends with the opening of the assistant's turn. `first`: the messages begin the
// conversation (a default system message, where the template has one, is given only then); the BOS that
// begins it is left to Tokenizer::encode. `eos`: the text of the model's end token, which Zephyr's template uses.
// Where a template has no system turn (Llama 2, Gemma), a system message goes into the user's that follows.
// An unknown template is an UNSUPPORTED error that names the known ones: ChatML, Llama 2, Llama 3, Zephyr, Gemma.
// An unknown role is an INVALID_ARGUMENT error.
std::string apply_chat_template(std::string_view chat_template, const std::vector<ChatMessage> &messages, bool reply,
                                bool first = true, std::string_view eos = "</s>");
// What closes the assistant's turn: to be fed after a generated reply, because its end token is not.
std::string chat_turn_end(std::string_view chat_template, std::string_view eos = "</s>");
// "chatml", "llama2", ...; "" for an unknown one.
std::string chat_template_name(std::string_view chat_template);

}  // namespace infini
