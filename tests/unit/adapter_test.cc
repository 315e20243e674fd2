// LoRA adapters of files, at run time: W + weight * alpha / rank * B A, beside a model whose matrices hold that sum.
#include "support.h"

#include <cstring>
#include <functional>

#include "adapt/recall_trainer.h"
#include "architectures.h"
#include "base/random.h"
#include "stream/session.h"
#include "temporary_folder.h"
#include "training.h"

using namespace infini;
using test::kArchitectures;

namespace {

constexpr int64_t kRank = 5;
constexpr double kAlpha = 3;

std::string file_of(const std::string &architecture) { return test::fixture("arch/" + architecture + ".gguf"); }

std::span<const std::byte> bytes_of_floats(const std::vector<float> &values) {
  return std::as_bytes(std::span(values));
}
void add(Gguf &gguf, const std::string &name, std::vector<int64_t> shape, const std::vector<float> &values) {
  const auto bytes = bytes_of_floats(values);
  gguf.add_tensor(name, TensorType::F32, std::move(shape), {bytes.begin(), bytes.end()});
}

std::vector<float> normal(Random &random, int64_t count, double deviation) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float &value : values) value = static_cast<float>(deviation * random.normal());
  return values;
}

Gguf empty_adapter(const std::string &architecture) {
  Gguf adapter;
  adapter.set("general.type", std::string("adapter"));
  adapter.set("general.architecture", architecture);
  adapter.set("adapter.type", std::string("lora"));
  adapter.set("adapter.lora.alpha", static_cast<float>(kAlpha));
  return adapter;
}

// An adapter for every matrix of `base` but every third, and the model with the same in its weights.
struct Pair {
  Gguf adapter, merged;
};
Pair make(const std::string &architecture, const Gguf &base, double weight) {
  Pair made{empty_adapter(architecture), {}};
  for (const auto &[key, value] : base.entries()) made.merged.set(key, value);
  Random random(7);
  size_t matrices = 0;
  for (const GgufTensor &tensor : base.tensors()) {
    const bool is_matrix = tensor.shape.size() == 2 && tensor.name.rfind("token_embd", 0) != 0;
    if (!is_matrix || matrices++ % 3 == 2) {
      made.merged.add_tensor(tensor.name, tensor.type, tensor.shape, {tensor.data.begin(), tensor.data.end()});
      continue;
    }
    const int64_t columns = tensor.shape[0], rows = tensor.shape[1];
    const std::vector<float> a = normal(random, kRank * columns, 1 / std::sqrt(static_cast<double>(columns))),
                             b = normal(random, rows * kRank, 0.3);
    add(made.adapter, tensor.name + ".lora_a", {columns, kRank}, a);
    add(made.adapter, tensor.name + ".lora_b", {kRank, rows}, b);
    std::vector<float> w(static_cast<size_t>(tensor.elements()));
    unpack(tensor.type, tensor.data.data(), tensor.elements(), w.data());
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) {
        double sum = 0;
        for (int64_t r = 0; r < kRank; ++r) sum += double{b[i * kRank + r]} * a[r * columns + j];
        w[i * columns + j] += static_cast<float>(weight * kAlpha / kRank * sum);
      }
    add(made.merged, tensor.name, tensor.shape, w);
  }
  return made;
}

std::vector<int32_t> some_tokens(const Model &model) {
  Random random(3);
  std::vector<int32_t> tokens(40);
  for (int32_t &token : tokens) token = static_cast<int32_t>(random.uniform() * model.config().vocabulary);
  return tokens;
}

std::vector<float> logits_of(std::shared_ptr<const Model> model, size_t cut) {
  const std::vector<int32_t> tokens = some_tokens(*model);
  Session session(model, {});
  return test::logits_of(session, tokens, cut);
}

Options with_memory(std::initializer_list<std::pair<const char *, OptionValue>> more) {
  Options options;
  const auto set = [&](const char *name, const OptionValue &value) {
    std::visit([&](const auto &v) { options.set(name, v); }, value);
  };
  set("memory", std::string("open")), set("segment", int64_t{7}), set("carry", int64_t{8}), set("sinks", int64_t{2});
  for (const auto &[name, value] : more) set(name, value);
  return options;
}

}  // namespace

