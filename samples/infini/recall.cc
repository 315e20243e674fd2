// infini recall: whether a model remembers what it was told.
#include <algorithm>
#include <map>
#include <optional>

#include "common.h"
#include "filler.h"
#include "passkey_task.h"

namespace cli {
namespace {

struct RecallArguments : ModelArguments {
  std::vector<uint64_t> distances{100, 1000, 3000};
  std::string filler, form = "prose", split = "held-out", kind;
  int64_t trials = 8, facts = 1;
  uint64_t seed = 1;
  bool full = false, answers = false;
};

struct Score {
  int64_t asked = 0, right = 0;
  int64_t located = 0;  // questions for something that was told, and of which it is known where it stands
  double in_view = 0;   // the shares of it that local attention sees, summed
  void add(const Score &other) {
    asked += other.asked, right += other.right, located += other.located, in_view += other.in_view;
  }
};

struct Stretch {
  int64_t begin, end;  // positions of tokens
};

using Distances = std::map<int64_t, Score>;

// What one way of reading came to.
struct Column {
  std::string name;
  std::map<const Family *, Distances> scores;
  Json answers = Json::array();
  int64_t state_bytes = 0, tokens = 0;
  double seconds = 0;
  UnknownText unknown = {};
};

// One stream in which facts are told, and a fork of it for each question.
class Stream {
 public:
  Stream(const RecallArguments &arguments, const infini_model *model, const infini_options *options, Filler &filler,
         Draw &draw, Column &column)
      : arguments_(arguments), model_(model), session_(make<Session>(infini_session_create, model, options)),
        filler_(filler), draw_(draw), column_(column) {}

  // Distances beyond `limit` are left out.
  void run(const std::vector<Fact> &facts, int64_t limit) {
    read_filler(40 + static_cast<int64_t>(draw_.below(160)));
    for (const Fact &fact : facts) {
      for (const std::string &statement : fact.statements) {
        const int64_t begin = position_;
        say(" " + statement);
        told_[&fact].push_back({begin, position_});
        if (&statement != &fact.statements.back()) read_filler(30 + static_cast<int64_t>(draw_.below(120)));
      }
      for (const uint64_t distance : arguments_.distances)
        if (static_cast<int64_t>(distance) <= limit)
          due_.emplace(position_ + static_cast<int64_t>(distance), std::pair(&fact, static_cast<int64_t>(distance)));
      if (&fact != &facts.back()) read_filler(20 + static_cast<int64_t>(draw_.below(100)));
    }
    while (!due_.empty()) read_filler(due_.begin()->first - position_);
    column_.tokens += position_;
    column_.state_bytes = std::max(column_.state_bytes, session_info(session_.get())["state_bytes"].get<int64_t>());
  }

 private:
  // Sentences of about so many tokens, and the questions that are due meanwhile.
  void read_filler(int64_t tokens) {
    const int64_t end = position_ + tokens;
    do {
      const int64_t next = due_.empty() ? end : std::min(end, due_.begin()->first);
      while (position_ < next) say(filler_.next());
      while (!due_.empty() && due_.begin()->first <= position_) {
        const auto [fact, distance] = due_.begin()->second;
        due_.erase(due_.begin());
        ask(*fact, distance);
      }
    } while (position_ < end);
  }

  void say(const std::string &given) {
    const std::string text = known_text(model_, given, column_.unknown);
    const Tokens more = tokens_of(model_, text, position_ == 0);
    waiting_.insert(waiting_.end(), more.begin(), more.end());
    position_ += static_cast<int64_t>(more.size());
    turn_ += text;
    if (waiting_.size() >= 2048) read();
  }

  // In a conversation, what was said is a turn of the user's, and the model was only told to listen.
  void read() {
    const Progress quiet;
    if (arguments_.form == "chat") {
      if (!turn_.empty())
        chat(session_.get(), {{{"role", "user"}, {"content", turn_}}, {{"role", "assistant"}, {"content", "Go on."}}});
    } else if (!waiting_.empty()) {
      check(infini_session_feed(session_.get(), waiting_.data(), waiting_.size(), quiet.task()));
    }
    waiting_.clear();
    turn_.clear();
  }

