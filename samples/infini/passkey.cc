// infini passkey: whether a model finds a key in a haystack of any length.
#include <algorithm>
#include <cmath>
#include <deque>
#include <future>
#include <map>
#include <mutex>
#include <optional>

#include "common.h"
#include "passkey_task.h"

namespace cli {
namespace {

struct PasskeyArguments : ModelArguments {
  std::vector<uint64_t> lengths;
  std::vector<double> depths;
  PasskeyTask::Settings task;
  int64_t trials = 10, jobs = 1;
  bool table = false, from_start = false;
};

struct Cell {
  int64_t length;
  double depth;
  int64_t trials = 0, found = 0, digits = 0, digits_right = 0, tokens = 0;
  double seconds = 0;
  std::map<int64_t, std::pair<std::string, std::string>> answers = {};  // of each trial: key, answer

  Json json() const {
    Json keys = Json::array(), texts = Json::array();
    for (const auto &[number, answer] : answers) keys.push_back(answer.first), texts.push_back(answer.second);
    return {{"length", length},
            {"depth", depth},
            {"trials", trials},
            {"accuracy", ratio(found, trials)},
            {"digit_accuracy", ratio(digits_right, digits)},
            {"tokens_per_second", seconds > 0 ? static_cast<double>(tokens) / seconds : 0},
            {"keys", keys},
            {"answers", texts}};
  }
  static double ratio(int64_t part, int64_t whole) {
    return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
  }
};

struct Answer {
  std::string text;
  int64_t tokens = 0;  // read for it alone
  double seconds = 0;
};

// The model's own words: the most probable token, time after time, until there are as many characters as asked for.
std::string generate_answer(const infini_model *model, infini_session *session, size_t characters, size_t most_tokens) {
  Tokens tokens;
  std::string text;
  while (text.size() < characters && tokens.size() < most_tokens) {
    int32_t token = 0;
    const infini_status status = infini_session_next(session, nullptr, &token);
    if (status == INFINI_END) break;
    check(status);
    tokens.push_back(token);
    text = all_of(infini_model_detokenize, model, tokens.data(), tokens.size(), 0);
    text.erase(0, text.find_first_not_of(' '));
  }
  return text.substr(0, characters);
}

class Trials {
 public:
  Trials(const PasskeyArguments &arguments, const infini_model *model, const PasskeyTask &task);
  // Runs all that there are. An interrupt ends them; what was counted so far stays.
  void run();

  const std::vector<Cell> &cells() const { return cells_; }
  Json summary() const;
  bool cancelled() const { return cancelled_; }

 private:
  struct Planned {
    size_t cell;
    int64_t number;
    PasskeyTrial trial;
    int64_t shared;  // tokens of the prompt that other trials have too: read once, then forked
  };
  void read(infini_session *session, const Prompt &prompt, int64_t end);
  Answer answer(Session session, const PasskeyTrial &trial);
  void count(const Planned &planned, const Answer &answer);
  void finish_oldest();

