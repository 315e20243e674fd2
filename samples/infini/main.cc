// infini: Infini-attention language models on the command line, over the C interface alone.
#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>

#include "common.h"

int main(int argc, char **argv) {
  CLI::App app("Reads text of any length with an Infini-attention language model, in fixed memory, and writes on.",
               "infini");
  app.set_version_flag("--version", std::string("infini ") + infini_version());
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  infini info model.gguf\n"
      "  infini feed model.gguf --file novel.txt\n"
      "  infini generate model.gguf --file novel.txt --max-tokens 100\n"
      "  infini COMMAND --help\n");
  try {
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
    cli::add_bench(app);
    cli::add_footprint(app);
    cli::add_passkey(app);
    cli::add_train(app);
    cli::catch_interrupts();
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError &error) {
    return app.exit(error) == 0 ? 0 : 1;  // prints help, the version or what is wrong with the arguments
  } catch (const std::exception &error) {
    std::fprintf(stderr, "infini: %s\n", error.what());
    return 1;
  }
}
