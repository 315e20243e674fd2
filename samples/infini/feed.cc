// infini feed: reads a stream of any length, and shows that memory does not grow.
#include <algorithm>
#include <cmath>
#include <utility>

#include "input.h"
#include "keeping.h"
#include "ranks.h"

namespace cli {
namespace {

struct FeedArguments : ModelArguments {
  std::string file;
  std::vector<std::string> merged;
  int64_t max_tokens = 0, every = 0, skip = 0;
  bool repeat = false;
  Keeping keeping;
};

// Of a piece with `all` tokens, the bytes that the first `tokens` of them take, or nearly.
int64_t bytes_of(std::string_view piece, size_t tokens, size_t all) {
  return static_cast<int64_t>(piece.size() * tokens / all);
}

class Reader {
 public:
  // `bytes`: of the text; 0: not known
  Reader(FeedArguments &arguments, const infini_model *model, infini_session *session, int64_t bytes)
      : arguments_(arguments), model_(model), session_(session), skip_(arguments.skip),
        starts_(position() == arguments.skip), counts_tokens_(arguments.max_tokens > 0),
        progress_("reading", counts_tokens_ ? arguments.max_tokens : bytes,
                  counts_tokens_ ? Progress::COUNT : Progress::BYTES) {}

  // Tokenizes a piece as infini_session_feed_text does, and feeds it up to each count at which something is due;
  // false: enough was read.
  bool read(std::string_view piece) {
    Stopwatch watch;
    const auto tokens = tokens_of(model_, piece, std::exchange(starts_, false), unknown_);
    seconds_ += watch.seconds();
    const auto skipped = static_cast<size_t>(std::min<int64_t>(skip_, static_cast<int64_t>(tokens.size())));
    skip_ -= static_cast<int64_t>(skipped);
    for (size_t at = skipped; at < tokens.size() && !done();) {
      const size_t count = std::min(tokens.size() - at, until_due());
      const int64_t before = position();
      if (!counts_tokens_)
        progress_.next_part(bytes_of(piece, at + count, tokens.size()) - bytes_of(piece, at, tokens.size()));
      watch = Stopwatch();
      const infini_status status = infini_session_feed(session_, tokens.data() + at, count, progress_.task());
      seconds_ += watch.seconds();
      const int64_t fed = position() - before;
      tokens_ += fed;
      check(status);
      progress_.add_done(
          counts_tokens_ ? fed : bytes_of(piece, at + count, tokens.size()) - bytes_of(piece, at, tokens.size()));
      at += count;
      if (arguments_.every > 0 && tokens_ % arguments_.every == 0) report();
      arguments_.keeping.save_if_due(session_);
    }
    return !done();
  }

  int64_t tokens() const { return tokens_; }
  int64_t unknown() const { return unknown_.bytes; }
  Json summary() const { return row(tokens_, seconds_); }
  const Json &results() const { return results_; }
  void clear_progress() { progress_.clear(); }

 private:
  int64_t position() const { return position_of(session_); }
  bool done() const { return arguments_.max_tokens > 0 && tokens_ >= arguments_.max_tokens; }

  size_t until_due() const {
    int64_t count = INT64_MAX;
    if (arguments_.max_tokens > 0) count = std::min(count, arguments_.max_tokens - tokens_);
    if (arguments_.every > 0) count = std::min(count, arguments_.every - tokens_ % arguments_.every);
    count = std::min(count, arguments_.keeping.until_due(position()));
    return static_cast<size_t>(count);
  }

  // The speed is that of `tokens` in `seconds`; all else is as of now.
  Json row(int64_t tokens, double seconds) const {
    const Json info = session_info(session_);
    return {{"tokens", tokens_},
            {"tokens_per_second", seconds > 0 ? static_cast<double>(tokens) / seconds : 0},
            {"resident_bytes", resident_bytes()},
            {"session_bytes", info["session_bytes"]},
            {"state_bytes", info["state_bytes"]}};
  }

  void report();

