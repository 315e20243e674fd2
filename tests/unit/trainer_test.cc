// Training: it learns what only the memory can hold, goes on after a checkpoint as if nothing had happened, and writes
// models that the engine reads.
#include "support.h"

#include <array>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/random.h"
#include "stream/session.h"
#include "temporary_folder.h"
#include "train/text_sources.h"
#include "train/source_helpers.h"
#include "adapt/fit_heads.h"
#include "adapt/head_search.h"
#include "adapt/recall_trainer.h"
#include "training.h"

using namespace infini;

namespace {

constexpr int kKeys = 6, kValues = 6;
// Tokens: values, then questions, then facts (a key with its value), then filler.
constexpr int32_t kQuestion = kValues, kFact = kQuestion + kKeys, kFiller = kFact + kKeys * kValues,
                  kVocabulary = kFiller + 4;

// So many tokens of which none is predicted.
Sequence filler(Random &random, int total) {
  Sequence s;
  for (int t = 0; t < total; ++t) s.tokens.push_back(kFiller + static_cast<int32_t>(random.next() % 4));
  s.weight.assign(s.tokens.size(), 0);
  s.answer.assign(s.tokens.size(), 0);
  return s;
}

// Facts in all segments but the last, which asks for each: the values lie across a border.
class FactSource : public SequenceSource {
 public:
  explicit FactSource(uint64_t seed, int distinct = 0) : random_(seed), distinct_(distinct) {}
  Sequence next(int segment, int segments) override {
    if (distinct_ > 0) random_ = Random(static_cast<uint64_t>(1000 + drawn_++ % distinct_));
    const int total = segment * segments, last = total - segment;
    Sequence s = filler(random_, total);
    std::vector<int> positions(static_cast<size_t>(last));
    for (int i = 0; i < last; ++i) positions[static_cast<size_t>(i)] = i;
    for (int key = 0; key < kKeys; ++key) {
      std::swap(positions[static_cast<size_t>(key)],
                positions[static_cast<size_t>(key) + random_.next() % static_cast<uint64_t>(last - key)]);
      const auto value = static_cast<int32_t>(random_.next() % kValues);
      s.tokens[static_cast<size_t>(positions[static_cast<size_t>(key)])] = kFact + key * kValues + value;
      const size_t at = static_cast<size_t>(last + 2 * key);
      s.tokens[at] = kQuestion + key;
      s.tokens[at + 1] = value;
      s.weight[at + 1] = 1;
      s.answer[at + 1] = 1;
      s.links.push_back({static_cast<int32_t>(at + 1), positions[static_cast<size_t>(key)]});
    }
    return s;
  }
  std::string save() const override { return nlohmann::json({random_.state(), drawn_}).dump(); }
  void restore(const std::string &state) override {
    const auto json = nlohmann::json::parse(state);
    random_.set_state(json.at(0).get<std::array<uint64_t, 4>>());
    drawn_ = json.at(1).get<int>();
  }

 private:
  Random random_;
  int distinct_, drawn_ = 0;
};

std::shared_ptr<const Model> small_model(const std::string &update, int layers = 1) {
  CreateConfig c;
  c.layers = layers;
  c.width = 32;
  c.heads = 2;
  c.kv_heads = 1;
  c.hidden = 64;
  c.vocabulary = kVocabulary;
  c.segment = 12;
  c.update = update;
  Options options;
  options.set("compute", std::string("f32"));
  return Model::create(c, options);
}

constexpr const char *kQuick =
    R"({"tokens": 768, "segments": 4, "rate": 0.01, "gate_rate": 0.02, "muon_rate": 0.02, "warmup": 10, "feature_scale": 1.6, "compute": "f32")";
std::string quick(const std::string &more = "") { return kQuick + more + "}"; }

RecallTrainer trainer(const std::shared_ptr<const Model> &model, const std::string &config, int distinct = 0,
                      int threads = 1) {
  return {model, test::train_config(config), std::make_unique<FactSource>(1, distinct), nullptr, threads};
}

std::vector<float> logits_of(const std::string &path, const std::vector<int32_t> &tokens) {
  Options options;
  options.set("compute", std::string("f32"));
  const auto model = Model::open(path, options);
  Session session(model, {});
  std::vector<float> logits(tokens.size() * static_cast<size_t>(model->config().vocabulary));
  session.feed_logits(tokens, logits.data());
  return logits;
}

// Quantised as Q8_0: blocks of 32 numbers with a half-precision scale.
Gguf quantised(const Gguf &from) {
  Gguf out;
  for (const auto &[key, value] : from.entries()) out.set(key, value);
  for (const GgufTensor &tensor : from.tensors()) {
    if (tensor.shape.size() < 2) {
      out.add_tensor(tensor.name, tensor.type, tensor.shape, {tensor.data.begin(), tensor.data.end()});
      continue;
    }
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    unpack(tensor.type, tensor.data.data(), tensor.elements(), values.data());
    std::vector<std::byte> blocks;
    for (size_t i = 0; i < values.size(); i += 32) {
      float largest = 0;
      for (size_t j = i; j < i + 32; ++j) largest = std::max(largest, std::abs(values[j]));
      const uint16_t scale = float_to_half(largest / 127);
      for (const int shift : {0, 8}) blocks.push_back(static_cast<std::byte>(scale >> shift));
      for (size_t j = i; j < i + 32; ++j)
        blocks.push_back(static_cast<std::byte>(
            static_cast<int8_t>(std::lround(largest > 0 ? values[j] / half_to_float(scale) : 0))));
    }
    out.add_tensor(tensor.name, TensorType::Q8_0, tensor.shape, std::move(blocks));
  }
  return out;
}

}  // namespace