TEST_CASE("an adapter gives the logits of a model that holds its products, in every architecture, for every cut") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("adapter.gguf");
  for (const std::string architecture : kArchitectures) {
    CAPTURE(architecture);
    const double weight = architecture == std::string("llama") ? -0.5 : 1;
    const Gguf base = Gguf::open(file_of(architecture));
    Pair made = make(architecture, base, weight);
    made.adapter.save(path);
    for (const std::string compute : {"f32", "bf16"}) {
      CAPTURE(compute);
      const double bound = compute == "f32" ? 2e-5 : 0.2;  // a sum in bf16 is rounded otherwise than its parts
      Pair again = make(architecture, base, weight);
      const auto merged = Model::build(std::move(again.merged), with_memory({{"compute", compute}}));
      const auto plain = Model::open(file_of(architecture), with_memory({{"compute", compute}}));
      const auto adapted = Model::open(
          file_of(architecture), with_memory({{"compute", compute}, {"adapter", path}, {"adapter_weight", weight}}));
      REQUIRE(adapted->adapter());
      CHECK(adapted->weights().bytes() > plain->weights().bytes());
      const std::vector<float> expected = logits_of(merged, 40);
      CHECK(test::relative_difference(logits_of(plain, 40), expected) > 0.2);
      for (const size_t cut : {40, 11, 1}) {
        CAPTURE(cut);
        CHECK(test::relative_difference(logits_of(adapted, cut), expected) < bound);
      }
    }
  }
}

TEST_CASE("weights stay at their bits beside an adapter, in every type and number of products") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("adapter.gguf");
  CreateConfig config;
  config.layers = 2, config.width = 256, config.heads = 4, config.kv_heads = 2, config.hidden = 256;
  config.vocabulary = 300, config.segment = 16, config.carry = 4, config.seed = 4;
  const auto base = Model::create(config, {});
  make("llama", base->gguf(), 1).adapter.save(path);
  base->save(folder.file("base.gguf"));
  for (const std::string weights : {"q4_0", "q8_0", "bf16"})
    for (const std::string compute : {"f32", "bf16", "int8"}) {
      CAPTURE(weights);
      CAPTURE(compute);
      Options options;
      options.set("weights", weights);
      options.set("compute", std::string("f32"));
      // In f32 blocks are unpacked exactly: so is the sum of both.
      options.set("adapter", path);
      const auto exact = Model::open(folder.file("base.gguf"), options);
      options.set("compute", compute);
      const auto adapted = Model::open(folder.file("base.gguf"), options);
      options.set("adapter", std::string());
      const auto plain = Model::open(folder.file("base.gguf"), options);
      const int64_t more = adapted->weights().bytes() - plain->weights().bytes();
      CHECK(more > 0);
      const std::vector<float> expected = logits_of(exact, 40);
      CHECK(test::relative_difference(logits_of(adapted, 40), expected) < (compute == "f32" ? 2e-5 : 0.3));
      CHECK(test::relative_difference(logits_of(plain, 40), expected) > 0.5);
      options.set("adapter", path);
      options.set("adapter_weight", 0.0);
      CHECK(logits_of(Model::open(folder.file("base.gguf"), options), 40) == logits_of(plain, 40));
    }
}

