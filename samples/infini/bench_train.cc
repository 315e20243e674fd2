#include "bench_train.h"

#include "ceiling.h"
#include "runs.h"

namespace cli {
namespace {

// The products of a training step on `rows` rows, each with oneDNN's own layout of the second matrix: of a weight
// [in, out] forward, back to its input, and of input and output to the weight's gradient.
std::vector<ProductShape> step_products(const Json &info, int64_t rows, double predicted) {
  const auto number = [&](const char *name) { return info[name].get<int64_t>(); };
  const int64_t width = number("width"), heads = number("heads"), kv = number("kv_heads"), key = number("key_size"),
                value = number("value_size");
  std::vector<ProductShape> shapes;
  const auto weight = [&](int64_t count, int64_t in, int64_t out) {
    shapes.push_back({1, count, in, out});
    shapes.push_back({1, count, out, in});
    shapes.push_back({1, out, count, in});
  };
  for (int64_t l = 0; l < number("layers"); ++l) {
    weight(rows, width, heads * key + kv * (key + value));
    weight(rows, heads * value, width);
    weight(rows, width, 2 * number("hidden"));
    weight(rows, number("hidden"), width);
  }
  weight(std::max<int64_t>(16, static_cast<int64_t>(static_cast<double>(rows) * predicted)), width,
         number("vocabulary"));
  return shapes;
}

}  // namespace

void bench_train(const TrainBench &bench, const Options &of_model, const Options &of_trainer) {
  constexpr const char *kSmall = R"({"layers": 4, "width": 256, "heads": 4, "hidden": 704, "vocabulary": 2048,
                                     "segment": 64, "update": "linear"})";
  const Model model = bench.model.empty() ? make<Model>(infini_model_create, kSmall, of_model.get(), nullptr)
                                          : open_model(bench.model, of_model);
  const Json info = model_info(model.get());
  const Json description = {{"training",
                             {{"tokens", bench.tokens},
                              {"segments", bench.segments},
                              {"optimizer", bench.optimizer},
                              {"gates", {{-1, -1, 0}}}}},
                            {"data", {{"type", "random"}, {"share", bench.share}}}};
  const Trainer trainer = make<Trainer>(infini_trainer_create, model.get(), json_text(description, "a path").c_str(),
                                        of_trainer.get(), nullptr);
  const Json state = json_of(infini_trainer_info_json, trainer.get());
  const bool bf16 = state["compute"] == "bf16";

  // As many rows as the trainer takes together; a row costs no less where there are more than 4,096.
  const int64_t length = info["segment"].get<int64_t>() * bench.segments;
  const int64_t rows =
      std::min<int64_t>(4096, std::max(length, std::min<int64_t>(1024, bench.tokens) / length * length));
  const std::vector<ProductShape> shapes = step_products(info, rows, bench.share);
  set_product_threads(bench.threads);
  const Products products(shapes, bf16, 1);
  double operations = 0;
  for (const ProductShape &s : shapes)
    operations += 2.0 * static_cast<double>(s.rows) * static_cast<double>(s.inner) * static_cast<double>(s.columns);
  operations /= static_cast<double>(rows);  // a token

  Runs speeds, seconds;
  Progress progress("training");
  check(infini_trainer_step(trainer.get(), progress.task()));  // the first step finds its memory
  for (int64_t run = 0; run < bench.runs; ++run) {
    check(infini_trainer_step(trainer.get(), progress.task()));
    const Json report = json_of(infini_trainer_report_json, trainer.get());
    if (!report["loss"].is_number() || !report["gradient_norm"].is_number())
      throw std::runtime_error("the loss or its gradients are not finite");
    speeds.values.push_back(report["tokens_per_second"]);
    for (int i = 0; i < 3; ++i) products.run(seconds.values);
  }
  progress.clear();
  const double per_row = 1 / static_cast<double>(rows);
  const Json row = {{"compute", state["compute"]},
                    {"train_tokens_per_second", speeds.greatest()},
                    {"train_operations_per_second", speeds.greatest() * operations},
                    {"train_ceiling_ratio", speeds.greatest() * seconds.least() * per_row},
                    {"train_tokens_per_second_median", speeds.median()},
                    {"train_ceiling_ratio_median", speeds.median() * seconds.median() * per_row},
                    {"operations_per_token", operations},
                    {"ceiling_operations_per_second", operations / (seconds.least() * per_row)},
                    {"bytes", state["bytes"]}};
  if (bench.json) {
    print_json({{"results", Json::array({row})},
                {"threads", bench.threads},
                {"optimizer", bench.optimizer},
                {"tokens", bench.tokens},
                {"segment", info["segment"]},
                {"segments", bench.segments},
                {"share", bench.share}});
    return;
  }
  const auto value = [&](const char *key) { return row[key].get<double>(); };
  print(format("%-7s %11s %8s %9s %6s %6s %13s\n", "compute", "train tok/s", "median", "GFLOP/s", "ratio", "median",
               "ceiling GFL/s"));
  print(format("%-7s %11.0f %8.0f %9.1f %6.2f %6.2f %13.1f\n", row["compute"].get<std::string>().c_str(),
               value("train_tokens_per_second"), value("train_tokens_per_second_median"),
               value("train_operations_per_second") / 1e9, value("train_ceiling_ratio"),
               value("train_ceiling_ratio_median"), value("ceiling_operations_per_second") / 1e9));
}

}  // namespace cli