  // The share of the fact's tokens that local attention still sees.
  double in_view(const Fact &fact) {
    const Json info = session_info(session_.get());
    std::vector<Stretch> seen{{info["window_begin"], info["position"]}};
    for (const Json &span : info["kept"])
      seen.push_back({span["position"], span["position"].get<int64_t>() + span["tokens"].get<int64_t>()});
    int64_t all = 0, found = 0;
    for (const Stretch &told : told_[&fact]) {
      all += told.end - told.begin;
      for (const Stretch &one : seen)
        found += std::max<int64_t>(0, std::min(told.end, one.end) - std::max(told.begin, one.begin));
    }
    return static_cast<double>(found) / static_cast<double>(all);
  }

  static void chat(infini_session *session, const Json &messages) {
    const Progress quiet;
    check(infini_session_chat(session, json_text(messages, "a message").c_str(), quiet.task()));
  }

  void ask(const Fact &fact, int64_t distance) {
    read();
    const bool in_chat = arguments_.form == "chat";
    const Session fork = make<Session>(infini_session_fork, session_.get());
    const Progress quiet;
    if (in_chat) {
      chat(fork.get(), {{{"role", "user"}, {"content", fact.question}}});
    } else {
      const std::string text = "\n\nQuestion: " + fact.question + "\nAnswer: " + fact.stem;
      check(infini_session_feed_text(fork.get(), text.data(), text.size(), quiet.task()));
    }
    const std::string answer = generate(fork.get(), in_chat ? 40 : std::max<size_t>(14, fact.value.size()));
    Score &score = column_.scores[fact.family][distance];
    const bool right = is_right(fact, answer, in_chat);
    const bool located = !in_chat && !fact.statements.empty();  // in a conversation, marks of turns move what was said
    const double seen = located ? in_view(fact) : 0;
    score.add({1, right, located, seen});
    column_.answers.push_back({{"family", fact.family->name},
                               {"distance", distance},
                               {"told", fact.statements},
                               {"question", fact.question},
                               {"value", fact.value},
                               {"answer", answer},
                               {"right", right}});
    if (located) column_.answers.back()["in_view"] = seen;
  }

  std::string generate(infini_session *session, size_t most) const {
    Tokens tokens;
    const Progress quiet;
    while (tokens.size() < most) {
      int32_t token = 0;
      const infini_status status = infini_session_next(session, quiet.task(), &token);
      if (status == INFINI_END) break;
      check(status);
      tokens.push_back(token);
    }
    return all_of(infini_model_detokenize, model_, tokens.data(), tokens.size(), 0);
  }