TEST_CASE("a small model learns to recall from its memory what no window holds" * test::needs_speed()) {
  for (const char *update : {"linear", "delta"}) {
    for (const char *optimizer : {"muon", "adamw"}) {
      CAPTURE(std::string(update));
      CAPTURE(std::string(optimizer));
      RecallTrainer t = trainer(small_model(update), quick(std::string(R"(, "optimizer": ")") + optimizer + "\""));
      FactSource held_out(99);
      const Tally before = t.evaluate(held_out, 20, 12, 4);
      CHECK(before.across == 20 * kKeys);
      CHECK(static_cast<double>(before.across_right) / static_cast<double>(before.across) < 0.4);  // chance is 1 / 6
      StepReport report;
      for (int i = 0; i < 250; ++i) report = t.step();
      CHECK(report.step == 250);
      CHECK(report.tokens == 768);
      const Tally after = t.evaluate(held_out, 50, 12, 4);
      const double recall = static_cast<double>(after.across_right) / static_cast<double>(after.across);
      MESSAGE(std::string(update) << ", " << std::string(optimizer) << ": recall " << recall << ", loss "
                                  << after.loss / after.weight);
      CHECK(recall > 0.9);
      // Answers of one token: a right one is exact.
      CHECK(after.answers_across == after.across);
      CHECK(after.exact_across == after.across_right);
      CHECK(after.answers_inside == 0);
    }
  }
}

// Answers of 1 to 3 tokens, some of which stand in two segments or end the sequence. Their kind is their first token's.
class SpanSource : public SequenceSource {
 public:
  Sequence next(int segment, int segments) override {
    Sequence s;
    const size_t total = static_cast<size_t>(segment * segments);
    for (size_t t = 0; t < total; ++t) s.tokens.push_back(static_cast<int32_t>((t * t + 3 * t) % kValues));
    s.weight.assign(total, 1);
    s.answer.assign(total, 0);
    const auto answer = [&](size_t begin, std::initializer_list<uint8_t> kinds) {
      std::copy(kinds.begin(), kinds.end(), s.answer.begin() + static_cast<ptrdiff_t>(begin));
    };
    answer(3, {1});
    answer(6, {2, 2});
    answer(11, {1, 2, 2});
    answer(20, {2, 1});
    answer(total - 2, {1, 1});
    answers_ = s;
    return s;
  }
  std::string save() const override { return "{}"; }
  void restore(const std::string &) override {}
  const Sequence &last() const { return answers_; }

 private:
  Sequence answers_;
};

TEST_CASE("an answer is exact where the model's best token is right all along it") {
  const test::TemporaryFolder folder;
  int64_t exact_seen = 0, answers_seen = 0;
  for (int steps : {0, 20, 60}) {
    RecallTrainer t(small_model("linear"), test::train_config(quick()), std::make_unique<SpanSource>(), nullptr, 1);
    for (int i = 0; i < steps; ++i) t.step();
    const std::string path = folder.file("model.gguf");
    t.write(path, TensorType::F32);
    SpanSource source;
    const Tally tally = t.evaluate(source, 1, 12, 4);
    const Sequence &s = source.last();
    const std::vector<float> logits = logits_of(path, s.tokens);
    Tally expected;
    for (size_t at = 1; at < s.tokens.size(); ++at) {
      if (!s.answer[at] || s.answer[at - 1]) continue;
      bool exact = true;
      for (size_t i = at; i < s.tokens.size() && s.answer[i]; ++i) {
        const float *row = logits.data() + (i - 1) * kVocabulary;
        exact &= std::max_element(row, row + kVocabulary) - row == s.tokens[i];
      }
      ++(s.answer[at] == 1 ? expected.answers_across : expected.answers_inside);
      (s.answer[at] == 1 ? expected.exact_across : expected.exact_inside) += exact;
    }
    CHECK(tally.answers_across == 3);
    CHECK(tally.answers_inside == 2);
    CHECK(tally.answers_across == expected.answers_across);
    CHECK(tally.answers_inside == expected.answers_inside);
    CHECK(tally.exact_across == expected.exact_across);
    CHECK(tally.exact_inside == expected.exact_inside);
    exact_seen += tally.exact_across + tally.exact_inside;
    answers_seen += 5;
  }
  CHECK(exact_seen > 0);
  CHECK(exact_seen < answers_seen);
}

