// What the commands share: flags, JSON, output, numbers.
#pragma once

#include <charconv>
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "flags.h"
#include "progress.h"
#include "system.h"

namespace cli {

// --- flags

// What becomes of characters that a vocabulary has no token for.
struct UnknownText {
  std::string how = "skip";  // option "unknown_text"
  int64_t bytes = 0;         // of such characters so far
};

// What every command with a model has: MODEL, --json and the options of opening one.
struct ModelArguments {
  std::string model;
  bool json = false;
  OptionFlags flags;

  void add(CLI::App &command);
  void add_session_flags(CLI::App &command);
  void add_generation_flags(CLI::App &command);
  void add_text_flags(CLI::App &command);
  UnknownText unknown_text() const;  // as the flag says
  // A model and an empty session through it, both with the options that were given.
  Model open() const;
  Session start(const infini_model *opened) const;
};

// `doing` stands before the path on the line of progress.
Model open_model(const std::string &path, const Options &options, const std::string &doing = "opening");

// A flag that takes a number above 0.
CLI::Option *add_count(CLI::App &command, const std::string &flag, int64_t &value, const std::string &help);

// --- what was given

// Refuses a path that no file can be written to; `flag` names it in the error.
void check_writable(const std::string &flag, const std::string &path);

// JSON that somebody wrote; throws where it is none, or nested too deep. `path` names it in the error.
Json parse_json(const std::string &text, const std::string &path);

// What a function of the library writes as JSON, as all_of() of handles.h takes it.
template <class... Arguments>
Json json_of(const Arguments &...arguments) {
  return Json::parse(all_of(arguments...));
}

// Comma-separated whole numbers; `what` names them in the error.
std::vector<int64_t> parse_numbers(const std::string &list, const std::string &what);

// The tokens of a text, which begins a stream or goes on with one; `special`: control tokens are parsed.
std::vector<int32_t> tokens_of(const infini_model *model, std::string_view text, bool start, bool special = false);

// The text as it is tokenized: where `how` is not "error", without those characters, or with others in their place.
std::string known_text(const infini_model *model, std::string_view text, UnknownText &unknown);
// The tokens of that.
std::vector<int32_t> tokens_of(const infini_model *model, std::string_view text, bool start, UnknownText &unknown,
                               bool special = false);

// The number that a text begins with, as std::from_chars reads it. Apple's reads no doubles, but its streams do.
template <class Number>
std::from_chars_result read_number(const char *begin, const char *end, Number &number) {
#ifdef __APPLE__
  if constexpr (std::is_floating_point_v<Number>) {
    std::istringstream stream(std::string(begin, end));
    stream.imbue(std::locale::classic());
    if (begin == end || *begin == '+' || !(stream >> std::noskipws >> number))
      return {begin, std::errc::invalid_argument};
    return {stream.eof() ? end : begin + stream.tellg(), {}};
  } else
#endif
    return std::from_chars(begin, end, number);
}
// Whether the whole text is a number.
template <class Number>
bool parse_number(const std::string &text, Number &number) {
  const char *const end = text.data() + text.size();
  const bool plus = text.starts_with('+') && !text.starts_with("+-");
  const auto [stop, error] = read_number(text.data() + plus, end, number);
  return error == std::errc() && stop == end;
}

// --- output

struct OutputFailed : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// Writes to standard output; throws OutputFailed where that fails.
void print(std::string_view text);
// JSON as the library takes it; throws where a text in it is not UTF-8. `what` names it in the error.
std::string json_text(const Json &json, const std::string &what);
// One line of JSON. What is not UTF-8 shows as U+FFFD.
std::string json_line(const Json &json);
void print_json(const Json &json);
// A number with so many digits behind its point; "-" where it is none.
std::string decimals(const Json &value, int count = 2);
// 1234567 as "1,234,567".
std::string grouped(int64_t number);
// Tokens as "32K" or "1M", where they are multiples of 1024, else as grouped() does.
std::string length_text(int64_t tokens);
// Bytes as "12.3 MB".
std::string size_text(int64_t bytes);
// printf into a string.
#ifdef __MINGW32__  // whose own printf knows other patterns
#define CLI_PRINTF gnu_printf
#else
#define CLI_PRINTF printf
#endif
[[gnu::format(CLI_PRINTF, 1, 2)]] std::string format(const char *pattern, ...);

// --- measures

// Feeds `count` tokens drawn at random, the same ones each time.
void feed_random(infini_session *session, int64_t count, int64_t vocabulary, const Progress &progress);
// How well texts are foreseen.
struct Foresight {
  double nll = 0;      // -ln p of their tokens, summed
  int64_t tokens = 0;  // without a first one that has nothing before it
  void add(infini_session *session, std::string_view text, const Progress &progress);
  double mean(const std::string &path) const;  // of a token; throws where the file held none
};
// Facts of a model, and numbers of a session, as infini_model_info_json and infini_session_info_json give them.
Json model_info(const infini_model *model);
Json session_info(const infini_session *session);
int64_t position_of(const infini_session *session);
// Says, on standard error, how many bytes of text had no token and were left out or replaced, if there were some.
void tell_of_unknown_text(int64_t bytes);
// Says, on standard error, that a model has no memory, where it has none and none was opened.
void tell_of_no_memory(const std::string &path, const infini_model *model);

// --- the commands, each in the file of its name

void add_info(CLI::App &app);
void add_tokenize(CLI::App &app);
void add_detokenize(CLI::App &app);
void add_generate(CLI::App &app);
void add_chat(CLI::App &app);
void add_score(CLI::App &app);
void add_logits(CLI::App &app);
void add_feed(CLI::App &app);
void add_snapshot(CLI::App &app);
void add_bench(CLI::App &app);
void add_footprint(CLI::App &app);
void add_passkey(CLI::App &app);
void add_recall(CLI::App &app);
void add_keep(CLI::App &app);
void add_train(CLI::App &app);
void add_quantize(CLI::App &app);
void add_options(CLI::App &app);

}  // namespace cli