  const PasskeyArguments &arguments_;
  const infini_model *model_;
  Options options_;
  int64_t piece_;  // tokens read at a time; a prompt is cut at multiples of it however it is shared
  std::vector<Cell> cells_;
  std::vector<Planned> planned_;
  std::mutex mutex_;  // of progress_ and tokens_
  std::optional<Progress> progress_;
  int64_t tokens_ = 0;
  double seconds_ = 0;
  bool cancelled_ = false;
  std::deque<std::pair<const Planned *, std::future<Answer>>> running_;  // last: what runs uses all the others
};

Trials::Trials(const PasskeyArguments &arguments, const infini_model *model, const PasskeyTask &task)
    : arguments_(arguments), model_(model), options_(arguments.flags.session_options()) {
  check(infini_options_set_double(options_.get(), "temperature", 0));
  if (arguments.jobs > 1 && value_of<int64_t>(infini_options_get_int, options_.get(), "threads") == 0)
    check(infini_options_set_int(options_.get(), "threads", 1));
  // A multiple of the chunk: then sharing changes no bit, because the model sees the same chunks as from the start.
  piece_ = 4 * value_of<int64_t>(infini_options_get_int, options_.get(), "chunk");
  for (const uint64_t length : arguments.lengths)
    for (const double depth : arguments.depths) {
      cells_.push_back({static_cast<int64_t>(length), depth});
      for (int64_t number = 0; number < arguments.trials; ++number) {
        planned_.push_back({cells_.size() - 1, number, task.trial(cells_.back().length, depth, number), 0});
        if (!arguments.from_start) planned_.back().shared = planned_.back().trial.prefix / piece_ * piece_;
      }
    }
  // A trunk grows along each filler; trials leave it in the order of their keys.
  if (!arguments.from_start)
    std::stable_sort(planned_.begin(), planned_.end(), [](const Planned &a, const Planned &b) {
      return std::pair(a.trial.filler_first, a.shared) < std::pair(b.trial.filler_first, b.shared);
    });
}

// Reads the prompt on, from where the session stands.
void Trials::read(infini_session *session, const Prompt &prompt, int64_t end) {
  const Progress quiet;
  for (int64_t at = position_of(session); at < end;) {
    const Tokens tokens = prompt.slice(at, std::min(piece_ - at % piece_, end - at));
    check(infini_session_feed(session, tokens.data(), tokens.size(), quiet.task()));
    at += static_cast<int64_t>(tokens.size());
    const std::lock_guard lock(mutex_);
    tokens_ += static_cast<int64_t>(tokens.size());
    progress_->add_done(static_cast<int64_t>(tokens.size()));
  }
}

Answer Trials::answer(Session session, const PasskeyTrial &trial) {
  Answer answer;
  const Stopwatch watch;
  answer.tokens = trial.prompt.size() - position_of(session.get());
  read(session.get(), trial.prompt, trial.prompt.size());
  // A token more than the key takes: one that is only a space.
  answer.text = generate_answer(model_, session.get(), trial.key.size(), trial.answer_tokens + 1);
  answer.seconds = watch.seconds();
  return answer;
}

void Trials::count(const Planned &planned, const Answer &answer) {
  Cell &cell = cells_[planned.cell];
  const std::string &key = planned.trial.key;
  ++cell.trials;
  cell.found += answer.text == key;
  cell.digits += static_cast<int64_t>(key.size());
  for (size_t i = 0; i < std::min(key.size(), answer.text.size()); ++i) cell.digits_right += answer.text[i] == key[i];
  cell.tokens += answer.tokens;
  cell.seconds += answer.seconds;
  cell.answers[planned.number] = {key, answer.text};
}

void Trials::finish_oldest() {
  auto [planned, future] = std::move(running_.front());
  running_.pop_front();
  count(*planned, future.get());
}

void Trials::run() {
  int64_t total = 0, first = -1, trunk_end = 0;
  for (const Planned &planned : planned_) {
    if (planned.trial.filler_first != first) trunk_end = 0;
    first = planned.trial.filler_first;
    total += planned.trial.prompt.size() - planned.shared + std::max<int64_t>(0, planned.shared - trunk_end);
    trunk_end = std::max(trunk_end, planned.shared);
  }
  progress_.emplace("reading", total);
  const Stopwatch watch;
  const auto policy = arguments_.jobs > 1 ? std::launch::async : std::launch::deferred;
  Session trunk;
  first = -1;
  const auto unless_cancelled = [&](const auto &work) {
    try {
      work();
    } catch (const Cancelled &) { cancelled_ = true; }
  };
  unless_cancelled([&] {
    for (const Planned &planned : planned_) {
      if (!trunk || planned.trial.filler_first != first)
        trunk = make<Session>(infini_session_create, model_, options_.get());
      first = planned.trial.filler_first;
      read(trunk.get(), planned.trial.prompt, planned.shared);
      if (static_cast<int64_t>(running_.size()) >= arguments_.jobs) finish_oldest();
      running_.emplace_back(&planned,
                            std::async(policy, &Trials::answer, this, make<Session>(infini_session_fork, trunk.get()),
                                       std::cref(planned.trial)));
    }
  });
  while (!running_.empty()) unless_cancelled([&] { finish_oldest(); });  // an interrupt ends those that still read
  seconds_ = watch.seconds();
  progress_.reset();
}

Json Trials::summary() const {
  int64_t trials = 0, found = 0;
  Json results = Json::array();
  for (const Cell &cell : cells_) {
    trials += cell.trials;
    found += cell.found;
    if (cell.trials > 0) results.push_back(cell.json());
  }
  return {{"accuracy", Cell::ratio(found, trials)},
          {"trials", trials},
          {"tokens", tokens_},
          {"tokens_per_second", static_cast<double>(tokens_) / seconds_},
          {"resident_bytes", resident_bytes()},
          {"results", results}};
}

// --- what is shown

void print_list(const std::vector<Cell> &cells) {
  print(format("%13s %6s %8s %9s %8s %10s\n", "length", "depth", "found", "accuracy", "digits", "tokens/s"));
  for (const Cell &cell : cells) {
    if (cell.trials == 0) continue;
    const Json row = cell.json();
    const std::string found =
        format("%lld/%lld", static_cast<long long>(cell.found), static_cast<long long>(cell.trials));
    print(format("%13s %6g %8s %8.1f%% %7.1f%% %10s\n", grouped(cell.length).c_str(), cell.depth, found.c_str(),
                 100 * row["accuracy"].get<double>(), 100 * row["digit_accuracy"].get<double>(),
                 grouped(std::llround(row["tokens_per_second"].get<double>())).c_str()));
  }
}

// Keys found in per cent, lengths across and depths down.
void print_table(const std::vector<Cell> &cells, size_t depths) {
  std::string head = format("%-12s", "found, %");
  for (size_t at = 0; at < cells.size(); at += depths) head += format(" %10s", length_text(cells[at].length).c_str());
  print(head + "\n");
  for (size_t depth = 0; depth < depths; ++depth) {
    std::string row = format("depth %-6g", cells[depth].depth);
    for (size_t at = depth; at < cells.size(); at += depths)
      row += cells[at].trials == 0 ? format(" %10s", "-")
                                   : format(" %10.0f", 100 * Cell::ratio(cells[at].found, cells[at].trials));
    print(row + "\n");
  }
}

void passkey(PasskeyArguments arguments) {
  if (arguments.lengths.empty()) {
    arguments.lengths = {4096};
    if (arguments.table) arguments.lengths = {32 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20};
  }
  if (arguments.depths.empty()) arguments.depths = arguments.table ? std::vector{0.0, 0.5, 0.95} : std::vector{0.5};
  const auto longest = static_cast<int64_t>(*std::max_element(arguments.lengths.begin(), arguments.lengths.end()));
  const Model model = arguments.open();
  const PasskeyTask task(model.get(), arguments.task, longest);
  Trials trials(arguments, model.get(), task);
  trials.run();
  const Json summary = trials.summary();
  if (arguments.json) {
    print_json(summary);
  } else {
    if (arguments.table) print_table(trials.cells(), arguments.depths.size());
    else print_list(trials.cells());
    print(format("found %.1f%% of %s keys; read %s tokens, %s a second; %s resident\n",
                 100 * summary["accuracy"].get<double>(), grouped(summary["trials"]).c_str(),
                 grouped(summary["tokens"]).c_str(),
                 grouped(std::llround(summary["tokens_per_second"].get<double>())).c_str(),
                 size_text(summary["resident_bytes"]).c_str()));
  }
  if (trials.cancelled()) throw Cancelled();
}

}  // namespace

void add_passkey(CLI::App &app) {
  const auto arguments = std::make_shared<PasskeyArguments>();
  CLI::App *command = app.add_subcommand("passkey", "Hides a key in a text of any length, and asks the model for it");
  arguments->add(*command);
  command->add_option("--length", arguments->lengths, "tokens of a prompt, at least: 4096,32K,1M (default: 4096)")
      ->delimiter(',')
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 40))
      ->type_name("N,...");
  command->add_option("--depth", arguments->depths, "where the key stands: 0 the start, 1 the end (default: 0.5)")
      ->delimiter(',')
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("D,...");
  command->add_option("--trials", arguments->trials, "keys asked for at each length and depth")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  command->add_flag("--table", arguments->table,
                    "a table, lengths across, depths down; by default 32K to 1M, at 0, 0.5 and 0.95");
  command->add_option("--filler", arguments->task.filler, "a text to hide keys in, instead of the paper's sentences")
      ->type_name("FILE");
  add_count(*command, "--names", arguments->task.names, "keys in a prompt, each with a name; one of them is asked for");
  command->add_flag("--instruction", arguments->task.instruction,
                    "begin with the paper's instruction to look for a key");
  command->add_option("--seed", arguments->task.seed, "of keys and places")->capture_default_str();
  command
      ->add_option("--jobs", arguments->jobs, "trials that run at the same time; each on one thread, unless --threads")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_flag("--from-start", arguments->from_start,
                    "share nothing between trials: read each prompt from its start");
  command->add_flag("--own-filler", arguments->task.own_filler, "begin each prompt at another place of the filler");
  arguments->add_session_flags(*command);
  command->footer(
      "The prompt: sentences over and over, somewhere in them ' The pass key is 71432. Remember it. 71432 is the pass\n"
      "key.', and at the end ' What is the pass key? The pass key is'. The answer is the model's most probable token,\n"
      "time after time; it is found if all five digits are right. K is 1024 and M is 1024 K.\n"
      "Prompts that begin with the same filler read it once: a session reads the filler, and each trial goes on from "
      "a\n"
      "fork of it that stands before its first key. What the model computes is the same, bit for bit, as "
      "--from-start.\n"
      "Examples:\n"
      "  infini passkey model.gguf --length 4096,32K --depth 0,0.5,0.95 --trials 20\n"
      "  infini passkey model.gguf --table --jobs 2\n"
      "  infini passkey model.gguf --length 1M --filler novel.txt --names 8 --json\n");
  command->callback([arguments] { passkey(*arguments); });
}

}  // namespace cli