TEST_CASE("an adapter that training wrote gives the logits of the model that it wrote, its memory included") {
  const test::TemporaryFolder folder;
  Sequence sequence;
  Random random(1);
  for (int i = 0; i < 64; ++i) sequence.tokens.push_back(static_cast<int32_t>(random.uniform() * 100));
  sequence.weight.assign(sequence.tokens.size(), 1);
  sequence.answer.assign(sequence.tokens.size(), 0);
  const RecallConfig training = test::train_config(
      R"({"train": "lora", "lora": {"rank": 4, "targets": ["q", "v", "up", "down"]}, "tokens": 64, "segment": 8, "segments": 8,
          "rate": 0.05, "gate_rate": 0.5, "gates": [[-1, -1, 0]], "epsilon": 0.5, "first_segment": "ungated",
          "compute": "f32"})");
  for (const std::string architecture : {"llama", "phi3"}) {  // whose file has q, k and v, and gate and up, in one
    CAPTURE(architecture);
    RecallTrainer trainer(Model::open(file_of(architecture), {}), training,
                          std::make_unique<test::OneSequence>(sequence), nullptr, 1);
    for (int step = 0; step < 5; ++step) trainer.step();
    trainer.write(folder.file("merged.gguf"), TensorType::F32);
    trainer.write_adapter(folder.file("adapter.gguf"));
    const bool fused = architecture == std::string("phi3");
    const Gguf adapter = Gguf::open(folder.file("adapter.gguf"));
    CHECK((adapter.find_tensor("blk.0.attn_qkv.weight.lora_a") != nullptr) == fused);
    Options options = test::options_of({{"compute", "f32"}});
    const auto merged = Model::open(folder.file("merged.gguf"), options);
    const auto plain = Model::open(file_of(architecture), options);
    options.set("adapter", folder.file("adapter.gguf"));
    const auto adapted = Model::open(file_of(architecture), options);
    CHECK(adapted->config().memory.segment == 8);
    CHECK(adapted->config().memory.gate == merged->config().memory.gate);
    CHECK(adapted->config().memory.gate != plain->config().memory.gate);
    CHECK(test::relative_difference(logits_of(adapted, 40), logits_of(merged, 40)) < 2e-5);
    CHECK(test::relative_difference(logits_of(plain, 40), logits_of(merged, 40)) > 0.05);
  }
}

TEST_CASE("sessions beside each other and snapshots know the adapter") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("adapter.gguf");
  make("qwen3", Gguf::open(file_of("qwen3")), 1).adapter.save(path);
  const auto open = [&](double weight) {
    return Model::open(file_of("qwen3"), with_memory({{"adapter", path}, {"adapter_weight", weight}}));
  };
  const auto model = open(1), again = open(1), half = open(0.5);
  const std::vector<int32_t> tokens = some_tokens(*model);
  const Options exact = test::options_of({{"deterministic", int64_t{1}}, {"ignore_end", int64_t{1}}});
  const auto alone = test::check_batch(model, tokens, {5, 23, 40});
  const auto snapshot = alone[0]->save(Session::SnapshotKind::SESSION, {});
  Session restored(again, exact), other(half, exact);
  restored.restore(snapshot);
  for (int step = 0; step < 12; ++step) CHECK(restored.next() == alone[0]->next());
  CHECK(test::status_of([&] { other.restore(snapshot); }) == Status::MODEL_MISMATCH);
}

