// infini keep: teaches a model what is worth keeping.
#include "common.h"
#include "filler.h"

namespace cli {
namespace {

struct KeepArguments : ModelArguments {
  std::vector<std::string> texts;
  std::string out;
  int64_t tokens = 140000;
  uint64_t seed = 1;
  TableFlags settings;
};

// Text of books, amid which facts of the families for training are told: about so many tokens, with a fact each 4 to 13
// sentences.
Json pieces(const KeepArguments &arguments, const infini_model *model) {
  std::vector<const Family *> chosen;
  for (const Family &family : families())
    if (!family.held_out && !family.statements.empty()) chosen.push_back(&family);
  Json all = Json::array();
  UnknownText unknown;
  const auto share = arguments.tokens / static_cast<int64_t>(arguments.texts.size());
  size_t told = 0;
  for (size_t i = 0; i < arguments.texts.size(); ++i) {
    Draw draw({arguments.seed, i});
    Filler filler(arguments.texts[i], draw);
    size_t until = 10 + draw.below(10);
    for (int64_t tokens = 0; tokens < share;) {
      const auto say = [&](const std::string &given, bool keep) {
        const std::string text = known_text(model, given, unknown);
        all.push_back({{"text", text}, {"keep", keep}});
        tokens += static_cast<int64_t>(tokens_of(model, text, false).size());
      };
      say(filler.next(), false);
      if (--until > 0) continue;
      for (const std::string &statement : draw_fact(*chosen[told++ % chosen.size()], false, draw).statements) {
        say(" " + statement, true);
        say(filler.next(), false);
      }
      until = 4 + draw.below(10);
      if (until % 5 == 0) filler.begin_anywhere(draw);
    }
  }
  tell_of_unknown_text(unknown.bytes);
  return all;
}

void keep(const KeepArguments &arguments) {
  check_writable("--out", arguments.out);
  const Model model = arguments.open();
  Json lesson = {{"pieces", pieces(arguments, model.get())}};
  arguments.settings.write(lesson);
  if (arguments.settings.given("bias"))
    for (Json &row : lesson["bias"])
      if (row.size() == 2) row.insert(row.begin() + 1, -1);  // all heads
  Progress progress("learning what to keep", 0);
  const Stopwatch watch;
  try {
    check(infini_model_fit_keep(model.get(), json_text(lesson, "what is read").c_str(), arguments.out.c_str(),
                                progress.task()));
  } catch (const Refused &error) { throw std::runtime_error(arguments.settings.of_flags(error.what(), "lesson_json")); }
  const double seconds = watch.seconds();
  if (arguments.json) print_json({{"out", arguments.out}, {"seconds", seconds}});
  else print(format("%s written in %.0f s\n", arguments.out.c_str(), seconds));
}

}  // namespace

void add_keep(CLI::App &app) {
  const auto arguments = std::make_shared<KeepArguments>();
  CLI::App *command = app.add_subcommand("keep", "Teaches a model what is worth keeping (option keep)");
  arguments->add(*command);
  command->add_option("--text", arguments->texts, "books in which facts are told")->type_name("FILE...")->required();
  command->add_option("--out", arguments->out, "the model with what was learned")->type_name("FILE")->required();
  command->add_option("--tokens", arguments->tokens, "how much is read in all")
      ->check(CLI::PositiveNumber)
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  for (const Json &field : json_of(infini_keep_settings_json)) {
    const std::string name = field["name"];
    if (name == "bias")
      arguments->settings.add(*command, field, "", ", of a layer: 18:3,23:3")
          ->default_str("")
          ->type_name("LAYER:NATS,...");
    else if (name != "pieces" && name != "threads") arguments->settings.add(*command, field);
  }
  command->add_option("--seed", arguments->seed, "of facts and places")->capture_default_str();
  arguments->add_session_flags(*command);
  command->footer(
      "Facts of the families for training (see recall) are told amid the texts; ridge regression finds a direction of "
      "the\n"
      "residual stream that tells them from prose. The model is opened with --keep, at least 1, and a --carry of a "
      "segment.\n"
      "Example:\n"
      "  infini keep model.gguf --keep 64 --segment 256 --carry 320 --text emma.txt dracula.txt --out keeps.gguf\n");
  command->callback([arguments] { keep(*arguments); });
}

}  // namespace cli
