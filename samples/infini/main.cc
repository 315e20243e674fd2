// infini: Infini-attention language models on the command line, over the C interface alone.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <limits>
#include <numeric>
#include <type_traits>

#include "common.h"

namespace {

// Letters to change, add or leave out.
size_t distance(const std::string &a, const std::string &b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t corner = row[0]++;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, corner + (a[i] != b[j])});
      corner = above;
    }
  }
  return row.back();
}

// The end of a sentence about a name that is not there: the name that was meant, if one is near.
std::string meant(const std::string &given, const std::vector<std::string> &names) {
  std::string best;
  size_t least = 1 + given.size() / 3;
  for (const std::string &name : names) {
    const size_t apart = name.starts_with(given) ? 0 : distance(given, name);
    if (apart <= least && (best.empty() || apart < least)) best = name, least = apart;
  }
  return best.empty() ? "." : "; is " + best + " meant?";
}

// A command that is not there, before the flags are looked at.
void check_command(CLI::App &app, const std::string &given) {
  std::vector<std::string> names;
  std::string all;
  for (const CLI::App *const command : app.get_subcommands({})) {
    names.push_back(command->get_name());
    all += (all.empty() ? "" : ", ") + names.back();
  }
  if (std::find(names.begin(), names.end(), given) == names.end())
    throw std::runtime_error("there is no command '" + given + "'" + meant(given, names) + " The commands are: " + all);
}

// What nobody expected, in words of ours.
std::string unexpected(const CLI::App &app) {
  for (const CLI::App *const command : app.get_subcommands()) {
    std::vector<std::string> flags;
    for (const CLI::Option *const option : command->get_options())
      for (const std::string &name : option->get_lnames()) flags.push_back("--" + name);
    for (const std::string &given : command->remaining())
      return command->get_name() + " does not take '" + given + "'" +
             (given.starts_with("-") ? meant(given.substr(0, given.find('=')), flags) : ".") + " See infini " +
             command->get_name() + " --help";
  }
  return "";
}

// What is wrong with a number; "": nothing.
template <class Number>
std::string wrong(const std::string &text) {
  Number number = 0;
  const char *const end = text.data() + text.size();
  const auto [stop, error] = cli::read_number(text.data() + text.starts_with('+'), end, number);
  if (error == std::errc() && stop == end) return "";
  if (std::is_floating_point_v<Number>) return "takes a number, not '" + text + "'";
  if (error == std::errc::result_out_of_range && stop == end)
    return "'" + text + "' is too large: no number is above " + std::to_string(std::numeric_limits<Number>::max());
  return "takes a whole number" + std::string(std::is_unsigned_v<Number> ? ", 0 or more" : "") + ", not '" + text + "'";
}

// A path that is empty is a variable that was not set; numbers are read here first, so that all are refused alike.
void check_values(CLI::App &app) {
  for (CLI::App *const command : app.get_subcommands({}))
    for (CLI::Option *const option : command->get_options()) {
      const std::string type = option->get_type_name();
      if (type.starts_with("FILE"))
        option->check([](const std::string &path) { return path.empty() ? "names no file: it is empty" : ""; });
      else if (type.starts_with("INT")) option->check(wrong<int64_t>);
      else if (type.starts_with("UINT")) option->check(wrong<uint64_t>);
      else if (type.starts_with("FLOAT") || type.starts_with("NUMBER")) option->check(wrong<double>);
    }
}

// What the library warns of; but for a memory that is missing, of which the commands speak that read long texts.
void warn(void *, int level, const char *message) {
  if (level == INFINI_LOG_WARNING && !std::strstr(message, "no trained memory"))
    std::fprintf(stderr, "infini: %s\n", message);
}

}  // namespace

int main(int argc, char **argv) {
  CLI::App app("Reads text of any length with an Infini-attention language model, in fixed memory, and writes on.",
               "infini");
  app.set_version_flag("--version", std::string("infini ") + infini_version());
  app.allow_windows_style_options(false);  // a path may begin with a slash
  app.require_subcommand(1);
  app.footer(
      "What a flag is without being given stands behind its =.\n"
      "Examples:\n"
      "  infini info model.gguf\n"
      "  infini feed model.gguf --file novel.txt\n"
      "  infini generate model.gguf --file novel.txt --max-tokens 100\n"
      "  infini COMMAND --help\n");
  try {
    cli::prepare_console();
    if (infini_abi_version() != INFINI_ABI_VERSION)
      throw std::runtime_error("this command was built for another version of libinfini");
    cli::add_info(app);
    cli::add_tokenize(app);
    cli::add_detokenize(app);
    cli::add_generate(app);
    cli::add_chat(app);
    cli::add_score(app);
    cli::add_logits(app);
    cli::add_feed(app);
    cli::add_snapshot(app);
#if INFINI_HAS_ONEDNN  // beside which it measures
    cli::add_bench(app);
#endif
    cli::add_footprint(app);
    cli::add_passkey(app);
    cli::add_recall(app);
    cli::add_keep(app);
    cli::add_train(app);
    cli::add_quantize(app);
    cli::add_options(app);
    check_values(app);
    cli::catch_interrupts();
    infini_log_set_callback(warn, nullptr);
    if (argc > 1 && argv[1][0] != '-') check_command(app, argv[1]);
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError &error) {
    // What was written wrong comes before what is missing, which it may have been meant to be.
    if (const std::string words = error.get_exit_code() == 0 ? "" : unexpected(app); !words.empty()) {
      std::fprintf(stderr, "infini: %s\n", words.c_str());
      return 1;
    }
    if (error.get_name() == "ConversionError") {  // of a number that check_values let through
      std::fprintf(stderr, "infini: a number is too large, or none: %s\n",
                   std::string(error.what()).substr(std::string(error.what()).find(": ") + 2).c_str());
      return 1;
    }
    return app.exit(error) == 0 ? 0 : 1;  // prints help, the version or what is wrong with the arguments
  } catch (const cli::Json::exception &) {
    std::fprintf(stderr, "infini: a file of JSON does not hold what belongs there\n");  // whose form nobody checked
    return 1;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "infini: %s\n", error.what());
    return 1;
  }
}
