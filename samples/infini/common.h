// What the commands share: flags, input, output, progress.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "handles.h"

namespace cli {

using Json = nlohmann::ordered_json;

// --- flags

// Flags that set options of the library. Name, type and help come from the library's own table: option "top_k" is
// flag --top-k.
class OptionFlags {
 public:
  void add(CLI::App &command, const std::vector<std::string> &names, const std::string &group);
  // The options whose flags were given.
  Options options() const;

 private:
  struct Flag {
    std::string name, type;
    CLI::Option *flag;
  };
  std::vector<Flag> flags_;
};

// What every command with a model has: MODEL, --json and the options of opening one.
struct ModelArguments {
  std::string model;
  bool json = false;
  OptionFlags flags;

  void add(CLI::App &command);
  void add_session_flags(CLI::App &command);
  void add_generation_flags(CLI::App &command);
  Model open() const;
  // A model and an empty session through it, both with the options that were given.
  Session start(const infini_model *opened) const;
};

// --- input

// The text of an argument or, in pieces that can be tokenized one by one, of a file ("-": standard input). A text
// that is empty comes as one empty piece. Stops where `take` returns false.
// `repeat`: the file again and again.
using Take = std::function<bool(std::string_view piece)>;
void for_each_piece(const std::string &path, bool repeat, const Take &take);

// Refuses a path that no file can be written to; `flag` names it in the error.
void check_writable(const std::string &flag, const std::string &path);

constexpr int kDeepestJson = 32;  // no file of ours is nested deeper

// JSON that somebody wrote; discarded where it is not JSON. What is nested deeper is left out, since copying it would take
// as much stack.
Json parse_json(std::string_view text);

// Comma-separated whole numbers; `what` names them in the error.
std::vector<int64_t> parse_numbers(const std::string &list, const std::string &what);

// --- output

// Writes to standard output; throws where that fails.
void print(std::string_view text);
// A file's new text, through a temporary file: the path holds the old text or the new, also after a loss of power.
void write_file(const std::string &path, std::string_view text);
// One line of JSON. What is not UTF-8 shows as U+FFFD.
void print_json(const Json &json);
// 1234567 as "1,234,567".
std::string grouped(int64_t number);
// Tokens as "32K" or "1M", where they are multiples of 1024, else as grouped() does.
std::string length_text(int64_t tokens);
// Bytes as "12.3 MB".
std::string size_text(int64_t bytes);
// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string format(const char *pattern, ...);

// --- measures

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

// Memory of this process that is in RAM.
int64_t resident_bytes();
// Numbers of a session, as infini_session_info_json gives them.
Json session_info(const infini_session *session);

// --- progress and interrupts

// After it, an interrupt (Ctrl-C, SIGTERM) cancels the call that runs; a second one ends the process.
void catch_interrupts();
bool interrupted();

// A task for the library's long calls. Shows how far they have come, on standard error, if that is a terminal.
class Progress {
 public:
  // Without a label nothing is shown; interrupts cancel all the same. `total`: what several calls will have done.
  explicit Progress(std::string label = "", int64_t total = 0);
  ~Progress();
  Progress(const Progress &) = delete;
  Progress &operator=(const Progress &) = delete;

  infini_task *task() const { return task_.get(); }
  // What earlier calls have done is added to what is shown; the call's own total, which that is not part of, is not.
  void add_done(int64_t done);
  void clear();  // wipes the line, so that other output may come

 private:
  static int report(void *user_data, const char *stage, int64_t done, int64_t total);
  void show(int64_t done, int64_t total);

  std::string label_;
  Task task_;
  int64_t total_, before_ = 0;
  bool visible_ = false, shown_ = false;
  Stopwatch since_shown_;
};

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
void add_train(CLI::App &app);

}  // namespace cli