TEST_CASE("what is no adapter, or one of another model, is refused in words; one is neither saved nor trained") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("adapter.gguf");
  const auto refusal =
      [&](Status expected, const std::function<void(Gguf &)> &change, const std::string &architecture = "llama") {
    Gguf adapter = empty_adapter(architecture);
    change(adapter);
    adapter.save(path);
    std::string message;
    CHECK(test::status_of(
              [&] {
      Model::open(file_of("llama"), test::options_of({{"adapter", path}}));
              },
              &message) == expected);
    CHECK(message.find(path) != std::string::npos);
    return message;
  };
  const auto contains = [](const std::string &text, const char *part) { return text.find(part) != std::string::npos; };
  const auto model = Model::open(file_of("llama"), {});
  const int64_t width = model->config().width, columns = int64_t{model->config().heads} * model->config().key_size;
  const std::string q = "blk.0.attn_q.weight";
  const auto put = [&](Gguf &to, const std::string &name, int64_t a, int64_t b, float value = 0) {
    add(to, name, {a, b}, std::vector<float>(static_cast<size_t>(a * b), value));
  };
  const auto pair = [&](Gguf &to) { put(to, q + ".lora_a", width, 2), put(to, q + ".lora_b", 2, columns); };
  using enum Status;
  CHECK(contains(refusal(FORMAT, [](Gguf &) {}), "no tensors"));
  CHECK(contains(refusal(FORMAT, [&](Gguf &g) { g.erase("adapter.type"), pair(g); }), "adapter.type"));
  CHECK(contains(refusal(UNSUPPORTED, [&](Gguf &g) { g.set("adapter.type", std::string("ia3")), pair(g); }), "ia3"));
  CHECK(
      contains(refusal(UNSUPPORTED, [&](Gguf &g) { g.set("adapter.alora.invocation_tokens", 3u), pair(g); }), "aLoRA"));
  CHECK(contains(refusal(MODEL_MISMATCH, pair, "qwen2"), "'qwen2'"));
  CHECK(contains(refusal(FORMAT, [&](Gguf &g) { put(g, q + ".lora_a", width, 2); }), "without '.lora_b'"));
  CHECK(contains(
      refusal(MODEL_MISMATCH, [&](Gguf &g) { put(g, q + ".lora_a", width, 2), put(g, q + ".lora_b", 3, columns); }),
      "attn_q"));
  CHECK(contains(
      refusal(MODEL_MISMATCH, [&](Gguf &g) { put(g, q + ".lora_a", width - 1, 2), put(g, q + ".lora_b", 2, columns); }),
      "attn_q"));
  CHECK(contains(refusal(MODEL_MISMATCH, [&](Gguf &g) { pair(g), put(g, "blk.99.attn_q.weight.lora_a", width, 2); }),
                 "blk.99"));
  CHECK(contains(refusal(MODEL_MISMATCH, [&](Gguf &g) { pair(g), put(g, "token_embd.weight.lora_a", width, 2); }),
                 "token_embd"));
  CHECK(contains(refusal(
                     FORMAT,
                     [&](Gguf &g) {
    put(g, q + ".lora_a", width, 2, std::numeric_limits<float>::quiet_NaN()), put(g, q + ".lora_b", 2, columns);
                     }),
                 "lora_a"));
  CHECK(contains(refusal(
                     FORMAT,
                     [&](Gguf &g) {
    pair(g), g.set("infini.version", 1u), g.set_doubles("infini.memory.gate", std::vector<float>{1, 2});
                     }),
                 "infini.memory.gate"));

  const double infinite = std::numeric_limits<double>::infinity();
  CHECK(contains(refusal(FORMAT, [&](Gguf &g) { g.set("adapter.lora.alpha", infinite), pair(g); }), "alpha"));
  CHECK(contains(refusal(
                     FORMAT,
                     [&](Gguf &g) {
    g.set("adapter.lora.alpha", 1e38);
    put(g, q + ".lora_a", width, 2, 1), put(g, q + ".lora_b", 2, columns, 1e20f);
                     }),
                 "too large"));
  const std::string qkv = "blk.0.attn_qkv.weight";
  const int64_t all = columns + 2 * int64_t{model->config().kv_heads} * model->config().key_size;
  CHECK(contains(
      refusal(FORMAT, [&](Gguf &g) { pair(g), put(g, qkv + ".lora_a", width, 2), put(g, qkv + ".lora_b", 2, all); }),
      "twice"));

  Gguf thin = empty_adapter("llama");  // a rank of 1, which some writers leave out
  add(thin, q + ".lora_a", {width}, std::vector<float>(static_cast<size_t>(width)));
  put(thin, q + ".lora_b", 1, columns);
  thin.save(path);
  CHECK(Model::open(file_of("llama"), test::options_of({{"adapter", path}}))->adapter()->matrices() == 1);

  Gguf good = empty_adapter("llama");
  pair(good);
  good.save(path);
  Options options;
  options.set("adapter", path);
  const auto adapted = Model::open(file_of("llama"), options);
  CHECK(test::status_of([&] { adapted->save(folder.file("out.gguf")); }) == Status::STATE);
  CHECK(test::status_of([&] { adapted->for_training(); }) == Status::STATE);
  CHECK(test::status_of([&] { Model::open(file_of("llama"), options, nullptr, Model::Use::TRAINING); }) ==
        Status::STATE);
  options.set("adapter", folder.file("nowhere.gguf"));
  CHECK(test::status_of([&] { Model::open(file_of("llama"), options); }) == Status::IO);
}
