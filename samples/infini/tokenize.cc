// infini tokenize, infini detokenize: text to tokens and back.
#include "common.h"
#include "input.h"

namespace cli {
namespace {

struct TokenizeArguments : ModelArguments {
  std::string text, file;
  CLI::Option *text_flag = nullptr;
  bool special = false;
};

struct DetokenizeArguments : ModelArguments {
  std::vector<int32_t> ids;
  bool special = false;
};

void tokenize(const TokenizeArguments &arguments) {
  if (!arguments.text_flag->count() && arguments.file.empty()) throw std::runtime_error("give --text or --file");
  const Model model = arguments.open();
  std::vector<int32_t> ids;
  bool start = true;
  UnknownText unknown = arguments.unknown_text();
  const auto take = [&](std::string_view piece) {
    const auto more = tokens_of(model.get(), piece, start, unknown, arguments.special);
    ids.insert(ids.end(), more.begin(), more.end());
    start = false;
    return true;
  };
  if (arguments.text_flag->count()) take(arguments.text);
  else Input(arguments.file).read(false, false, take);
  tell_of_unknown_text(unknown.bytes);

  if (arguments.json) return print_json({{"ids", ids}, {"tokens", ids.size()}});
  std::string line;
  for (const int32_t id : ids) line += (line.empty() ? "" : " ") + std::to_string(id);
  print(line + "\n");
}

void detokenize(const DetokenizeArguments &arguments) {
  const Model model = arguments.open();
  const std::string text = all_of(infini_model_detokenize, model.get(), arguments.ids.data(), arguments.ids.size(),
                                  INFINI_TOKENS_START | (arguments.special ? INFINI_TOKENS_SPECIAL : 0));
  if (arguments.json) return print_json({{"text", text}, {"tokens", arguments.ids.size()}});
  print(text + "\n");
}

}  // namespace

void add_tokenize(CLI::App &app) {
  const auto arguments = std::make_shared<TokenizeArguments>();
  CLI::App *command = app.add_subcommand("tokenize", "Shows the tokens of a text");
  arguments->add(*command);
  arguments->text_flag = command->add_option("--text", arguments->text, "the text");
  command->add_option("--file", arguments->file, "a file that holds it; -: standard input")
      ->type_name("FILE")
      ->excludes(arguments->text_flag);
  command->add_flag("--special", arguments->special, "parse control tokens that the text writes out");
  arguments->add_text_flags(*command);
  command->footer(
      "Examples:\n"
      "  infini tokenize model.gguf --text 'Once upon a time'\n"
      "  infini tokenize model.gguf --file novel.txt --json\n");
  command->callback([arguments] { tokenize(*arguments); });
}

void add_detokenize(CLI::App &app) {
  const auto arguments = std::make_shared<DetokenizeArguments>();
  CLI::App *command = app.add_subcommand("detokenize", "Shows the text of tokens");
  arguments->add(*command);
  command->add_option("ID", arguments->ids, "numbers of tokens")->required();
  command->add_flag("--special", arguments->special, "show control tokens by their names");
  command->footer(
      "Examples:\n"
      "  infini detokenize model.gguf 403 407 261 378\n"
      "  infini detokenize model.gguf $(infini tokenize model.gguf --text 'There and back')\n");
  command->callback([arguments] { detokenize(*arguments); });
}

}  // namespace cli
