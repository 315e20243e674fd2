// What an open model takes: the memory of its file, once.
#include "support.h"

#include <sstream>

#include "model/model.h"
#include "temporary_folder.h"

using namespace infini;

namespace {

// A line of /proc/self/status, in bytes; 0 where there is none.
int64_t status_line(const std::string &name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(name + ":")) continue;
    std::istringstream words(line.substr(name.size() + 1));
    int64_t kilobytes = 0;
    words >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}
int64_t resident() { return status_line("VmRSS"); }

// From now on VmHWM is the most of what follows.
bool reset_peak() { return (std::ofstream("/proc/self/clear_refs") << '5' << std::flush).good(); }

CreateConfig shape(bool tied) {
  CreateConfig c;
  c.layers = 3;
  c.width = 512;
  c.heads = c.kv_heads = 8;
  c.hidden = 1536;
  c.vocabulary = 8192;
  c.tied = tied;
  return c;
}

}  // namespace

TEST_CASE("an open model takes the memory of its file, once: while opening, with all rows read, and hashed" *
          test::needs(!test::kSanitized && resident() > 0, "/proc/self/status, and no sanitizer")) {
  const test::TemporaryFolder folder;
  Options options;
  options.set("weights", std::string("f32"));
  options.set("threads", int64_t{2});
  for (const bool tied : {true, false}) {
    CAPTURE(tied);
    const std::string path = folder.file("model.gguf");
    Model::create(shape(tied), options)->save(path);
    const auto size = static_cast<int64_t>(std::filesystem::file_size(path));
    const int64_t most = size + size / 10;
    Model::open(path, options);  // code that is needed is in memory from here on
    const bool has_peak = reset_peak();
    const int64_t before = resident();
    const auto model = Model::open(path, options);
    MESSAGE("a file of " << size << " bytes takes " << resident() - before << ", at most "
                         << status_line("VmHWM") - before);
    CHECK(resident() - before <= most);
    // Stretches of a MB that each thread reads, and what opening itself needs.
    if (has_peak) CHECK(status_line("VmHWM") - before <= most + (4 << 20));
    else std::puts("skipped: the most that opening takes, which this system does not tell");
    std::vector<float> row(512);
    for (int32_t token = 0; token < 8192; ++token) model->weights().embed(token, row.data());
    model->fingerprint();
    model->save(folder.file("copy.gguf"));
    // An embedding of its own is in the file alone.
    const int64_t embedding = tied ? 0 : 8192 * 512 * 4;
    CHECK(model->weights().bytes() + embedding <= size);
    CHECK(resident() - before <= most);
  }
}

TEST_CASE("rows of a tied embedding are the file's own numbers, whatever the output is packed in") {
  const test::TemporaryFolder folder;
  CreateConfig small = shape(true);
  small.layers = 1;
  small.vocabulary = 100;
  const std::string path = folder.file("model.gguf");
  Model::create(small, {})->save(path);
  const Gguf file = Gguf::open(path);
  const GgufTensor &embedding = *file.find_tensor("token_embd.weight");
  for (const char *weights : {"file", "f32", "bf16"}) {
    Options options;
    options.set("weights", std::string(weights));
    const auto model = Model::open(path, options);
    std::vector<float> row(512), expected(512);
    int wrong = 0;
    for (int32_t token = 0; token < 100; ++token) {
      model->weights().embed(token, row.data());
      unpack(embedding.type, embedding.data.data() + token * 512 * 4, 512, expected.data());
      wrong += row != expected;
    }
    CHECK(wrong == 0);
  }
}
