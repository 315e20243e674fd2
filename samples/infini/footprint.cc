// infini footprint: what each method holds for the past.
#include "common.h"

namespace cli {
namespace {

struct FootprintArguments : ModelArguments {
  bool paper = false;
};

constexpr int64_t kPaperTokens = 65000;  // what the paper's Memorizing Transformer keeps

const char *title(const std::string &method) {
  return method == "kv_cache"                 ? "KV cache"
         : method == "transformer_xl"         ? "Transformer-XL"
         : method == "memorizing_transformer" ? "Memorizing Transformer"
         : method == "rmt"                    ? "RMT"
                                              : "Infini-attention";
}

const Json &find(const Json &methods, const std::string &name) {
  for (const Json &entry : methods)
    if (entry["method"] == name) return entry;
  throw std::runtime_error("the library counts no method " + name);
}

void print_paper(bool json) {
  Json counted = json_of(infini_paper_footprint_json, kPaperTokens);
  const Json &methods = counted["methods"];
  const double ratio = find(methods, "memorizing_transformer")["values"].get<double>() /
                       find(methods, "infini_attention")["values"].get<double>();
  if (json) return print_json({{"results", Json::array({counted})}, {"ratio", ratio}});
  print("Values held for the past in the paper's set-up: 12 layers, 8 heads of 128, segments of 2,048.\n");
  for (const Json &entry : methods) {
    if (entry["method"] == "kv_cache") continue;  // not in the paper's table
    print(format("  %-24s %13s\n", title(entry["method"]), grouped(entry["values"]).c_str()));
  }
  print(format("Infini-attention holds %.1fx fewer than Memorizing Transformers (the paper rounds to 114x).\n", ratio));
}

void footprint(const FootprintArguments &arguments) {
  if (arguments.paper) return print_paper(arguments.json);
  if (arguments.model.empty()) throw std::runtime_error("give a MODEL, or --paper");
  const Model model = arguments.open();
  Json results = Json::array();
  for (int64_t tokens = 1000; tokens <= 10'000'000; tokens *= 10)
    results.push_back(json_of(infini_model_footprint_json, model.get(), tokens));
  if (arguments.json) return print_json({{"results", results}});
  std::string line = format("%-24s", "tokens");
  for (const Json &counted : results) line += format(" %12s", grouped(counted["tokens"]).c_str());
  print(line + "\n");
  for (const Json &entry : results[0]["methods"]) {
    line = format("%-24s", title(entry["method"]));
    for (const Json &counted : results)
      line += format(" %12s", size_text(find(counted["methods"], entry["method"])["bytes"]).c_str());
    print(line + "\n");
  }
  line = format("%-24s", "A session, in all");
  for (const Json &counted : results) line += format(" %12s", size_text(counted["session_bytes"]).c_str());
  print(line + "\n");
}

}  // namespace

void add_footprint(CLI::App &app) {
  const auto arguments = std::make_shared<FootprintArguments>();
  CLI::App *command =
      app.add_subcommand("footprint", "Shows what each method holds for the past of 1,000 to 10,000,000 tokens");
  arguments->add(*command);
  command->get_option("MODEL")->required(false);
  command->add_flag("--paper", arguments->paper, "the paper's set-up instead of a model's");
  arguments->add_session_flags(*command);
  command->footer(
      "A KV cache grows with the text; the others do not (Memorizing Transformers: after 65,000 tokens). The last row\n"
      "is what a session of the library takes: the memory, its window and the buffers of its work.\n"
      "Examples:\n"
      "  infini footprint model.gguf\n"
      "  infini footprint --paper --json\n");
  command->callback([arguments] { footprint(*arguments); });
}

}  // namespace cli