  FeedArguments &arguments_;
  const infini_model *model_;
  infini_session *session_;
  UnknownText unknown_ = arguments_.unknown_text();
  int64_t skip_;  // tokens of the text that are still to be left out
  bool starts_;   // the text's beginning is the stream's
  bool counts_tokens_;
  Progress progress_;
  int64_t tokens_ = 0, reported_tokens_ = 0;
  double seconds_ = 0, reported_seconds_ = 0;
  Json results_ = Json::array();
};

void print_row(const Json &row) {
  print(format("%13s %12s %12s %12s\n", grouped(row["tokens"]).c_str(),
               grouped(std::llround(row["tokens_per_second"].get<double>())).c_str(),
               size_text(row["resident_bytes"]).c_str(), size_text(row["session_bytes"]).c_str()));
}

void Reader::report() {
  const Json now = row(tokens_ - reported_tokens_, seconds_ - reported_seconds_);
  reported_tokens_ = tokens_;
  reported_seconds_ = seconds_;
  if (arguments_.json) {
    results_.push_back(now);
  } else {
    progress_.clear();
    print_row(now);
  }
}

void feed(FeedArguments &arguments) {
  if (arguments.repeat && arguments.max_tokens == 0) throw std::runtime_error("--repeat also needs --max-tokens");
  Input input(arguments.file);
  if (arguments.repeat && !input.lasts()) throw std::runtime_error("--repeat needs a file, which can be read again");
  arguments.keeping.check_early();
  const Model model = arguments.open();
  const Session session = arguments.start(model.get());
  tell_of_no_memory(arguments.model, model.get());
  arguments.keeping.load(session.get());
  Reader reader(arguments, model.get(), session.get(), input.size());
  if (!arguments.json) print(format("%13s %12s %12s %12s\n", "tokens", "tokens/s", "resident", "session"));
  bool cancelled = false;
  try {
    input.read(arguments.repeat, arguments.keeping.saves(), [&](std::string_view piece) { return reader.read(piece); });
  } catch (const Cancelled &) {
    cancelled = true;  // what was read was read
  }
  reader.clear_progress();
  tell_of_unknown_text(reader.unknown());
  if (!cancelled) arguments.keeping.save(session.get());
  Json summary = reader.summary();
  if (!arguments.json) {
    print_row(summary);
  } else {
    if (arguments.every > 0) summary["results"] = reader.results();
    summary["unknown_bytes"] = reader.unknown();
    summary["position"] = position_of(session.get());
    if (!cancelled) arguments.keeping.describe(summary);
    print_json(summary);
  }
  if (!cancelled) return;
  arguments.keeping.save_interrupted(
      session.get(),
      input.lasts()
          ? "; to go on with the same text, load it with --skip " + std::to_string(arguments.skip + reader.tokens())
          : "; that is the first " + grouped(input.bytes()) +
                " bytes of standard input, so load it and go on with the bytes that follow them");
}

// Reads each text as a stream of its own, several processes in turns, and adds up what the streams leave behind.
void feed_apart(FeedArguments &arguments, const Ranks &ranks) {
  for (const std::string &path : arguments.merged) {
    if (path == "-") throw std::runtime_error("--merge reads files, not standard input");
    if (ranks.first()) Input{path};  // before anything is read in vain
  }
  if (ranks.first()) arguments.keeping.check_early();
  const Stopwatch watch;
  const Model model = arguments.open();
  const Session total = arguments.start(model.get());
  const auto memory_tokens = [&] { return session_info(total.get())["memory_tokens"].get<int64_t>(); };
  const auto add = [&](const std::string &snapshot) {
    check(infini_session_merge_buffer(total.get(), snapshot.data(), snapshot.size(), 1, nullptr));
  };
  const auto memory_of = [](const infini_session *session) {
    return all_of(infini_session_save_buffer, session, INFINI_SNAPSHOT_MEMORY, nullptr, nullptr, nullptr);
  };
  if (ranks.first()) {
    tell_of_no_memory(arguments.model, model.get());
    arguments.keeping.load(total.get());
  }
  const int64_t before = memory_tokens();
  int64_t unknown = 0;
  for (size_t i = static_cast<size_t>(ranks.rank()); i < arguments.merged.size();
       i += static_cast<size_t>(ranks.count())) {
    Input input(arguments.merged[i]);
    const Session session = arguments.start(model.get());
    Reader reader(arguments, model.get(), session.get(), input.size());
    input.read(false, false, [&](std::string_view piece) { return reader.read(piece); });
    reader.clear_progress();
    unknown += reader.unknown();
    add(memory_of(session.get()));
  }
  tell_of_unknown_text(unknown);
  ranks.to_first(memory_of(total.get()), add);
  if (!ranks.first()) return;
  arguments.keeping.save(total.get());
  const double seconds = watch.seconds();
  const int64_t tokens = memory_tokens() - before;
  const Json kept = session_info(total.get())["kept_tokens"];
  if (!arguments.json)
    return print(format("%s: %s tokens of %zu texts in %.1f s, %s kept\n", arguments.keeping.path().c_str(),
                        grouped(tokens).c_str(), arguments.merged.size(), seconds, grouped(kept).c_str()));
  Json summary = {{"texts", arguments.merged.size()},
                  {"tokens", tokens},
                  {"seconds", seconds},
                  {"memory_tokens", memory_tokens()},
                  {"kept_tokens", kept}};
  arguments.keeping.describe(summary);
  print_json(summary);
}

}  // namespace

void add_feed(CLI::App &app) {
  const auto arguments = std::make_shared<FeedArguments>();
  CLI::App *command = app.add_subcommand("feed", "Reads a text of any length, and shows speed and memory");
  arguments->add(*command);
  CLI::Option *const file = command->add_option("--file", arguments->file, "the text; -: standard input");
  file->type_name("FILE");
  command->add_option("--max-tokens", arguments->max_tokens, "stop after that many tokens; 0: at the end")
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--repeat", arguments->repeat, "read the file again and again");
  command
      ->add_option("--every", arguments->every,
                   "show a line each so many tokens, with the speed since the last one; 0: only at the end")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--skip", arguments->skip, "leave out the first tokens of the text: those that --load has read")
      ->check(CLI::NonNegativeNumber);
  CLI::Option *const merge = command->add_option(
      "--merge", arguments->merged,
      "texts that are read apart, each as a stream of its own, and whose memories are added up; by several processes "
      "under mpirun");
  merge->type_name("FILE...");
  arguments->keeping.add(*command, *arguments);
  merge->needs(command->get_option("--save"));
  for (const char *const other : {"--file", "--max-tokens", "--repeat", "--every", "--skip", "--save-every"})
    merge->excludes(command->get_option(other));
  arguments->add_text_flags(*command);
  arguments->add_session_flags(*command);
  command->footer(
      "Shows the tokens read, tokens a second, memory of the process, and memory of the session. Waiting for\n"
      "input does not count. With --save, Ctrl-C saves what was read, and says how to go on: from a file by the "
      "tokens\n"
      "to --skip; from a pipe, of which all that left it is read first, by its bytes. An error saves nothing.\n"
      "Examples:\n"
      "  infini feed model.gguf --file novel.txt\n"
      "  infini feed model.gguf --file novel.txt --repeat --max-tokens 1000000 --every 100000\n"
      "  infini feed model.gguf --file one.txt --save memory.snap --name 'two books'\n"
      "  infini feed model.gguf --file two.txt --load memory.snap --save memory.snap\n"
      "  tail -f service.log | infini feed model.gguf --file - --every 10000\n"
      "  infini feed model.gguf --merge books/*.txt --save library.snap\n"
      "  mpirun -n 4 infini feed model.gguf --merge books/*.txt --save library.snap --threads 1\n");
  command->callback([arguments] {
    if (arguments->file.empty() && arguments->merged.empty())
      throw std::runtime_error("name what is to be read: --file, or --merge");
    if (arguments->merged.empty()) feed(*arguments);
    else on_ranks([&](const Ranks &ranks) { feed_apart(*arguments, ranks); });
  });
}

}  // namespace cli
