// Damaged models: each must be refused with a proper error, or be a model that reads and writes.
#include <new>

#include "mutations.h"
#include "stream/session.h"

namespace {

bool touch_model(std::span<const std::byte> bytes) {
  using namespace infini;
  try {
    const auto model = Model::build(Gguf::parse(bytes, "fuzzed"), Options());
    if (model->has_tokenizer())
      model->tokenizer().decode(model->tokenizer().encode("Once upon a time, 12 \xc3\xa9", {true, true}));
    if (!model->has_weights()) return true;
    Session session(model, {});
    std::vector<int32_t> tokens(30);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i) % model->config().vocabulary;
    session.feed(tokens);
    session.close_segment();
    session.feed(tokens);
    session.next();
  } catch (const Error &error) {
    // What a damaged number may lead to: INVALID_ARGUMENT is "no token is possible", for logits that are not finite.
    const Status status = error.status();
    if (status == Status::INTERNAL || status == Status::STATE || std::string(error.what()).empty()) throw;
    return false;
  } catch (const std::bad_alloc &) {
    return false;  // a window that the file asks for and this machine cannot hold
  }
  return true;
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
