// What a session is made of: private to stream/.
#pragma once

#include <array>
#include <vector>

#include "model/engine.h"
#include "stream/output.h"
#include "stream/session.h"

namespace infini {

enum class StopReason : int { NONE, END_TOKEN, STOP_STRING, MAX_TOKENS };
inline constexpr const char *kStopReasons[] = {"none", "end_token", "stop_string", "max_tokens"};  // by their numbers

// What changes with the stream besides the model's state.
struct Generation {
  Random random;
  RecentTokens recent;
  TextOutput output;
  int64_t generated = 0;  // tokens of this run
  StopReason reason = StopReason::NONE;
  bool end_reported = false;  // the caller was told that the run ended: the next call starts another
  bool text_started = false;  // the last token was no special one: no space prefix comes off the next
  bool text_before = false;   // the same before the last token
  int64_t chat_begin = -1;    // position at which the conversation began, whose last turn is open; -1: there is none
  int64_t unknown_bytes = 0;  // of characters that had no token and were skipped or replaced
};

// Tokens since the oldest boundary to which the session can be rewound, for feeding them again.
struct History {
  int64_t begin = 0;  // position of the first
  std::vector<int32_t> tokens;
  std::vector<std::array<uint64_t, 4>> randoms;  // the random generator after each
  std::array<uint64_t, 4> random_before{};       // and at `begin`
  RecentTokens recent_before;                    // as penalties saw the stream at `begin`

  void drop_before(int64_t position);
  void drop_after(int64_t position);
  int64_t bytes() const { return static_cast<int64_t>(tokens.size() * (sizeof tokens[0] + sizeof randoms[0])); }
};

inline bool has_text(const Model &model, int32_t token) {
  return model.has_tokenizer() && token < model.tokenizer().size();  // a vocabulary may be padded
}
// Whether the next token keeps its space prefix after this one. One without text changes nothing: `before`.
inline bool starts_text(const Model &model, int32_t token, bool before) {
  return has_text(model, token) ? !model.tokenizer().ends_text(token) : before;
}

// Options, looked up once; `threads` as many as there will be.
struct Settings : SessionOptions, GenerationOptions, TextOptions {
  explicit Settings(const Options &options);
  UnknownText unknown;
};

struct Session::Impl {
  Impl(const Model &model, const Options &given);
  Impl(const Model &model, const Impl &other);  // a copy
  void apply(const Model &model, const Options &all);
  void check_whole() const;
  // Starts the random generator anew; going back to here restores it so.
  void seed(int64_t number);
  // Keeps the history of tokens that were just fed.
  void remember(const Model &model, std::span<const int32_t> tokens);
  // Drops what lies before the oldest boundary to which the session can be rewound.
  void forget();

  Options given;    // set by the caller
  Options options;  // these, completed by a snapshot's
  Settings settings;
  Engine engine;
  State state;
  Sampler sampler;
  Generation generation;
  History history;
};

}  // namespace infini
