// The engine against golden values from a float64 reference that goes token by token.
#include "support.h"

#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "hf_tokenizer.h"
#include "model/layers.h"
#include "stream/session.h"
#include "temporary_folder.h"

using namespace infini;

namespace {

Options options_of(const std::string &compute, const std::string &gemm = "auto") {
  Options options;
  options.set("compute", compute);
  options.set("gemm", gemm);
  return options;
}

// Golden files of one model: NAME.tokens.i32, .logits.f32, .M.f32, .z.f32 and the token counts after which
// the segment was closed by hand.
struct Golden {
  std::vector<int32_t> tokens;
  std::vector<float> logits, M, z;
  std::set<size_t> closes;
};

Golden read_golden(const std::string &stem) {
  Golden golden{test::read_numbers<int32_t>(stem + ".tokens.i32"),
                test::read_numbers<float>(stem + ".logits.f32"),
                test::read_numbers<float>(stem + ".M.f32"),
                test::read_numbers<float>(stem + ".z.f32"),
                {}};
  const auto json = nlohmann::json::parse(test::read_text(stem + ".json"));
  std::string closes = json.value("closes", "");
  for (size_t at = 0; at < closes.size();) {
    size_t end = closes.find('+', at);
    if (end == std::string::npos) end = closes.size();
    golden.closes.insert(static_cast<size_t>(std::stoi(closes.substr(at, end - at))));
    at = end + 1;
  }
  return golden;
}

// Feeds `cut` tokens a call (0: all), closing where the golden run did; returns all logits.
std::vector<float> run(Session &session, const Golden &golden, size_t cut) {
  const auto vocabulary = static_cast<size_t>(session.model().config().vocabulary);
  std::vector<float> logits(golden.tokens.size() * vocabulary);
  for (size_t done = 0; done < golden.tokens.size();) {
    size_t count = cut ? std::min(cut, golden.tokens.size() - done) : golden.tokens.size() - done;
    const auto next = golden.closes.upper_bound(done);
    if (next != golden.closes.end()) count = std::min(count, *next - done);
    session.feed_logits({golden.tokens.data() + done, count}, logits.data() + done * vocabulary);
    done += count;
    if (golden.closes.count(done)) session.close_segment();
  }
  return logits;
}

void check_memory(const Session &session, const Golden &golden, double tolerance) {
  const Config &config = session.model().config();
  std::vector<float> M, z;
  for (int l = 0; l < config.layers; ++l) {
    for (int h = 0; h < config.kv_heads; ++h) {
      const Memory &memory = layers_of(session.state())[static_cast<size_t>(l)].memory[static_cast<size_t>(h)];
      REQUIRE(memory);
      for (int i = 0; i < config.key_size; ++i) {
        z.push_back(memory.normaliser(i));
        for (int j = 0; j < config.value_size; ++j) M.push_back(memory.matrix(i, j));
      }
    }
  }
  CHECK(test::relative_difference(M, golden.M) < tolerance);
  CHECK(test::relative_difference(z, golden.z) < tolerance);
}

const char *const kModels[] = {"linear",
                               "delta",
                               "delta-ungated-mqa",
                               "delta-wide-mha",
                               "linear-carry-sinks",
                               "delta-closed-early",
                               "linear-closed-early-carry",
                               "linear-epsilon",
                               "linear-rope-linear",
                               "linear-rope-factors",
                               "delta-rope-yarn"};

}  // namespace

TEST_CASE("logits and memories equal the golden ones for every cut of the input and every library") {
  for (const char *name : kModels) {
    const std::string stem = test::fixture(std::string("infini/") + name);
    const Golden golden = read_golden(stem);
    for (const char *gemm : test::kGemms) {
      const auto model = Model::open(stem + ".gguf", options_of("f32", gemm));
      for (const size_t cut : {0, 1, 3, 7}) {
        CAPTURE(name);
        CAPTURE(gemm);
        CAPTURE(cut);
        Session session(model, {});
        const std::vector<float> logits = run(session, golden, cut);
        const double difference = test::relative_difference(logits, golden.logits);
        CHECK(difference < 2e-5);
        if (cut == 0) MESSAGE(name << " " << gemm << ": " << difference);
        check_memory(session, golden, 2e-5);
      }
    }
  }
}

TEST_CASE("numbers that are not finite are refused where they stand, whether or not a product reads them") {
  CreateConfig config;
  config.layers = 1, config.width = 32, config.heads = 2, config.kv_heads = 1, config.hidden = 48,
  config.vocabulary = 70, config.tied = false;
  const test::TemporaryFolder folder;
  Model::create(config, {})->save(folder.file("model.gguf"));
  const Gguf whole = Gguf::open(folder.file("model.gguf"));
  const auto refused = [&](const std::string &tensor, const std::string &key, GgufValue value) {
    Gguf gguf;
    for (const auto &[name, entry] : whole.entries()) gguf.set(name, entry);
    if (!key.empty()) gguf.set(key, std::move(value));
    for (const GgufTensor &t : whole.tensors()) {
      std::vector<std::byte> data(t.data.begin(), t.data.end());
      const float bad = std::numeric_limits<float>::quiet_NaN();
      if (t.name == tensor) std::memcpy(data.data() + data.size() - sizeof bad, &bad, sizeof bad);
      gguf.add_tensor(t.name, t.type, t.shape, std::move(data));
    }
    try {
      Model::build(std::move(gguf), {});
    } catch (const Error &error) {
      CHECK(error.status() == Status::FORMAT);
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(refused("", "", {}) == "");
  for (const char *name : {"token_embd.weight", "output.weight", "blk.0.ffn_down.weight", "blk.0.attn_norm.weight"})
    CHECK(refused(name, "", {}).find(name) != std::string::npos);
  CHECK(refused("", "llama.rope.scale_linear", 1e-320).find("rotation") != std::string::npos);
  CHECK(refused("", "infini.memory.gate", test::array(test::GGUF_F64, std::vector<double>{0.5, 1e39})).find("gate") !=
        std::string::npos);
}