  const RecallArguments &arguments_;
  const infini_model *model_;
  Session session_;
  Filler &filler_;
  Draw &draw_;
  Column &column_;
  Tokens waiting_;
  std::string turn_;
  int64_t position_ = 0;
  std::multimap<int64_t, std::pair<const Fact *, int64_t>> due_;
  std::map<const Fact *, std::vector<Stretch>> told_;  // where each fact stands
};

std::vector<const Family *> chosen_families(const RecallArguments &arguments) {
  std::vector<const Family *> chosen;
  for (const Family &family : families())
    if (family.held_out == (arguments.split == "held-out") &&
        (arguments.kind.empty() ? !family.by_name() : family.kind == arguments.kind))
      chosen.push_back(&family);
  if (chosen.empty())
    throw std::runtime_error("--kind: no " + arguments.split + " family is of the kind '" + arguments.kind + "'");
  return chosen;
}

void measure(const RecallArguments &arguments, const infini_model *model, const infini_options *options, int64_t limit,
             Column &column) {
  const std::vector<const Family *> chosen = chosen_families(arguments);
  const Stopwatch watch;
  Draw place({arguments.seed, 0});
  Filler filler(arguments.filler, place);
  const auto total = static_cast<int64_t>(chosen.size()) * arguments.trials;
  Progress progress(column.name, total);
  for (int64_t done = 0; done < total; done += arguments.facts) {
    Draw draw({arguments.seed, 1, static_cast<uint64_t>(done)});
    filler.begin_anywhere(draw);
    std::vector<Fact> facts;
    for (int64_t i = done; i < std::min(total, done + arguments.facts); ++i)
      if (auto fact = draw_other_fact(*chosen[static_cast<size_t>(i) % chosen.size()], arguments.split == "held-out",
                                      facts, draw))
        facts.push_back(std::move(*fact));
    Stream(arguments, model, options, filler, draw, column).run(facts, limit);
    progress.add_done(std::min(arguments.facts, total - done));
  }
  column.seconds = watch.seconds();
  tell_of_unknown_text(column.unknown.bytes);
}

Json json_of(const RecallArguments &arguments, const Column &column) {
  Json results = Json::array();
  for (const auto &[family, distances] : column.scores)
    for (const auto &[distance, score] : distances) {
      results.push_back({{"family", family->name},
                         {"kind", family->kind},
                         {"distance", distance},
                         {"asked", score.asked},
                         {"right", score.right}});
      if (score.located > 0) results.back()["in_view"] = score.in_view / static_cast<double>(score.located);
    }
  Json json = {{"name", column.name},
               {"tokens", column.tokens},
               {"seconds", column.seconds},
               {"state_bytes", column.state_bytes},
               {"results", results}};
  if (arguments.answers) json["answers"] = column.answers;
  return json;
}

// Kinds down, distances across, the ways of reading side by side; last, how much of what was told is still in view.
void print_table(const RecallArguments &arguments, const std::vector<Column> &columns) {
  std::string head = format("%-10s", "right");
  for (const Column &column : columns)
    for (const uint64_t distance : arguments.distances)
      head += format(" %12s", (column.name.substr(0, 5) + " " + length_text(static_cast<int64_t>(distance))).c_str());
  print(head + "\n");
  std::vector<std::string> kinds;
  for (const Family &family : families())
    if (std::find(kinds.begin(), kinds.end(), family.kind) == kinds.end()) kinds.push_back(family.kind);
  kinds.insert(kinds.end(), {"all", "in view"});
  for (const std::string &kind : kinds) {
    const bool view = kind == "in view", all = view || kind == "all";
    std::string row = format("%-10s", kind.c_str());
    bool any = false;
    for (const Column &column : columns)
      for (const uint64_t distance : arguments.distances) {
        Score sum;
        for (const auto &[family, distances] : column.scores)
          if (const auto at = distances.find(static_cast<int64_t>(distance));
              (all || kind == family->kind) && at != distances.end())
            sum.add(at->second);
        std::string cell = "-";
        if (view && sum.located > 0) cell = format("%.2f", sum.in_view / static_cast<double>(sum.located));
        if (!view && sum.asked > 0)
          cell = format("%lld/%lld", static_cast<long long>(sum.right), static_cast<long long>(sum.asked));
        any |= cell != "-";
        row += format(" %12s", cell.c_str());
      }
    if (any) print(row + "\n");
  }
  for (const Column &column : columns)
    print(format("%s: %s tokens in %.0f s, a state of %s\n", column.name.c_str(), grouped(column.tokens).c_str(),
                 column.seconds, size_text(column.state_bytes).c_str()));
}

void recall(RecallArguments arguments) {
  std::sort(arguments.distances.begin(), arguments.distances.end());
  std::vector<Column> columns;
  try {
    const Model model = arguments.open();
    const Options options = arguments.flags.session_options();
    check(infini_options_set_double(options.get(), "temperature", 0));
    columns.push_back({"model", {}, Json::array()});
    measure(arguments, model.get(), options.get(), INT64_MAX, columns.back());
    if (arguments.full) {
      const int64_t context = model_info(model.get())["context"];
      const Options whole = arguments.flags.model_options();
      check(infini_options_set_string(whole.get(), "memory", "off"));
      check(infini_options_set_int(whole.get(), "segment", context));
      for (const char *nothing : {"carry", "sinks", "keep"}) check(infini_options_set_int(whole.get(), nothing, 0));
      const Model plain = make<Model>(infini_model_open, arguments.model.c_str(), whole.get(), nullptr);
      columns.push_back({"full attention", {}, Json::array()});
      measure(arguments, plain.get(), options.get(), context - 600, columns.back());
    }
  } catch (const Cancelled &) {}
  if (arguments.json) {
    Json json = {
        {"split", arguments.split}, {"form", arguments.form}, {"facts", arguments.facts}, {"columns", Json::array()}};
    for (const Column &column : columns) json["columns"].push_back(json_of(arguments, column));
    print_json(json);
  } else {
    print_table(arguments, columns);
  }
  if (interrupted()) throw Cancelled();
}

}  // namespace

void add_recall(CLI::App &app) {
  const auto arguments = std::make_shared<RecallArguments>();
  CLI::App *command = app.add_subcommand("recall", "Tells a model facts in running text, and asks for them later");
  arguments->add(*command);
  command->add_option("--distance", arguments->distances, "tokens between a fact and its question: 100,8K,1M")
      ->delimiter(',')
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 40))
      ->type_name("N,...")
      ->capture_default_str();
  command->add_option("--trials", arguments->trials, "facts of each family")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  command
      ->add_option("--facts", arguments->facts,
                   "facts that are told in one stream, no two about the same of one family")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--filler", arguments->filler,
                      "a text in which facts are told, instead of sentences that repeat");
  command
      ->add_option("--form", arguments->form,
                   "prose: question and begin of the answer stand in the text; chat: turns of a conversation")
      ->check(CLI::IsMember({"prose", "chat"}))
      ->capture_default_str();
  command
      ->add_option("--split", arguments->split,
                   "families, wordings and values for training, or those that are held out")
      ->check(CLI::IsMember({"train", "held-out"}))
      ->capture_default_str();
  command->add_option(
      "--kind", arguments->kind,
      "only families of one kind: digits, words, names, places, numbers, who, changed, joined, needle, never; "
      "and, only if they are named, ruler, babilong");
  command->add_option("--seed", arguments->seed, "of facts and places")->capture_default_str();
  command->add_flag("--full", arguments->full,
                    "beside it the same model without a memory, with all of its context in view");
  command->add_flag("--answers", arguments->answers, "with --json: every question with its answer");
  arguments->add_session_flags(*command);
  command->footer(
      "A stream of text in which facts are told once, in one of several wordings, each asked for on a fork of the "
      "session\n"
      "after so many tokens, in other words (Question: ... Answer: ...). Greedy. Right is an answer that begins with "
      "the value (chat: whose first\n"
      "sentence holds it). 'changed' tells two values, and the newer holds; 'joined' needs two facts; 'never' asks for "
      "what\n"
      "nobody said, and wants the word unknown. 'in view' is the share of the tokens of what was told that local "
      "attention\n"
      "still sees, in its window or kept; what is lost though it is in view was not used.\n"
      "'ruler' hides a number of seven digits and a uuid: S-NIAH 1, 2 and 3 with a novel as --filler; 'babilong' "
      "tells\n"
      "one or two supporting facts.\n"
      "Examples:\n"
      "  infini recall model.gguf --filler novel.txt --distance 100,1000,8K\n"
      "  infini recall model.gguf --filler novel.txt --full --json --answers\n"
      "  infini recall model.gguf --form chat --facts 8\n");
  command->callback([arguments] { recall(*arguments); });
}

}  // namespace cli
