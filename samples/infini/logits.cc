// infini logits: what the model says after every token, as a NumPy file.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "common.h"

namespace cli {
namespace {

struct LogitsArguments : ModelArguments {
  std::string tokens, text, out, close;
  CLI::Option *text_flag = nullptr;
  int64_t cut = 0;
};

// A float32 matrix in the .npy format, version 1.0, written row by row; removed again unless it was finished.
class NpyFile {
 public:
  NpyFile(const std::string &path, size_t rows, size_t columns) : path_(path), file_(std::fopen(path.c_str(), "wb")) {
    if (!file_) fail();
    std::string header = format("{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", rows, columns);
    constexpr size_t kBefore = 10, kAlignment = 64;  // the magic, version and length stand before the header
    header.append(kAlignment - 1 - (kBefore + header.size()) % kAlignment, ' ').append(1, '\n');
    const std::string length{static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
    put(std::string("\x93NUMPY\x01\x00", 8) + length + header);
  }
  ~NpyFile() {
    if (!file_) return;
    std::fclose(file_);
    std::remove(path_.c_str());
  }
  NpyFile(const NpyFile &) = delete;
  NpyFile &operator=(const NpyFile &) = delete;

  void put(std::string_view bytes) {
    if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) fail();
  }
  void finish() {
    std::FILE *const file = std::exchange(file_, nullptr);
    if (std::fclose(file) != 0) fail();
  }

 private:
  [[noreturn]] void fail() const { throw std::runtime_error("cannot write " + path_ + ": " + std::strerror(errno)); }
  std::string path_;
  std::FILE *file_;
};

std::vector<int32_t> given_tokens(const LogitsArguments &arguments, const infini_model *model) {
  if (arguments.text_flag->count()) {
    UnknownText unknown = arguments.unknown_text();
    const std::vector<int32_t> tokens = tokens_of(model, arguments.text, true, unknown);
    tell_of_unknown_text(unknown.bytes);
    return tokens;
  }
  std::vector<int32_t> tokens;
  for (const int64_t token : parse_numbers(arguments.tokens, "--tokens")) {
    if (token < 0 || token > INT32_MAX) throw std::runtime_error("--tokens: no token is " + std::to_string(token));
    tokens.push_back(static_cast<int32_t>(token));
  }
  return tokens;
}

void logits(const LogitsArguments &arguments) {
  const Model model = arguments.open();
  const Session session = arguments.start(model.get());
  const std::vector<int32_t> tokens = given_tokens(arguments, model.get());
  if (tokens.empty()) throw std::runtime_error("there are no tokens: give --tokens or --text");
  const auto end = static_cast<int64_t>(tokens.size());
  std::vector<int64_t> closes = parse_numbers(arguments.close, "--close");
  std::sort(closes.begin(), closes.end());
  if (!closes.empty() && (closes.front() < 1 || closes.back() > end))
    throw std::runtime_error("--close: counts lie between 1 and the number of tokens, " + std::to_string(end));

  const size_t vocabulary = value_of<size_t>(infini_model_vocabulary, model.get());
  NpyFile file(arguments.out, tokens.size(), vocabulary);
  std::vector<float> rows;
  double seconds = 0;
  {
    Progress progress("reading", end);
    auto close = closes.begin();
    for (int64_t at = 0; at < end;) {
      int64_t next = arguments.cut > 0 ? std::min(at + arguments.cut, end) : end;
      if (close != closes.end()) next = std::min(next, *close);
      const auto count = static_cast<size_t>(next - at);
      rows.resize(count * vocabulary);
      const Stopwatch watch;
      check(infini_session_feed_logits(session.get(), tokens.data() + at, count, progress.task(), rows.data(),
                                       rows.size(), nullptr));
      for (; close != closes.end() && *close == next; ++close) check(infini_session_close_segment(session.get()));
      seconds += watch.seconds();
      file.put({reinterpret_cast<const char *>(rows.data()), rows.size() * sizeof(float)});
      progress.add_done(next - at);
      at = next;
    }
  }
  file.finish();
  if (arguments.json)
    return print_json({{"file", arguments.out},
                       {"shape", {tokens.size(), vocabulary}},
                       {"tokens", tokens.size()},
                       {"tokens_per_second", static_cast<double>(tokens.size()) / seconds}});
  print(format("%s: float32 [%zu, %zu]\n", arguments.out.c_str(), tokens.size(), vocabulary));
}

}  // namespace

void add_logits(CLI::App &app) {
  const auto arguments = std::make_shared<LogitsArguments>();
  CLI::App *command = app.add_subcommand("logits", "Writes the logits after every token as a NumPy file");
  arguments->add(*command);
  CLI::Option *tokens = command->add_option("--tokens", arguments->tokens, "tokens: 1,2,3");
  arguments->text_flag = command->add_option("--text", arguments->text, "or a text")->excludes(tokens);
  command->add_option("--out", arguments->out, "the file to write: float32 [positions, vocabulary]")
      ->type_name("FILE")
      ->required();
  command->add_option("--cut", arguments->cut, "feed that many tokens a call; 0: all at once")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--close", arguments->close, "close the segment after these numbers of tokens: 5,30");
  arguments->add_text_flags(*command);
  arguments->add_session_flags(*command);
  command->footer(
      "Examples:\n"
      "  infini logits model.gguf --tokens 1,403,407 --out logits.npy\n"
      "  infini logits model.gguf --text 'Once upon a time' --cut 3 --close 2,4 --compute f32 --out logits.npy\n"
      "  python3 -c 'import numpy; print(numpy.load(\"logits.npy\").shape)'\n");
  command->callback([arguments] { logits(*arguments); });
}

}  // namespace cli
