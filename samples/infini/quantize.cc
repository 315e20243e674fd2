// infini quantize: a model at fewer bits; and what each type takes, foresees and does a second.
#include <filesystem>
#include <unistd.h>

#include "common.h"
#include "input.h"

namespace cli {
namespace {

struct QuantizeArguments {
  std::string from, to, type, text, types = "f32,bf16,q8_0,q6_k,q5_k,q4_k,q4_1,q4_0";
  bool table = false, json = false;
  int64_t generated = 64, read = 2048;
  OptionFlags flags;
};

int64_t file_size(const std::string &path) { return static_cast<int64_t>(std::filesystem::file_size(path)); }

Json written(const QuantizeArguments &arguments, const std::string &to, const std::string &type) {
  const Options options = arguments.flags.model_options();
  Progress progress(type, file_size(arguments.from), Progress::BYTES);
  const Stopwatch watch;
  check(infini_model_quantize(arguments.from.c_str(), to.c_str(), type.c_str(), options.get(), progress.task()));
  const double seconds = watch.seconds();
  progress.clear();
  // Opened again: it is whole, and says what its matrices have become.
  const Model model = make<Model>(infini_model_open, to.c_str(), options.get(), progress.task());
  return {{"out", to},
          {"type", type},
          {"bytes_before", file_size(arguments.from)},
          {"bytes", file_size(to)},
          {"tensor_types", model_info(model.get())["tensor_types"]},
          {"seconds", seconds}};
}

// One line of the table: the model's file in a type, and what it foresees and does.
Json measured(const QuantizeArguments &arguments, const std::string &path, const std::string &type,
              const std::string &text) {
  const Options options = arguments.flags.model_options(), of_session = arguments.flags.session_options();
  Progress progress(type);
  const Model model = make<Model>(infini_model_open, path.c_str(), options.get(), progress.task());
  const Json info = model_info(model.get());
  Foresight seen;
  {
    const Session session = make<Session>(infini_session_create, model.get(), of_session.get());
    seen.add(session.get(), text, progress);
  }
  const double mean = seen.mean(arguments.text);
  check(infini_options_set_int(of_session.get(), "ignore_end", 1));
  check(infini_options_set_int(of_session.get(), "max_tokens", INT32_MAX));
  const Session session = make<Session>(infini_session_create, model.get(), of_session.get());
  feed_random(session.get(), 256, info["vocabulary"], progress);  // makes its buffers
  Stopwatch watch;
  feed_random(session.get(), arguments.read, info["vocabulary"], progress);
  const double reads = static_cast<double>(arguments.read) / watch.seconds();
  check(infini_session_next(session.get(), nullptr, nullptr));
  watch = Stopwatch();
  for (int64_t i = 0; i < arguments.generated; ++i) check(infini_session_next(session.get(), nullptr, nullptr));
  const double writes = static_cast<double>(arguments.generated) / watch.seconds();
  progress.clear();
  return {{"type", type},
          {"compute", info["compute"]},
          {"bytes", file_size(path)},
          {"weight_bytes", info["weight_bytes"]},
          {"tokens", seen.tokens},
          {"nll_mean", mean},
          {"feed_tokens_per_second", reads},
          {"generate_tokens_per_second", writes}};
}

void table(const QuantizeArguments &arguments) {
  if (arguments.text.empty()) throw CLI::RequiredError("--table needs --text, what the types are compared on");
  std::string text;
  Input(arguments.text).read(false, false, [&](std::string_view piece) {
    text += piece;
    return true;
  });
  const std::string beside =
      arguments.to.empty()
          ? (std::filesystem::temp_directory_path() / ("infini-quantize-" + std::to_string(getpid()) + ".gguf"))
                .string()
          : arguments.to;
  struct Remove {
    const std::string &path;
    ~Remove() {
      std::error_code ignored;
      std::filesystem::remove(path, ignored);
    }
  } const removes{beside};
  Json rows = Json::array();
  if (!arguments.json)
    print(format("%-8s %10s %10s %8s %10s %12s %12s\n", "type", "file", "weights", "compute", "nll", "feed tok/s",
                 "gener. tok/s"));
  std::istringstream types(arguments.types);
  for (std::string type; std::getline(types, type, ',');) {
    const bool as_it_is = type == "file";
    if (!as_it_is) written(arguments, beside, type);
    const Json row = measured(arguments, as_it_is ? arguments.from : beside, type, text);
    if (arguments.json) rows.push_back(row);
    else
      print(format("%-8s %10s %10s %8s %10.4f %12.0f %12.1f\n", type.c_str(), size_text(row["bytes"]).c_str(),
                   size_text(row["weight_bytes"]).c_str(), row["compute"].get<std::string>().c_str(),
                   row["nll_mean"].get<double>(), row["feed_tokens_per_second"].get<double>(),
                   row["generate_tokens_per_second"].get<double>()));
    if (interrupted()) throw Cancelled();
  }
  if (arguments.json) print_json({{"results", rows}});
}

void quantize(const QuantizeArguments &arguments) {
  if (arguments.table) return table(arguments);
  if (arguments.to.empty() || arguments.type.empty())
    throw CLI::RequiredError("OUT and --type, or --table with --text");
  check_writable("OUT", arguments.to);
  const Json done = written(arguments, arguments.to, arguments.type);
  if (arguments.json) return print_json(done);
  print(format("%s: %s, was %s\n", arguments.to.c_str(), size_text(done["bytes"]).c_str(),
               size_text(done["bytes_before"]).c_str()));
  for (const auto &[type, count] : done["tensor_types"].items())
    print(format("%6s tensors in %s\n", grouped(count).c_str(), type.c_str()));
}

}  // namespace

void add_quantize(CLI::App &app) {
  const auto arguments = std::make_shared<QuantizeArguments>();
  CLI::App *command = app.add_subcommand("quantize", "Writes a model at fewer bits; compares types");
  command->add_option("IN", arguments->from, "a GGUF file")->type_name("FILE")->required();
  command->add_option("OUT", arguments->to, "the model at fewer bits; may be IN")->type_name("FILE");
  command->add_option("--type", arguments->type, "of its matrices");
  command->add_flag("--table", arguments->table, "compares types instead: file, nll of a text, speed");
  command->add_option("--text", arguments->text, "what --table scores: a book that no model was trained on, say")
      ->type_name("FILE");
  command->add_option("--types", arguments->types, "of --table; file: IN as it is")->capture_default_str();
  add_count(*command, "--generate", arguments->generated, "tokens that --table generates");
  add_count(*command, "--read", arguments->read, "random tokens that --table reads, for their speed");
  command->add_flag("--json", arguments->json, "print JSON and nothing else");
  arguments->flags.add(*command, {"threads", "compute", "chunk"}, "How it is computed");
  arguments->flags.add(*command, {"unknown_text"}, "Text");
  arguments->flags.set_default("unknown_text", "skip");
  arguments->flags.add(*command, {"memory", "update", "segment", "carry", "sinks", "keep"}, "The memory, in --table");
  command->footer(R"(Bits a weight, and what to take:
  q8_0  8.5  as good as the floats, at half of bf16
  q6_k  6.6, q5_k 5.5, q5_1 6.0, q5_0 5.5  hardly worse
  q4_k  4.5, q4_1 5.0, q4_0 4.5, iq4_nl 4.5, iq4_xs 4.3  the usual choice for large models
  q3_k  3.4, q2_k 2.6  for what does not fit otherwise
  bf16, f16, f32  floats
Norms and biases stay as they are. Types ending in _k, and iq4_xs, have blocks of 256: where those do not divide a
matrix's rows, it gets the nearest type of blocks of 32. The matrix that makes the logits has six bits at least.
What was written is opened again, and its types are listed. Start from floats: what few bits have lost does not
come back.
--table writes IN in each type to OUT, or a temporary file, which it removes.
Examples:
  infini quantize model-bf16.gguf model-q4_k.gguf --type q4_k
  infini quantize model-bf16.gguf --table --text held_out.txt
  infini quantize model-bf16.gguf --table --text held_out.txt --types file,q8_0,q4_0 --json
)");
  command->callback([arguments] { quantize(*arguments); });
}

}  // namespace cli