TEST_CASE("each part that may be trained learns a few sequences as far as it can, and only that part changes" *
          test::needs_speed()) {
  struct Case {
    const char *part;
    double loss;  // nats, after 150 steps on eight sequences; 1.78 at first, which is chance
  };
  test::TemporaryFolder folder;
  // A model that has its tokens, but little else: random outputs are too small for a part to make up for them.
  const auto model = [&] {
    RecallTrainer t = trainer(small_model("linear", 2), quick());
    for (int i = 0; i < 40; ++i) t.step();
    t.write(folder.file("base.gguf"), TensorType::F32);
    Options options;
    options.set("compute", std::string("f32"));
    return Model::open(folder.file("base.gguf"), options);
  }();
  for (const Case &c : {Case{"all", 0.02}, {"attention", 1.3}, {"lora", 1.4}, {"gates", 1.77}, {"features", 1.6}}) {
    CAPTURE(std::string(c.part));
    RecallTrainer t = trainer(
        model, quick(std::string(R"(, "feature_scale": 1, "train": ")") + c.part + R"(", "lora": {"rank": 8})"), 8);
    const double first = [&] {
      const Tally tally = t.step().tally;
      return tally.loss / tally.weight;
    }();
    double loss = 0;
    for (int i = 0; i < 150; ++i) {
      const Tally tally = t.step().tally;
      loss = tally.loss / tally.weight;
    }
    MESSAGE(std::string(c.part) << ": loss " << first << " -> " << loss);
    CHECK(loss < first);
    CHECK(loss < c.loss);
    const std::string path = folder.file("out.gguf");
    t.write(path, TensorType::F32);
    const Gguf written = Gguf::open(path);
    for (const GgufTensor &tensor : model->gguf().tensors()) {
      const GgufTensor *now = written.find_tensor(tensor.name);
      REQUIRE(now);
      const bool same = std::equal(tensor.data.begin(), tensor.data.end(), now->data.begin(), now->data.end());
      const bool attention =
          tensor.name.find("attn_") != std::string::npos && tensor.name.find("norm") == std::string::npos;
      const bool feature =
          tensor.name.find("attn_q") != std::string::npos || tensor.name.find("attn_k") != std::string::npos;
      const std::string part = c.part;
      CAPTURE(tensor.name);
      CHECK(same == !(part == "all" || (part == "attention" && attention) || (part == "lora" && attention) ||
                      (part == "features" && feature)));
    }
    const bool gates_same =
        written.get_doubles("infini.memory.gate") == model->gguf().get_doubles("infini.memory.gate");
    CHECK(gates_same == (std::string(c.part) == "features"));
  }
}

TEST_CASE("training goes on from a checkpoint bit for bit") {
  test::TemporaryFolder folder;
  for (const std::string more :
       {R"()", R"(, "train": "lora", "optimizer": "adamw")", R"(, "compute": "bf16", "activations_mb": 0)"}) {
    CAPTURE(more);
    const auto model = small_model("delta", 2);
    const std::string config = quick(more);  // of a field that is given twice the last one counts
    RecallTrainer whole = trainer(model, config, 0, 2);
    for (int i = 0; i < 8; ++i) whole.step();
    {
      RecallTrainer first = trainer(model, config, 0, 2);
      for (int i = 0; i < 5; ++i) first.step();
      first.save(folder.file("c"));
    }
    RecallTrainer second = trainer(model, config, 0, 2);
    second.restore(folder.file("c"));
    CHECK(second.steps() == 5);
    CHECK(second.tokens() == 5 * 768);
    for (int i = 0; i < 3; ++i) second.step();
    whole.write(folder.file("whole.gguf"), TensorType::F32);
    second.write(folder.file("second.gguf"), TensorType::F32);
    CHECK(test::read_text(folder.file("whole.gguf")) == test::read_text(folder.file("second.gguf")));
    whole.save(folder.file("whole"));
    second.save(folder.file("second"));
    CHECK(test::read_text(folder.file("whole")) == test::read_text(folder.file("second")));
  }
}

TEST_CASE("checkpoints of other models, other configurations and damaged ones are refused, and change nothing") {
  test::TemporaryFolder folder;
  const auto model = small_model("linear");
  RecallTrainer t = trainer(model, quick());
  t.step();
  const std::string path = folder.file("c"), damaged = folder.file("damaged");
  t.save(path);
  const auto status_of = [&](RecallTrainer &of, const std::string &file) {
    try {
      of.restore(file);
    } catch (const Error &error) { return error.status(); }
    return Status::OK;
  };
  RecallTrainer other_model = trainer(small_model("delta"), quick()),
                other_config = trainer(model, quick(R"(, "clip": 3)"));
  CHECK(status_of(other_model, path) == Status::MODEL_MISMATCH);
  CHECK(status_of(other_config, path) == Status::MODEL_MISMATCH);
  const std::string bytes = test::read_text(path);
  int unnoticed = 0;  // padding between sections is not checked, nor need it be
  for (size_t at = 0; at < bytes.size(); at += 1 + bytes.size() / 97) {
    std::string broken = bytes;
    broken[at] = static_cast<char>(broken[at] ^ 0x10);
    std::ofstream(damaged, std::ios::binary) << broken;
    if (broken == bytes) continue;
    const Status status = status_of(t, damaged);
    CAPTURE(at);
    unnoticed += status == Status::OK;
    CHECK((status == Status::CHECKSUM || status == Status::FORMAT || status == Status::VERSION ||
           status == Status::TRUNCATED || status == Status::OK));
    std::ofstream(damaged, std::ios::binary) << bytes.substr(0, at);
    CHECK(status_of(t, damaged) != Status::OK);
  }
  CHECK(unnoticed <= 5);
  t.save(damaged);
  CHECK(test::read_text(damaged) == bytes);
}

TEST_CASE("what is written is what was trained: the engine's logits are the trainer's, merged adapters included") {
  test::TemporaryFolder folder;
  for (const std::string more : {"", R"(, "train": "lora", "feature_scale": 1, "carry": 5, "sinks": 2)"}) {
    CAPTURE(more);
    const auto model = small_model("delta", 2);
    RecallTrainer t = trainer(model, quick(more));
    for (int i = 0; i < 5; ++i) t.step();
    const std::string path = folder.file("out.gguf");
    t.write(path, TensorType::F32);
    FactSource source(5), again(5);
    const Sequence s = source.next(12, 4);
    const Tally tally = t.evaluate(again, 1, 12, 4);
    const std::vector<float> logits = logits_of(path, s.tokens);
    double loss = 0;
    for (size_t i = 1; i < s.tokens.size(); ++i)
      if (s.weight[i] > 0)
        loss += log_sum_exp(logits.data() + (i - 1) * kVocabulary, kVocabulary) -
                logits[(i - 1) * kVocabulary + static_cast<size_t>(s.tokens[i])];
    CHECK(tally.loss == doctest::Approx(loss).epsilon(1e-5));
    Options options;
    options.set("compute", std::string("f32"));
    const auto reopened = Model::open(path, options);
    const Config &written = reopened->config();
    CHECK(written.memory.trained);
    CHECK(written.memory.carry == (more.empty() ? 0 : 5));
    CHECK(written.memory.sinks == (more.empty() ? 0 : 2));
    for (size_t i = 0; i < written.memory.gate.size(); ++i) CHECK(written.memory.gate[i] == t.gates()[i]);
    if (!more.empty()) {
      t.write_adapter(folder.file("adapter.gguf"));
      const Gguf adapter = Gguf::open(folder.file("adapter.gguf"));
      CHECK(adapter.get_string("general.type") == "adapter");
      CHECK(adapter.find_tensor("blk.1.attn_q.weight.lora_a")->shape == std::vector<int64_t>{32, 8});
      CHECK(adapter.find_tensor("blk.1.attn_q.weight.lora_b")->shape == std::vector<int64_t>{8, 32});
    } else {
      CHECK_THROWS_AS(t.write_adapter(path), Error);
      const std::string halves = folder.file("halves.gguf");
      t.write(halves, TensorType::F16);
      CHECK(test::relative_difference(logits_of(halves, s.tokens), logits) < 1e-2);
    }
  }
  const RecallTrainer scaled = trainer(small_model("delta", 2), quick(R"(, "train": "lora")"));
  CHECK_THROWS_AS(scaled.write_adapter(folder.file("adapter.gguf")), Error);  // whose base has changed too
}

TEST_CASE("a model is written a tensor at a time, and is the same file as from memory") {
  const test::TemporaryFolder folder;
  RecallTrainer t = trainer(small_model("delta", 2), quick(R"(, "train": "attention")"));
  t.step();
  struct Seen {
    int calls = 0;
    int64_t first = -1, last = 0, total = 0;
  } seen;
  Task task;
  task.set_progress(
      [](void *data, const char *stage, int64_t done, int64_t total) {
    auto &to = *static_cast<Seen *>(data);
    CHECK(stage == std::string("save"));
    if (to.calls++ == 0) to.first = done;
    to.last = done, to.total = total;
    return 0;
      },
      &seen);
  t.write(folder.file("out.gguf"), TensorType::BF16, &task);
  const Gguf made = t.gguf(TensorType::BF16);
  made.save(folder.file("memory.gguf"));
  CHECK(test::read_text(folder.file("out.gguf")) == test::read_text(folder.file("memory.gguf")));
  CHECK(seen.first == static_cast<int64_t>(made.tensors().front().data.size()));
  CHECK(seen.calls >= static_cast<int>(made.tensors().size()));
  CHECK(seen.last == seen.total);
}

TEST_CASE("a number that is not finite is told by the file's name and the tensor's") {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("broken.gguf");
  small_model("delta")->save(path);
  std::string bytes = test::read_text(path);
  const Gguf gguf = Gguf::open(path);
  const GgufTensor &tensor = *gguf.find_tensor("blk.0.attn_q.weight");
  const std::string data(reinterpret_cast<const char *>(tensor.data.data()), 64);
  bytes.replace(bytes.find(data), 4, std::string("\0\0\xc0\x7f", 4));
  const std::string broken = folder.file("nan.gguf");
  std::ofstream(broken, std::ios::binary) << bytes;
  const auto model = Model::open(broken, {}, nullptr, Model::Use::TRAINING);
  CHECK_THROWS_WITH_AS(trainer(model, quick("")),
                       cat(broken, ": tensor 'blk.0.attn_q.weight' holds nan at row 0, column 0").c_str(), Error);
}

TEST_CASE("a quantised model is trained from what its blocks stand for") {
  Options options;
  options.set("compute", std::string("f32"));
  const auto model = Model::build(quantised(small_model("linear")->gguf()), options);
  REQUIRE(model->gguf().find_tensor("blk.0.attn_q.weight")->type == TensorType::Q8_0);
  RecallTrainer t = trainer(model, quick(R"(, "feature_scale": 1, "train": "gates")"));
  FactSource source(5), again(5);
  const Sequence s = source.next(12, 4);
  Session session(model, {});
  std::vector<float> logits(s.tokens.size() * kVocabulary);
  session.feed_logits(s.tokens, logits.data());
  double loss = 0;
  for (size_t i = 1; i < s.tokens.size(); ++i)
    if (s.weight[i] > 0)
      loss += log_sum_exp(logits.data() + (i - 1) * kVocabulary, kVocabulary) -
              logits[(i - 1) * kVocabulary + static_cast<size_t>(s.tokens[i])];
  CHECK(t.evaluate(again, 1, 12, 4).loss == doctest::Approx(loss).epsilon(1e-5));
  t.step();
  test::TemporaryFolder folder;
  t.write(folder.file("out.gguf"), TensorType::F32);
  const Gguf written = Gguf::open(folder.file("out.gguf"));
  CHECK(written.find_tensor("blk.0.attn_q.weight")->type == TensorType::Q8_0);  // not trained: its bytes are kept
  CHECK(written.get_doubles("infini.memory.gate") != model->gguf().get_doubles("infini.memory.gate"));
}

TEST_CASE("supervised retrieval raises the share of the memory that falls on the sources") {
  const auto model = small_model("linear");
  RecallTrainer t = trainer(model, quick(R"(, "train": "features", "supervision": 1)"));
  double first = 0, last = 0;
  for (int i = 0; i < 200; ++i) {
    last = t.step().tally.supervision.retrieval.loss;
    if (i == 0) first = last;
  }
  MESSAGE("-log share: " << first << " -> " << last);
  CHECK(first > 3);  // one of 36 tokens
  CHECK(last < 1.6);
}

// A document that says of four things what they are, and later says it again; links lead from there to here.
std::string linked_document(Random &random) {
  std::vector<std::string> names = {"red", "blue", "green", "black", "white", "river", "house", "door"},
                           values = {"table", "window", "horse", "stone", "fire", "water", "night", "king"};
  nlohmann::json links = nlohmann::json::array(), spans = links;
  std::string text;
  std::map<std::string, std::pair<std::string, size_t>> stated;
  const auto say = [&](const std::string &name, const std::string &value) {
    text += " " + name + " " + value + ".";
    return text.size() - 1 - value.size();
  };
  draw_to_front(random, names, 4);
  for (size_t i = 0; i < 4; ++i) {
    const std::string &value = values[draw_below(random, values.size())];
    stated[names[i]] = {value, say(names[i], value)};
  }
  text +=
      std::string(" The grass is green. The sky is blue. The sun is yellow.").substr(0, 20 + draw_below(random, 30));
  for (const auto &[name, fact] : stated) {
    const auto &[value, at] = fact;
    const size_t asked = say(name, value);
    links.push_back({asked, asked + value.size(), at, at + value.size(), 1});
    spans.push_back({asked, asked + value.size(), 1});
  }
  return nlohmann::json{{"text", text}, {"spans", spans}, {"links", links}}.dump();
}

TEST_CASE("a small model learns the look-ups that documents link" * test::needs_speed()) {
  const test::TemporaryFolder folder;
  Random random(1);
  const auto write = [&](const char *name, int count) {
    std::ofstream file(folder.file(name), std::ios::binary);
    for (int i = 0; i < count; ++i) file << linked_document(random) << "\n";
    return TextSettings{.files = {folder.file(name)}, .weight = 0};
  };
  CreateConfig c;
  c.layers = 2;
  c.width = 64;
  c.heads = 2;
  c.kv_heads = 1;
  c.hidden = 64;
  c.segment = 16;
  c.epsilon = 1;
  Options exact;
  exact.set("compute", std::string("f32"));
  c.tokenizer = test::words_path;
  const auto model = Model::create(c, exact);
  const TextSettings lessons = write("lessons.jsonl", 3000), held_out = write("held_out.jsonl", 200);
  RecallTrainer t(
      model,
      test::train_config(
          quick(R"(, "tokens": 2048, "rate": 0.005, "supervision": 0.5, "supervised": [[1, -1]], "segments": 4)")),
      std::make_unique<PackedSource>(read_jsonl(test::words(), lessons)), nullptr, 1);
  const auto seen = [&] {
    PackedSource source(read_jsonl(test::words(), held_out));
    return t.evaluate(source, 32, 16, 4);
  };
  const auto recall = [](const Tally &tally) {
    return static_cast<double>(tally.across_right) / static_cast<double>(tally.across);
  };
  const auto share = [](const StepReport &report) {
    return report.tally.supervision.retrieval.share / static_cast<double>(report.tally.supervision.retrieval.count);
  };
  const Tally before = seen();
  CHECK(before.across > 50);
  CHECK(recall(before) < 0.2);
  StepReport report = t.step();
  const double first = share(report);
  for (int i = 0; i < 150; ++i) report = t.step();
  const double after = recall(seen());
  MESSAGE("share of the linked tokens " << first << " -> " << share(report) << "; recall of held-out documents "
                                        << after);
  CHECK(first < 0.15);
  CHECK(share(report) > 0.25);
  CHECK(after > 0.4);  // whoever says one of the four that were stated is right in a quarter
}

// In each segment a name somewhere, and later something that is said of it.
class NameSource : public SequenceSource {
 public:
  Sequence next(int segment, int segments) override {
    const auto half = static_cast<uint64_t>(segment / 2);
    Sequence s = filler(random_, segment * segments);
    s.local_target.assign(s.tokens.size(), -1);
    for (int begin = 0; begin < segment * segments; begin += segment) {
      const auto name = static_cast<size_t>(begin) + random_.next() % half,
                 said = static_cast<size_t>(begin) + half + random_.next() % half;
      s.tokens[name] = kQuestion + static_cast<int32_t>(random_.next() % kKeys);
      s.tokens[said] = kFact;
      s.local_target[said] = static_cast<int32_t>(name);
    }
    return s;
  }
  std::string save() const override { return nlohmann::json(random_.state()).dump(); }
  void restore(const std::string &state) override {
    random_.set_state(nlohmann::json::parse(state).get<std::array<uint64_t, 4>>());
  }

 private:
  Random random_{1};
};

TEST_CASE("local attention learns to fall on its targets") {
  const std::string config = quick(R"(, "local_supervision": 1, "local_supervised": [[0, 1]])");
  RecallTrainer t(small_model("linear"), test::train_config(config), std::make_unique<NameSource>(), nullptr, 1);
  const auto share = [](const StepReport &report) {
    const Supervised s = report.tally.supervision.local;
    return s.share / static_cast<double>(s.count);
  };
  StepReport report = t.step();
  CHECK(report.tally.supervision.local.count == 768 / 12);
  const double first = share(report);
  for (int i = 0; i < 100; ++i) report = t.step();
  MESSAGE("share of local attention on the names: " << first << " -> " << share(report));
  CHECK(first < 0.3);  // one of up to 12 tokens
  CHECK(share(report) > 0.9);
}

TEST_CASE("retrieval is taught to layers that the model feeds as it was") {
  test::TemporaryFolder folder;
  const auto model = small_model("linear", 2);
  const std::string config = quick(
      R"(, "feature_scale": 1, "train": "retrieval", "supervised": [[1, -1]], "muon_rate": 0.08, "muon_decay": 0)");
  RecallTrainer t = trainer(model, config);
  FactSource held_out(7), again(7), search(8), search_again(8);
  const auto share = [&](FactSource &source) {
    const Supervised s = t.evaluate(source, 4, 12, 4).supervision.retrieval;
    return s.share / static_cast<double>(s.count);
  };
  const std::vector<double> fed = find_heads(t, search, 2, 12, 4).value_weight;
  const double before = share(held_out);
  for (int i = 0; i < 200; ++i) t.step();
  const double after = share(again);
  MESSAGE("share of the retrieval on the sources: " << before << " -> " << after);
  CHECK(before < 0.05);  // one of 36 tokens
  CHECK(after > 0.1);
  CHECK(find_heads(t, search_again, 2, 12, 4).value_weight == fed);

  t.write(folder.file("taught.gguf"), TensorType::F32);
  const Gguf written = Gguf::open(folder.file("taught.gguf"));
  for (const GgufTensor &tensor : model->gguf().tensors()) {
    CAPTURE(tensor.name);
    const GgufTensor *now = written.find_tensor(tensor.name);
    const bool same = std::equal(tensor.data.begin(), tensor.data.end(), now->data.begin(), now->data.end());
    CHECK(same == (tensor.name != "blk.1.attn_q.weight" && tensor.name != "blk.1.attn_k.weight"));
  }
  // From a checkpoint the model still feeds the layers as it was.
  t.save(folder.file("state"));
  RecallTrainer other = trainer(model, config);
  other.restore(folder.file("state"));
  CHECK(other.step().tally.supervision.retrieval.loss == t.step().tally.supervision.retrieval.loss);
}

// A name and, right behind it, its value: six pairs somewhere in all segments but the last, and in the last one again.
class PairSource : public SequenceSource {
 public:
  // After `good` sequences there is an error.
  explicit PairSource(uint64_t seed, int good = 1 << 30) : random_(seed), good_(good) {}
  Sequence next(int segment, int segments) override {
    if (good_-- == 0) good_ = 0, fail(Status::IO, "no more sequences");
    const int total = segment * segments, last = total - segment;
    Sequence s = filler(random_, total);
    s.local_target.assign(s.tokens.size(), -1);
    s.tags.resize(s.tokens.size());
    std::vector<int> rooms(static_cast<size_t>(last / 2));
    for (size_t i = 0; i < rooms.size(); ++i) rooms[i] = 2 * static_cast<int>(i);
    for (int name = 0; name < kKeys; ++name) {
      std::swap(rooms[static_cast<size_t>(name)],
                rooms[static_cast<size_t>(name) + random_.next() % (rooms.size() - static_cast<size_t>(name))]);
      const auto value = static_cast<int32_t>(random_.next() % kValues);
      for (const int at : {rooms[static_cast<size_t>(name)], last + 2 * name}) {
        const auto t = static_cast<size_t>(at);
        s.tokens[t] = kQuestion + name;
        s.tokens[t + 1] = value;
        s.local_target[t + 1] = at;
        s.tags[t + 1] = {name, 0};
        if (at < last) continue;
        s.weight[t + 1] = 1;
        s.answer[t + 1] = 1;
        s.links.push_back({at + 1, rooms[static_cast<size_t>(name)] + 1});
      }
    }
    return s;
  }
  std::string save() const override { return nlohmann::json(random_.state()).dump(); }
  void restore(const std::string &state) override {
    random_.set_state(nlohmann::json::parse(state).get<std::array<uint64_t, 4>>());
  }

 private:
  Random random_;
  int good_;
};

// --- heads that begin as a regression

namespace {

Options exact() {
  Options options;
  options.set("compute", std::string("f32"));
  return options;
}

std::shared_ptr<const Model> pair_model() {
  CreateConfig c;
  c.layers = 2;
  c.width = 64;
  c.heads = 4;
  c.kv_heads = 2;
  c.hidden = 64;
  c.vocabulary = kVocabulary;
  c.segment = 12;
  c.epsilon = 1;
  return Model::create(c, exact());
}

RecallTrainer pair_trainer(const std::shared_ptr<const Model> &model, const std::string &more, int good = 1 << 30) {
  const std::string config =
      quick(R"(, "feature_scale": 1, "muon_decay": 0, "gate_rate": 0, "first_segment": "ungated")" + more);
  return {model, test::train_config(config), std::make_unique<PairSource>(1, good), nullptr, 1};
}

// Heads of layer 0 carry the name to the value.
const std::string
    kCarry =
        R"(, "train": "features", "layers": [0, 0], "gates": [[-1, -1, null]], "local_supervision": 1, "feature_rate": 0.1)",
    kAllHeads = R"(, "local_supervised": [[0, -1]])",
    kRetrieve =
        R"(, "train": "retrieval", "gates": [[-1, -1, null], [1, 0, 3], [1, 1, 3]], "supervised": [[1, 0, 0], [1, 1, 0]], "silence": 0.3, "drawn": 7680, "repeat": 50, "muon_rate": 0.1, "feature_rate": 0.1)";

struct Carried {
  std::shared_ptr<const Model> model;
  double share;  // of local attention, on the names
};
const Carried &carried() {
  static const Carried made = [] {
    RecallTrainer carriers = pair_trainer(pair_model(), kCarry + kAllHeads);
    Supervised seen;
    for (int i = 0; i < 150; ++i) seen = carriers.step().tally.supervision.local;
    return Carried{Model::build(carriers.gguf(TensorType::F32), exact()), seen.share / static_cast<double>(seen.count)};
  }();
  return made;
}

double recall_of(const RecallTrainer &t) {
  RecallTrainer reader = pair_trainer(Model::build(t.gguf(TensorType::F32), exact()), R"(, "train": "gates")");
  PairSource held_out(99);
  const Tally tally = reader.evaluate(held_out, 40, 12, 4);
  return static_cast<double>(tally.across_right) / static_cast<double>(tally.across);
}

// Of the retrieval, what falls on the sources.
double source_share_of(RecallTrainer &t) {
  PairSource held_out(98);
  const Supervised s = t.evaluate(held_out, 20, 12, 4).supervision.retrieval;
  return s.share / static_cast<double>(s.count);
}

}  // namespace

TEST_CASE("local attention learns to carry a name to its value") {
  MESSAGE("share of local attention on the names: " << carried().share);
  CHECK(carried().share > 0.9);
}

TEST_CASE(
    "heads that begin as a regression find names and say values, where names were carried to them, without a step") {
  RecallTrainer t = pair_trainer(carried().model, kRetrieve),
                narrow = pair_trainer(carried().model, kRetrieve + R"(, "compute": "bf16")");
  CHECK(source_share_of(t) < 0.1);
  CHECK(recall_of(t) < 0.4);
  fit_heads(t, 10);
  const double share = source_share_of(t), recall = recall_of(t);
  MESSAGE("share of the source " << share << "; recall " << recall);
  CHECK(share > 0.5);
  CHECK(recall > 0.5);  // chance is 1 / 6
  fit_heads(narrow, 10);
  CHECK(source_share_of(narrow) == doctest::Approx(share).epsilon(0.05));
}

TEST_CASE("a fit that is cancelled, before or in the middle, or whose source fails, has not happened") {
  RecallTrainer t = pair_trainer(carried().model, kRetrieve), other = pair_trainer(carried().model, kRetrieve);
  Task before, between;
  before.cancel();
  CHECK_THROWS_AS(fit_heads(t, 10, &before), Error);
  between.set_progress([](void *, const char *, int64_t done, int64_t) { return done == 3 ? 1 : 0; }, nullptr);
  CHECK_THROWS_AS(fit_heads(t, 10, &between), Error);
  CHECK(between.done() == 3);
  CHECK(source_share_of(t) == source_share_of(other));
  fit_heads(t, 10);
  fit_heads(other, 10);
  CHECK(source_share_of(t) == source_share_of(other));
  RecallTrainer failing = pair_trainer(carried().model, kRetrieve, 100);
  CHECK_THROWS_AS(fit_heads(failing, 10), Error);
  CHECK_THROWS_AS(failing.step(), Error);  // what had been drawn is drawn anew
}

TEST_CASE("fitted heads learn on, from a checkpoint too, and are not fitted again") {
  const test::TemporaryFolder folder;
  RecallTrainer t = pair_trainer(carried().model, kRetrieve), other = pair_trainer(carried().model, kRetrieve);
  fit_heads(t, 10);
  t.save(folder.file("state"));
  other.restore(folder.file("state"));
  for (int i = 0; i < 300; ++i) {
    const double loss = t.step().tally.supervision.retrieval.loss;
    if (i < 12) CHECK(other.step().tally.supervision.retrieval.loss == loss);
  }
  const double share = source_share_of(t), recall = recall_of(t);
  MESSAGE("share of the source " << share << "; recall " << recall);
  CHECK(share > 0.75);
  CHECK(recall > 0.7);
  CHECK_THROWS_AS(fit_heads(t, 10), Error);
}

TEST_CASE("where carriers write a direction of its own for each name, fitted heads tell names apart at once") {
  RecallTrainer carriers = pair_trainer(pair_model(), kCarry + kAllHeads + R"(, "hand_on": 0.5)");
  Task cancelled;
  cancelled.cancel();
  CHECK_THROWS_AS(fit_heads(carriers, 10, &cancelled), Error);
  fit_heads(carriers, 10);
  for (int i = 0; i < 150; ++i) carriers.step();
  RecallTrainer plain = pair_trainer(carried().model, kRetrieve),
                t = pair_trainer(Model::build(carriers.gguf(TensorType::F32), exact()), kRetrieve);
  fit_heads(plain, 10);
  fit_heads(t, 10);
  MESSAGE("share of the source " << source_share_of(t) << "; recall " << recall_of(t));
  CHECK(source_share_of(t) > source_share_of(plain) + 0.1);
  CHECK(recall_of(t) > recall_of(plain));
}

TEST_CASE("heads that cannot be fitted are refused: of a group some, without an offset, or with one that nothing has") {
  for (const std::string &wrong :
       {kCarry + R"(, "local_supervised": [[0, 0]], "hand_on": 0.5)",
        std::string(R"(, "train": "features", "supervision": 1, "supervised": [[1, 0, 0], [1, 1, 0]])"),
        std::string(R"(, "train": "retrieval", "supervised": [[1, 0], [1, 1]])"),
        std::string(R"(, "train": "retrieval", "supervised": [[1, 0, 0], [1, 1]])"),
        std::string(R"(, "train": "retrieval", "supervised": [[1, 0, 1], [1, 1, 1]])")}) {
    CAPTURE(wrong);
    RecallTrainer t = pair_trainer(carried().model, wrong);
    CHECK_THROWS_AS(fit_heads(t, 10), Error);
  }
}

TEST_CASE("steps that repeat sequences read the same ones, from a checkpoint too") {
  test::TemporaryFolder folder;
  const auto model = small_model("linear", 2);
  for (const std::string part : {"all", "retrieval"}) {
    CAPTURE(part);
    const std::string config = quick(
        R"(, "feature_scale": 1, "repeat": 3, "muon_rate": 0, "rate": 0, "gate_rate": 0, "muon_decay": 0, "decay": 0, "supervision": 1, "train": ")" +
        part + "\"");
    const auto loss = [](const StepReport &report) { return report.tally.supervision.retrieval.loss; };
    RecallTrainer t = trainer(model, config), other = trainer(model, config);
    std::vector<double> losses;
    for (int i = 0; i < 9; ++i) {
      losses.push_back(loss(t.step()));
      if (i == 3) {  // in the middle of the second three
        t.save(folder.file("state"));
        other.restore(folder.file("state"));
      }
      if (i > 3) CHECK(loss(other.step()) == losses.back());
      if (i % 3 > 0) CHECK(losses[static_cast<size_t>(i)] == losses[static_cast<size_t>(i - 1)]);
      else if (i > 0) CHECK(losses[static_cast<size_t>(i)] != losses[static_cast<size_t>(i - 1)]);
    }
  }
}

