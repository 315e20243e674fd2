// A training on as many ranks as mpirun starts, over the C interface, which goes on from the checkpoint in its folder.
//
//   train FOLDER STEPS [TROUBLE RANK STEP]
//
// The first rank saves FOLDER/checkpoint after every step, and writes FOLDER/model.gguf at the end; each rank saves its
// own state as FOLDER/state.RANK. TROUBLE befalls one rank in one step: "killed" or "fails", when gradients are summed,
// "throws" or "cancelled", before.
#include "handles.h"
#include "ranks.h"

#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>

namespace {

struct Trouble {
  std::string what;
  int rank = -1, step = -1;
  int sums = 0;  // in this step
  bool due = false;
};

int sum(void *user_data, float *values, size_t n_values) {
  auto &trouble = *static_cast<Trouble *>(user_data);
  if (++trouble.sums == 2 && trouble.due) {
    if (trouble.what == "killed") std::raise(SIGKILL);
    if (trouble.what == "fails") return 5;
  }
  return cli::Ranks::sum(nullptr, values, n_values);
}

cli::Trainer make_trainer() {
  const cli::Options options = cli::make<cli::Options>(infini_options_create);
  cli::check(infini_options_set_int(options.get(), "threads", 1));
  cli::check(infini_options_set_string(options.get(), "compute", "f32"));
  const char *const shape =
      R"({"layers": 2, "width": 32, "heads": 2, "kv_heads": 1, "hidden": 48, "segment": 16, "seed": 1,
                                "tokenizer": ")" INFINI_SOURCE_DIR R"(/samples/models/words2048.gguf"})";
  const auto model = cli::make<cli::Model>(infini_model_create, shape, options.get(), nullptr);
  const char *const description = R"({"training": {"tokens": 1024, "segments": 8, "warmup": 0},
                                      "data": {"type": "recall", "density": [20, 40]}})";
  return cli::make<cli::Trainer>(infini_trainer_create, model.get(), description, options.get(), nullptr);
}

void train(const cli::Ranks &ranks, const std::string &folder, int64_t steps, Trouble trouble) {
  const cli::Trainer trainer = make_trainer();
  const std::string checkpoint = folder + "/checkpoint";
  if (ranks.from_first(std::filesystem::exists(checkpoint)))
    cli::check(infini_trainer_restore(trainer.get(), checkpoint.c_str(), nullptr));
  cli::check(infini_trainer_set_ranks(trainer.get(), ranks.rank(), ranks.count(), sum, &trouble));
  const cli::Task task = cli::make<cli::Task>(infini_task_create);
  const auto steps_done = [&] {
    const std::string info = cli::all_of(infini_trainer_info_json, trainer.get());
    return std::strtoll(info.c_str() + std::strlen("{\"steps\":"), nullptr, 10);
  };
  try {
    for (int64_t step = steps_done(); step < steps; ++step) {
      trouble.due = trouble.rank == ranks.rank() && trouble.step == step;
      trouble.sums = 0;
      if (trouble.due && trouble.what == "throws") throw std::runtime_error("trouble in step " + std::to_string(step));
      if (trouble.due && trouble.what == "cancelled") cli::check(infini_task_cancel(task.get()));
      cli::check(infini_trainer_step(trainer.get(), task.get()));
      if (ranks.first()) cli::check(infini_trainer_save(trainer.get(), checkpoint.c_str(), nullptr));
    }
  } catch (const cli::Cancelled &) { std::printf("rank %d: %s\n", ranks.rank(), infini_last_error()); }
  const std::string evaluation = cli::all_of(infini_trainer_evaluate_json, trainer.get(),
                                             R"({"type": "recall", "density": [20, 40], "seed": 7})", 6, 0, nullptr);
  cli::check(infini_trainer_save(trainer.get(), (folder + "/state." + std::to_string(ranks.rank())).c_str(), nullptr));
  if (!ranks.first()) return;
  cli::check(infini_trainer_write(trainer.get(), (folder + "/model.gguf").c_str(), "f32", nullptr));
  std::printf("%s\n", cli::all_of(infini_trainer_report_json, trainer.get()).c_str());
  std::printf("%s\n", evaluation.c_str());
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 3 && argc != 6) return 2;
  Trouble trouble;
  if (argc == 6) trouble = {argv[3], std::atoi(argv[4]), std::atoi(argv[5])};
  try {
    cli::on_ranks([&](const cli::Ranks &ranks) { train(ranks, argv[1], std::atoll(argv[2]), trouble); });
    return 0;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "train: %s\n", error.what());
    return 1;
  }
}
