// infini score: how well a model foresees a text.
#include <bit>
#include <cmath>
#include <unordered_map>

#include "input.h"
#include "common.h"

namespace cli {
namespace {

struct ScoreArguments : ModelArguments {
  std::string file;
  int64_t far = 0;
};

// Where a text is foreseen well: by how much stood before a token, and by whether it was had before, behind the same
// token. What a memory is worth shows first where it was last had farther back than the window reaches.
class Breakdown {
 public:
  Breakdown(int64_t far, UnknownText unknown) : far_(far), unknown_(std::move(unknown)) {}

  // Reads the next piece of the text.
  void add(const infini_model *model, infini_session *session, std::string_view piece, const Progress &progress) {
    const std::vector<int32_t> tokens = tokens_of(model, piece, position_ == 0, unknown_);
    std::vector<float> nll(tokens.size());
    size_t size;
    check(infini_session_score(session, tokens.data(), tokens.size(), progress.task(), nll.data(), nll.size(), &size));
    for (size_t i = 0; i < tokens.size(); ++i) add(tokens[i], nll[i]);
  }
  Foresight all() const {
    Foresight sum;
    for (const Foresight *const part : {&new_, &near_, &far_back_}) sum.nll += part->nll, sum.tokens += part->tokens;
    return sum;
  }
  int64_t unknown_bytes() const { return unknown_.bytes; }
  Json positions() const {
    Json stretches = Json::array();
    for (size_t i = 0; i < stretches_.size(); ++i) {
      stretches.push_back(json_of_part(stretches_[i]));
      stretches.back()["from"] = i == 0 ? 0 : kFirst << (i - 1);
    }
    return stretches;
  }
  Json pairs() const {
    return {{"new", json_of_part(new_)}, {"near", json_of_part(near_)}, {"far", json_of_part(far_back_)}};
  }

 private:
  static constexpr int64_t kFirst = 1024;  // tokens of the first stretch; each other one is as long as all before it

  void add(int32_t token, float nll) {
    const auto pair = static_cast<uint64_t>(static_cast<uint32_t>(before_)) << 32 | static_cast<uint32_t>(token);
    const auto [last, is_new] = last_.try_emplace(pair, position_);
    Foresight &of_pair = is_new ? new_ : position_ - last->second <= far_ ? near_ : far_back_;
    const auto stretch = static_cast<size_t>(std::bit_width(static_cast<uint64_t>(position_ / kFirst)));
    if (stretch == stretches_.size()) stretches_.emplace_back();
    if (!std::isnan(nll)) {  // something stood before it
      for (Foresight *const part : {&of_pair, &stretches_[stretch]}) part->nll += nll, ++part->tokens;
    }
    last->second = position_++;
    before_ = token;
  }
  static Json json_of_part(const Foresight &part) {
    return {{"tokens", part.tokens},
            {"nll_mean", part.tokens ? Json(part.nll / static_cast<double>(part.tokens)) : Json()}};
  }

  int64_t far_, position_ = 0;
  UnknownText unknown_;
  int32_t before_ = -1;
  std::unordered_map<uint64_t, int64_t> last_;  // of each pair of tokens, where it last ended
  Foresight new_, near_, far_back_;
  std::vector<Foresight> stretches_;
};

void score(const ScoreArguments &arguments) {
  const Model model = arguments.open();
  const Session session = arguments.start(model.get());
  Foresight seen;
  Breakdown breakdown(arguments.far, arguments.unknown_text());
  double seconds = 0;
  {
    Input input(arguments.file);
    Progress progress("scoring", input.size(), Progress::BYTES);
    input.read(false, false, [&](std::string_view piece) {
      const Stopwatch watch;
      progress.next_part(static_cast<int64_t>(piece.size()));
      if (arguments.far) breakdown.add(model.get(), session.get(), piece, progress);
      else seen.add(session.get(), piece, progress);
      seconds += watch.seconds();
      progress.add_done(static_cast<int64_t>(piece.size()));
      return true;
    });
  }
  if (arguments.far) seen = breakdown.all();
  const int64_t unknown =
      arguments.far ? breakdown.unknown_bytes() : session_info(session.get())["unknown_bytes"].get<int64_t>();
  tell_of_unknown_text(unknown);
  const double mean = seen.mean(arguments.file), rate = static_cast<double>(seen.tokens) / seconds;
  if (arguments.json) {
    Json scored = {{"tokens", seen.tokens},
                   {"nll_mean", mean},
                   {"perplexity", std::exp(mean)},
                   {"unknown_bytes", unknown},
                   {"tokens_per_second", rate},
                   {"resident_bytes", resident_bytes()},
                   {"session_bytes", session_info(session.get())["session_bytes"]}};
    if (arguments.far) scored.update({{"positions", breakdown.positions()}, {"pairs", breakdown.pairs()}});
    return print_json(scored);
  }
  print(format("tokens      %s\nnll_mean    %.6f nats\nperplexity  %.4f\nspeed       %s tokens/s\n",
               grouped(seen.tokens).c_str(), mean, std::exp(mean), grouped(std::llround(rate)).c_str()));
  if (!arguments.far) return;
  const auto row = [](const std::string &name, const Json &part) {
    print(format("%-24s %12s  %s\n", name.c_str(), grouped(part["tokens"].get<int64_t>()).c_str(),
                 decimals(part["nll_mean"], 4).c_str()));
  };
  print("\n                               tokens  nll_mean\n");
  for (const Json &stretch : breakdown.positions())
    row("from token " + grouped(stretch["from"].get<int64_t>()), stretch);
  const Json pairs = breakdown.pairs();
  row("had never before", pairs["new"]);
  row("had within " + grouped(arguments.far), pairs["near"]);
  row("had farther back", pairs["far"]);
}

}  // namespace

void add_score(CLI::App &app) {
  const auto arguments = std::make_shared<ScoreArguments>();
  CLI::App *command = app.add_subcommand("score", "Shows how well a model foresees a text: its perplexity");
  arguments->add(*command);
  command->add_option("--file", arguments->file, "the text, of any length; -: standard input")
      ->type_name("FILE")
      ->required();
  CLI::Option *const far =
      add_count(*command, "--far", arguments->far,
                "also by position, and for tokens that the text has had before, behind the same one, within so many "
                "tokens and farther back");
  arguments->flags.add(*command, {"special"}, "Text");
  far->excludes("--special");
  arguments->add_text_flags(*command);
  arguments->add_session_flags(*command);
  command->footer(
      "Counts every token but a first one with nothing before it. nll_mean is -ln p a token, in nats.\n"
      "Examples:\n"
      "  infini score model.gguf --file novel.txt\n"
      "  infini score model.gguf --file novel.txt --memory off --json    # what the memory is worth\n"
      "  infini score model.gguf --file novel.txt --far 512              # and where\n");
  command->callback([arguments] { score(*arguments); });
}

}  // namespace cli