TEST_CASE("what was drawn together is read by one step after another, and again, from a checkpoint too") {
  test::TemporaryFolder folder;
  const auto model = small_model("linear", 2);
  for (const std::string &part :
       {std::string("\"all\""),
        std::string("\"attention\", \"layers\": [1, 1]")}) {  // of which the second keeps what its layer is fed
    CAPTURE(part);
    const std::string config = quick(
        R"(, "feature_scale": 1, "drawn": 1600, "repeat": 2, "muon_rate": 0, "rate": 0, "gate_rate": 0, "muon_decay": 0, "decay": 0, "supervision": 1, "train": )" +
        part);
    const auto loss = [](const StepReport &report) { return report.tally.supervision.retrieval.loss; };
    for (int saved = 0; saved < 5; ++saved) {
      RecallTrainer t = trainer(model, config), other = trainer(model, config);
      std::vector<double> losses;
      for (int i = 0; i < 8; ++i) {
        losses.push_back(loss(t.step()));
        if (i == saved) {
          t.save(folder.file("state"));
          other.restore(folder.file("state"));
        }
        if (i > saved) CHECK(loss(other.step()) == losses.back());
      }
      for (size_t i = 0; i < 8; ++i) CHECK(losses[i] == losses[i / 4 * 4 + i % 2]);  // two steps read all, twice
      for (const size_t i : {1u, 4u, 5u}) CHECK(losses[i] != losses[i - 1]);
    }
  }
}

