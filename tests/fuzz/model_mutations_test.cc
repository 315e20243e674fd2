// Damaged models: each must be refused with a proper error, or be a model that reads and writes.
#include "mutations.h"
#include "stream/session.h"

namespace {

bool touch_model(std::span<const std::byte> bytes) {
  using namespace infini;
  return fuzz::accepts([&] {
    const auto model = Model::build(Gguf::parse(bytes, "fuzzed"), Options());
    if (model->has_tokenizer())
      model->tokenizer().decode(model->tokenizer().encode("Once upon a time, 12 \xc3\xa9", {true, true}));
    if (!model->has_weights()) return;
    Session session(model, {});
    std::vector<int32_t> tokens(30);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i) % model->config().vocabulary;
    session.feed(tokens);
    session.close_segment();
    session.feed(tokens);
    session.next();
  });
}

std::string read(const char *path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

int main(int argc, char **argv) {
  const std::vector<fuzz::Original> originals = {
      fuzz::original(read(INFINI_SOURCE_DIR "/tests/fixtures/infini/delta-ungated-mqa.gguf")),
      fuzz::original(read(INFINI_SOURCE_DIR "/tests/fixtures/infini/delta-rope-yarn.gguf")),
      fuzz::original(read(INFINI_SOURCE_DIR "/samples/models/stories260K.gguf"))};
  return fuzz::run_mutations(argc, argv, originals, touch_model);
}
