// A session's text: what is fed, scored or said in a chat becomes tokens here.
#include <algorithm>

#include "stream/session_impl.h"

namespace infini {

void Session::score_text(std::string_view text, double *nll, int64_t *scored, Task *task) {
  const Reading reading = encode(text);
  begin(reading);
  std::vector<float> losses(reading.tokens.size());
  const int64_t before = position();
  const bool follows = impl_->state.has_hidden;
  const auto sum_up = [&] {
    const auto read = static_cast<size_t>(position() - before);
    const size_t begin = std::min<size_t>(!follows, read);
    double sum = 0;
    for (size_t i = begin; i < read; ++i) sum += losses[i];
    if (nll) *nll = sum;
    if (scored) *scored = static_cast<int64_t>(read - begin);
  };
  try {
    score(reading.tokens, losses.data(), task);
  } catch (const Error &error) {
    if (error.status() == Status::CANCELLED) sum_up();  // of what was read
    throw;
  }
  sum_up();
}

void Session::feed_text(std::string_view text, Task *task) {
  const Reading reading = encode(text);
  begin(reading);
  ingest(reading.tokens, task, {});
}

Session::Reading Session::encode(std::string_view text) const {
  return encode(text, {.special = impl_->settings.special, .start = position() == 0});
}

Session::Reading Session::encode(std::string_view text, Tokenizer::Encode how) const {
  how.unknown = impl_->settings.unknown;
  Reading reading;
  reading.tokens = model_->tokenizer().encode(text, how, &reading.unknown_bytes);
  return reading;
}

void Session::begin(const Reading &reading) { impl_->generation.unknown_bytes += reading.unknown_bytes; }

Session::Reading Session::chat_turn(const std::vector<ChatMessage> &messages) const {
  if (messages.empty()) fail(Status::INVALID_ARGUMENT, "there are no messages");
  const int64_t begin = impl_->generation.chat_begin;
  const bool open = begin >= 0 && position() > begin;  // not where a turn was begun, and nothing of it was read
  const ChatPosition stands = {.reply = true, .first = !open, .start = position() == 0, .open = open};
  const ChatText chat = chat_text(model_->tokenizer(), messages, stands);
  return encode(chat.text, chat.encode(stands.start));
}

void Session::begin_turn(const Reading &turn) {
  begin(turn);
  int64_t &begin = impl_->generation.chat_begin;
  if (begin < 0) begin = position();
}

void Session::chat(const std::vector<ChatMessage> &messages, Task *task) {
  const Reading turn = chat_turn(messages);
  const int64_t before = position(), begun = impl_->generation.chat_begin;
  begin_turn(turn);
  try {
    ingest(turn.tokens, task, {});
  } catch (...) {
    if (position() == before) impl_->generation.chat_begin = begun;  // else a turn is open, though it is not all there
    throw;
  }
  start_generation();
}

int64_t Session::chat_begin() const { return impl_->generation.chat_begin; }
int64_t Session::unknown_bytes() const { return impl_->generation.unknown_bytes; }

}  // namespace infini