TEST_CASE(
    "sequences that are read again stay as they are, however the lessons go on, after a checkpoint and a cancel too") {
  // Grows with every step.
  class Growing : public SequenceLengths {
   public:
    int segment() const override { return 12; }
    int segments() const override { return segments_; }
    void observe(const Tally &) override { ++segments_; }
    std::string save() const override { return std::to_string(segments_); }
    void restore(const std::string &state) override { segments_ = std::stoi(state); }

   private:
    int segments_ = 4;
  };
  test::TemporaryFolder folder;
  const auto model = small_model("linear");
  const auto made = [&] {
    return RecallTrainer(model, test::train_config(quick(R"(, "tokens": 96, "drawn": 192, "repeat": 2)")),
                         std::make_unique<FactSource>(7), std::make_unique<Growing>(), 1);
  };
  for (int saved = 0; saved < 6; ++saved) {
    CAPTURE(saved);
    RecallTrainer t = made(), other = made();
    for (int i = 0; i < 8; ++i) {
      Task task;
      task.cancel();
      if (i == 2) CHECK_THROWS_AS(t.step(&task), Error);
      const StepReport report = t.step();
      if (i == saved) {
        t.save(folder.file("state"));
        other.restore(folder.file("state"));
      }
      if (i <= saved) continue;
      const StepReport again = other.step();
      CHECK(again.tally.loss == report.tally.loss);
      CHECK(again.tokens == report.tokens);
    }
    t.save(folder.file("a"));
    other.save(folder.file("b"));
    CHECK(test::read_text(folder.file("a")) == test::read_text(folder.file("b")));
  }
}

