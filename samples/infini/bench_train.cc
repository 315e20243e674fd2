#include "bench.h"

namespace cli {
namespace {

// The products of a training step on `rows` rows, each with oneDNN's own layout of the second matrix: of a weight
// forward, back to its input, and of input and output to the weight's gradient.
std::vector<ProductShape> step_products(const Shape &shape, int64_t rows, double predicted) {
  std::vector<ProductShape> products;
  const auto add = [&](const ProductShape &p) {
    products.insert(products.end(), {p, {1, p.rows, p.columns, p.inner}, {1, p.columns, p.rows, p.inner}});
  };
  for (int64_t l = 0; l < shape.layers; ++l)
    for (const ProductShape &projection : shape.projections(rows)) add(projection);
  const auto count = static_cast<int64_t>(static_cast<double>(rows) * predicted);
  add({1, std::max<int64_t>(16, count), shape.width, shape.vocabulary});
  return products;
}

// Steps of the trainer, and in turn with them the products of a step.
Json measure(const BenchArguments &arguments, infini_trainer *trainer, const Shape &shape) {
  const TrainBench &bench = arguments.training;
  const Json state = json_of(infini_trainer_info_json, trainer);
  // As many rows as the trainer takes together; a row costs no less where there are more than 4,096.
  const int64_t length = shape.segment * bench.segments;
  const int64_t rows =
      std::min<int64_t>(4096, std::max(length, std::min<int64_t>(1024, bench.tokens) / length * length));
  const std::vector<ProductShape> shapes = step_products(shape, rows, bench.share);
  const Products products(shapes, state["compute"] == "bf16", 1);
  double operations = 0;
  for (const ProductShape &s : shapes)
    operations += 2.0 * static_cast<double>(s.rows) * static_cast<double>(s.inner) * static_cast<double>(s.columns);
  operations /= static_cast<double>(rows);  // a token

  Runs speeds, seconds;
  Progress progress("training");
  check(infini_trainer_step(trainer, progress.task()));  // the first step finds its memory
  for (int64_t run = 0; run < arguments.runs; ++run) {
    check(infini_trainer_step(trainer, progress.task()));
    const Json report = json_of(infini_trainer_report_json, trainer);
    if (!report["loss"].is_number() || !report["gradient_norm"].is_number())
      throw std::runtime_error("the loss or its gradients are not finite");
    speeds.values.push_back(report["tokens_per_second"]);
    for (int i = 0; i < 3; ++i) products.run(seconds.values);
  }
  progress.clear();
  const double per_row = 1 / static_cast<double>(rows);
  return {{"compute", state["compute"]},
          {"train_tokens_per_second", speeds.greatest()},
          {"train_operations_per_second", speeds.greatest() * operations},
          {"train_ceiling_ratio", speeds.greatest() * seconds.least() * per_row},
          {"train_tokens_per_second_median", speeds.median()},
          {"train_ceiling_ratio_median", speeds.median() * seconds.median() * per_row},
          {"operations_per_token", operations},
          {"ceiling_operations_per_second", operations / (seconds.least() * per_row)},
          {"bytes", state["bytes"]}};
}

void print_row(const Json &row) {
  const auto value = [&](const char *key) { return row[key].get<double>(); };
  print(format("%-7s %11s %8s %9s %6s %6s %13s\n", "compute", "train tok/s", "median", "GFLOP/s", "ratio", "median",
               "ceiling GFL/s"));
  print(format("%-7s %11.0f %8.0f %9.1f %6.2f %6.2f %13.1f\n", row["compute"].get<std::string>().c_str(),
               value("train_tokens_per_second"), value("train_tokens_per_second_median"),
               value("train_operations_per_second") / 1e9, value("train_ceiling_ratio"),
               value("train_ceiling_ratio_median"), value("ceiling_operations_per_second") / 1e9));
}

}  // namespace

void bench_train(const BenchArguments &arguments, const Options &of_model, const Options &of_trainer) {
  constexpr const char *kSmall = R"({"layers": 4, "width": 256, "heads": 4, "hidden": 704, "vocabulary": 2048,
                                     "segment": 64, "update": "linear"})";
  const Model model = arguments.model.empty() ? make<Model>(infini_model_create, kSmall, of_model.get(), nullptr)
                                              : open_model(arguments.model, of_model);
  const TrainBench &bench = arguments.training;
  const Json description = {{"training",
                             {{"tokens", bench.tokens},
                              {"segments", bench.segments},
                              {"optimizer", bench.optimizer},
                              {"gates", {{-1, -1, 0}}}}},
                            {"data", {{"type", "random"}, {"share", bench.share}}}};
  const Trainer trainer = make<Trainer>(infini_trainer_create, model.get(), json_text(description, "a path").c_str(),
                                        of_trainer.get(), nullptr);
  const Shape shape(model_info(model.get()));
  const Json row = measure(arguments, trainer.get(), shape);
  if (!arguments.json) return print_row(row);
  print_json({{"results", Json::array({row})},
              {"threads", arguments.threads},
              {"optimizer", bench.optimizer},
              {"tokens", bench.tokens},
              {"segment", shape.segment},
              {"segments", bench.segments},
              {"share", bench.share}});
}

}  // namespace cli
