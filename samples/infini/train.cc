// infini train: teaches a model to use its memory, and adapts a plain one to it.
#include "adapt.h"
#include "train_run.h"

namespace cli {
namespace {

struct TrainArguments : ModelArguments {
  PlanFlags plan;
  TrainFiles files;
  AdaptFlags adapt;
};

// Returns what an interrupt left to say, or "".
std::string train(const TrainArguments &arguments, const Ranks &ranks) {
  if (arguments.model.empty() && !arguments.plan.creates())
    throw std::runtime_error("give a MODEL, or --create CONFIG.json");
  if (ranks.first()) arguments.files.check_early(arguments.model);
  const TrainPlan plan = arguments.plan.plan();
  if (!arguments.files.adapter.empty() && plan.description["training"].value("train", Json()) != "lora")
    throw std::runtime_error("--adapter: only --train lora has adapters");
  Model model = plan.create.empty()
                    ? arguments.open()
                    : make<Model>(infini_model_create, plan.create.c_str(), arguments.flags.model_options().get(),
                                  Progress("creating the model").task());
  return TrainRun(plan, arguments.files, arguments.json, ranks)
      .run(std::move(model), arguments.flags.trainer_options());
}

}  // namespace

void add_train(CLI::App &app) {
  const auto arguments = std::make_shared<TrainArguments>();
  CLI::App *command = app.add_subcommand("train", "Trains a model through its memory");
  arguments->add(*command);
  command->get_option("MODEL")->required(false);
  arguments->plan.add(*command);
  arguments->files.add(*command);
  arguments->flags.add(*command, {"threads", "compute", "gemm"}, "How it is computed");
  arguments->flags.add(*command, {"memory", "update"}, "The memory");
  arguments->adapt.add(*command, *arguments);  // last: it shares flags of the others
  command->footer(R"(A plain model has no gates: --memory open gives it some that can be trained, each at one half.
What was not trained keeps its bytes in the file that is written. --steps below those of the
description try a beginning out.
Ctrl-C ends the step at hand, saves the checkpoint, writes the model, and says how to go on. The same command
goes on from its --checkpoint as if it had never stopped, bit for bit on the same number of threads, and
continues its --log. Fields of a description: infini options --training; paths in a file are relative to its folder.
Started by mpirun, several processes share each step and come to the same model; the first one shows and writes.

--adapt takes --text, --held-out, --out, --train (attention, gates, lora or all), --type (else f16), --steps (of
its last part; else 250), --segment (else 128, or a quarter of the context), --carry (else three segments), --sinks
(else 4), --segments (else 12), --muon-rate, --gate-rate, --seed and --log. It always keeps what it goes on from,
every --checkpoint-every steps (else 25), in files whose names begin with --checkpoint (else OUT.adapt).

  --create       {"layers": 4, "width": 256, "segment": 64, "tokenizer": "../models/words2048.gguf", ...}
  --description  {"training": {"steps": 1650, ...}, "curriculum": {...}, "data": {"type": "recall", ...}}
  --evaluate     {"books": {"data": {"type": "text", "files": [...]}, "segments": [2, 16], "sequences": 16}, ...}, which
                 may stand in the description as "evaluation" too

Examples:
  infini train model.gguf --text novel.txt --steps 500 --out trained.gguf
  infini train plain.gguf --memory open --train gates --text novel.txt --held-out other.txt --steps 50 --out gated.gguf
  infini train model.gguf --recall --prose novel.txt --train lora --steps 1000 --out out.gguf \
      --checkpoint out.state --log out.jsonl
  infini train plain.gguf --adapt --text novel.txt --held-out other.txt --out adapted.gguf
  infini train --create model.json --description recall.json --out model.gguf --checkpoint model.state --log model.jsonl
  mpirun -n 4 infini train model.gguf --text novel.txt --segment 128 --segments 8 --steps 500 --out trained.gguf \
      --checkpoint state --threads 1
)");
  const CLI::Option *const every = command->get_option("--checkpoint-every");
  command->callback([arguments, every] {
    if (arguments->adapt.wanted())
      return on_ranks([&](const Ranks &ranks) {
        if (ranks.count() > 1) throw std::runtime_error("--adapt runs in one process; start it without mpirun");
        arguments->adapt.run();
      });
    if (every->count() > 0 && arguments->files.checkpoint.empty())
      throw std::runtime_error("--checkpoint-every: name the file, --checkpoint");
    std::string stopped;
    on_ranks([&](const Ranks &ranks) { stopped = train(*arguments, ranks); });
    if (!stopped.empty()) throw std::runtime_error(stopped);
  });
}

}  // namespace cli