TEST_CASE("a source that fails, and cannot be put back, is put back before the next step") {
  class Failing : public FactSource {
   public:
    Failing(uint64_t seed, const int &trouble) : FactSource(seed), trouble_(trouble) {}
    Sequence next(int segment, int segments) override {
      Sequence sequence = FactSource::next(segment, segments);
      if (trouble_ > 0) fail(Status::IO, "gone");
      return sequence;
    }
    void restore(const std::string &state) override {
      if (trouble_ > 0) fail(Status::IO, "gone");
      FactSource::restore(state);
    }

   private:
    const int &trouble_;
  };
  const auto model = small_model("linear");
  int trouble = 0, none = 0;
  const auto made = [&](const int &when) {
    return RecallTrainer(model, test::train_config(quick("")), std::make_unique<Failing>(3, when), nullptr, 1);
  };
  RecallTrainer t = made(trouble), other = made(none);
  t.step(), other.step();
  trouble = 1;
  for (int i = 0; i < 2; ++i) CHECK_THROWS_WITH_AS(t.step(), doctest::Contains("gone"), Error);
  trouble = 0;
  for (int i = 0; i < 2; ++i) CHECK(t.step().tally.loss == other.step().tally.loss);
}

TEST_CASE("a sequence of 65,536 tokens is trained through in memory for a layer at a time" * test::needs_speed()) {
  const auto model = small_model("linear", 6);
  const auto step = [&](int megabytes) {
    RecallTrainer t = trainer(model, quick(R"(, "tokens": 65536, "segment": 64, "segments": 1024, "activations_mb": )" +
                                           std::to_string(megabytes)));
    const int64_t before = t.bytes();
    const StepReport report = t.step();
    CHECK(report.tokens == 65536);
    CHECK(report.tally.across == kKeys);  // stated up to 65,472 tokens before
    return std::pair(t.bytes() - before, report.gradient_norm);
  };
  const auto [kept, norm] = step(1 << 20);
  const auto [again, same] = step(0);
  CHECK(again < 0.45 * static_cast<double>(kept));
  CHECK(same == doctest::Approx(norm).epsilon(1e-5));
  MESSAGE("bytes a token: ", static_cast<double>(again) / 65536, ", kept ", static_cast<double>(kept) / 65536);
}

