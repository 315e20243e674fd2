// Damaged adapters: each must be refused with a proper error, or leave a model that reads and writes.
#include "../unit/temporary_folder.h"
#include "model/plan.h"
#include "mutations.h"
#include "stream/session.h"

namespace {

using namespace infini;

const char *const kModel = INFINI_SOURCE_DIR "/tests/fixtures/infini/delta-rope-yarn.gguf";

// For the matrices of one layer, with keys of a memory.
std::string adapter_of(const Model &model, const std::string &path) {
  Gguf adapter;
  adapter.set("general.architecture", std::string(model.config().architecture->name));
  adapter.set("adapter.type", std::string("lora"));
  adapter.set("adapter.lora.alpha", 4.0f);
  for (const auto &[key, value] : model.gguf().entries())
    if (key.starts_with("infini.")) adapter.set(key, value);
  constexpr int64_t kRank = 2;
  for (const TensorSpec &spec : tensor_table(model.config())) {
    if (spec.layer != 0 || spec.role == Role::NORM || spec.role == Role::BIAS) continue;
    const auto add = [&](const char *suffix, int64_t columns, int64_t rows) {
      const std::vector<float> values(static_cast<size_t>(columns * rows), 0.01f);
      const auto bytes = std::as_bytes(std::span(values));
      adapter.add_tensor(spec.name + suffix, TensorType::F32, {columns, rows}, {bytes.begin(), bytes.end()});
    };
    add(".lora_a", spec.columns, kRank);
    add(".lora_b", kRank, spec.rows);
  }
  adapter.save(path);
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

int main(int argc, char **argv) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("adapter.gguf");
  const std::vector<fuzz::Original> originals = {fuzz::original(adapter_of(*Model::open(kModel, {}), path))};
  Options options;
  options.set("adapter", path);
  return fuzz::run_mutations(argc, argv, originals, [&](std::span<const std::byte> bytes) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return fuzz::accepts([&] {
      const auto model = Model::open(kModel, options);
      Session session(model, {});
      std::vector<int32_t> tokens(30);
      for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i) % model->config().vocabulary;
      session.feed(tokens);
      session.close_segment();
      session.next();
    });
  });
}
