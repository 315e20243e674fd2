// What tests of training on several ranks share: a small model, tasks for it, and how gradients are compared.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "format/gguf.h"
#include "temporary_folder.h"
#include "adapt/make_trainer.h"
#include "training.h"

namespace test {

// Two layers with the tokenizer of the tasks.
inline std::shared_ptr<const infini::Model> ranks_model(const std::string &update = "delta") {
  infini::CreateConfig c;
  c.layers = 2;
  c.width = 32;
  c.heads = 2;
  c.kv_heads = 1;
  c.hidden = 48;
  c.segment = 16;
  c.update = update;
  c.tokenizer = words_path;
  infini::Options options;
  options.set("compute", std::string("f32"));
  return infini::Model::create(c, options);
}

// What trainers read, and evaluate on.
inline std::string ranks_data(int seed) {
  return R"({"type": "recall", "density": [20, 40], "virtual_length": 20, "seed": )" + std::to_string(seed) + "}";
}

// Seven sequences of 128 tokens a step, in passes of up to two. Of a field that is given twice the last one counts.
inline std::unique_ptr<infini::RecallTrainer> ranks_trainer(const std::shared_ptr<const infini::Model> &model,
                                                            const std::string &more = "", int seed = 1) {
  infini::Options options;
  options.set("threads", int64_t{1});
  const std::string training =
      R"({"tokens": 896, "rows": 256, "segments": 8, "warmup": 0, "compute": "f32")" + more + "}";
  return infini::make_trainer(model, R"({"training": )" + training + R"(, "data": )" + ranks_data(seed) + "}", options);
}

struct RanksCase {
  const char *name, *more;
  double bound = 1e-5;  // of gradient_difference, and of weight_difference after a step
};
// What is summed differs with the part that is trained. Of 4 ranks, 3 have nothing to do in the last case. In bf16 a
// product's last bit, which depends on the rows that go through together, may round an activation the other way.
constexpr RanksCase kRanksCases[] = {
    {"all", ""},
    {"all in bf16, nothing kept", R"(, "compute": "bf16", "activations_mb": 0)", 1e-3},
    {"attention of a layer", R"(, "train": "attention", "layers": [1, 1])"},
    {"lora", R"(, "train": "lora", "optimizer": "adamw")"},
    {"supervised features", R"(, "train": "features", "supervision": 1)"},
    {"all, told where to look",
     R"(, "supervision": 0.5, "local_supervision": 0.5, "local_supervised": [[0, 0], [1, 1]])"},
    {"gates", R"(, "train": "gates")"},
    {"one sequence", R"(, "tokens": 128)"}};

// The largest |a - b| over the largest |b|.
inline double share_of_largest(std::span<const float> a, std::span<const float> b) {
  double largest = 0;
  for (const float value : b) largest = std::max(largest, std::abs(static_cast<double>(value)));
  const double difference = largest_difference(a, b);
  return difference > 0 ? difference / largest : 0;
}

// That of the worst stretch of gradients that is summed.
inline double gradient_difference(infini::Trainer &actual, infini::Trainer &expected) {
  const auto a = actual.trained_gradients(), b = expected.trained_gradients();
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    CHECK(largest_difference(b[i], std::vector<float>(b[i].size())) > 0);
    worst = std::max(worst, share_of_largest(a[i], b[i]));
  }
  return worst;
}

// That of the worst tensor of what the trainers write, and of the gates.
inline double weight_difference(const infini::Trainer &actual, const infini::Trainer &expected) {
  TemporaryFolder folder;
  const auto written = [&](const infini::Trainer &trainer) {
    trainer.write(folder.file("model.gguf"), infini::TensorType::F32);
    return infini::Gguf::open(folder.file("model.gguf"));
  };
  const infini::Gguf a = written(actual), b = written(expected);
  double worst = share_of_largest(actual.gates(), expected.gates());
  for (const infini::GgufTensor &tensor : b.tensors()) {
    const infini::GgufTensor *const other = a.find_tensor(tensor.name);
    REQUIRE(other);
    const auto values = [](const infini::GgufTensor &of) {
      std::vector<float> numbers(static_cast<size_t>(of.elements()));
      infini::unpack(of.type, of.data.data(), of.elements(), numbers.data());
      return numbers;
    };
    worst = std::max(worst, share_of_largest(values(*other), values(tensor)));
  }
  return worst;
}

// The trainer's checkpoint: weights, optimizer, place in the data.
inline std::string state_of(const infini::Trainer &trainer) {
  TemporaryFolder folder;
  trainer.save(folder.file("state"));
  return read_text(folder.file("state"));
}

}  // namespace test