TEST_CASE("a cancelled step has not happened") {
  const auto model = small_model("linear");
  RecallTrainer t = trainer(model, quick(R"(, "rows": 100)")), other = trainer(model, quick(R"(, "rows": 100)"));
  t.step();
  Task task;
  task.cancel();
  CHECK_THROWS_AS(t.step(&task), Error);
  t.step(&task);
  other.step();
  other.step();
  test::TemporaryFolder folder;
  t.save(folder.file("a"));
  other.save(folder.file("b"));
  CHECK(test::read_text(folder.file("a")) == test::read_text(folder.file("b")));
}

TEST_CASE("configurations that are wrong are refused by name") {
  const auto refused = [](const std::string &json, const std::string &word) {
    try {
      trainer(small_model("linear"), json);
    } catch (const Error &error) {
      return error.status() == Status::INVALID_ARGUMENT && std::string(error.what()).find(word) != std::string::npos;
    }
    return false;
  };
  CHECK(refused("{", "JSON"));
  CHECK(refused(R"({"trian": "all"})", "trian"));
  CHECK(refused(R"({"train": "some"})", "features"));
  CHECK(refused(R"({"train": "retrieval", "feature_scale": 1.6})", "feature_scale"));
  CHECK(refused(R"({"train": "retrieval", "gates": [[-1, -1, null]]})", "supervised"));
  CHECK(refused(R"({"drawn": -1})", "drawn"));
  CHECK(refused(R"({"rate": -1})", "rate"));
  CHECK(refused(R"({"layers": [0, 9]})", "layers"));
  CHECK(refused(R"({"supervised": [[0, 7]]})", "supervised"));
  CHECK(refused(R"({"supervised": [[0, 0, 0, 0]]})", "supervised"));
  CHECK(refused(R"({"supervised": [[0, 0, 0.5]]})", "supervised"));
  CHECK(refused(R"({"epsilon": -2})", "epsilon"));
  CHECK(refused(R"({"hand_on": 0.5, "local_supervised": [[0, 0]]})", "hand_on"));
  CHECK(refused(R"({"gates": [[0, 1]]})", "gates"));
  CHECK(refused(R"({"gates": [[0, 1, 1e39]]})", "gates"));
  CHECK(refused(R"({"gates": [[0, 1, -1e39]]})", "gates"));
  CHECK_THROWS_WITH_AS(
      trainer(small_model("linear", 2),
              R"({"train": "features", "layers": [1, 1], "hand_on": 0.5, "local_supervised": [[0, 0], [0, 1]]})"),
      doctest::Contains("layer 0, which is not trained"), Error);
  CHECK(refused(R"({"lora": {"targets": ["x"]}})", "targets"));
  // What is described is read back the same.
  const std::string text = describe(test::train_config(
      R"({"train": "lora", "gates": [[-1, -1, null], [0, 1, 0.5]], "supervised": [[0, 1], [0, 0, 3]], "silence": 0.5, "epsilon": 1, "schedule": "cosine"})"));
  CHECK(describe(test::train_config(text)) == text);
}
