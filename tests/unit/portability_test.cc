// Snapshots from elsewhere: another instruction set, another thread count, and files of every version of the format
// that was ever released, which must open for ever.
#include "support.h"

#include <cstring>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/testing.h"
#include "format/snapshot.h"
#include "stream/session.h"
#include "temporary_folder.h"

using namespace infini;
using Kind = Session::SnapshotKind;
using nlohmann::json;

namespace {

constexpr double kRounding = 2e-5;  // of f32 logits, in their standard deviation

std::vector<int32_t> stream_of(int32_t count) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < count; ++i) tokens.push_back((i * 37 + i * i) % 96);
  return tokens;
}

std::shared_ptr<const Model> fixture_model(const std::string &compute = "f32", const std::string &gemm = "auto") {
  Options options;
  options.set("compute", compute);
  options.set("gemm", gemm);
  return Model::open(test::fixture("infini/linear-carry-sinks.gguf"), options);
}

Options session_options(int64_t threads) {
  Options options;
  options.set("checkpoints", int64_t{2});
  options.set("threads", threads);
  options.set("max_tokens", int64_t{-1});
  return options;
}

std::vector<float> logits_after(Session &session, std::span<const int32_t> tokens) {
  session.feed(tokens);
  return {session.logits().begin(), session.logits().end()};
}

void check_close(std::span<const float> actual, std::span<const float> expected) {
  CHECK(test::relative_difference(actual, expected) < kRounding);
}

// Names and sizes of the sections, and the names in the header's JSON: within a version none may go, or change; names
// may be added that readers can do without.
json layout_of(const std::vector<std::byte> &bytes) {
  const SnapshotView view(bytes, "snapshot");
  json layout = {{"version", view.version()}, {"sections", json::array()}, {"names", json::array()}};
  for (const SnapshotView::Entry &entry : view.entries()) layout["sections"].push_back({entry.name, entry.size});
  const json names = json::parse(view.json()).flatten();
  for (const auto &[name, value] : names.items()) layout["names"].push_back(name);
  return layout;
}

void check_layout(const json &now, const json &then) {
  CHECK(now["version"] == then["version"]);
  CHECK(now["sections"] == then["sections"]);
  for (const json &name : then["names"])
    CHECK_MESSAGE(std::count(now["names"].begin(), now["names"].end(), name) == 1, name);
}

std::vector<std::byte> read_bytes(const std::string &path) {
  const MappedFile file(path);
  return {file.bytes().begin(), file.bytes().end()};
}

// INFINI_WRITE_FIXTURES=1 makes the files of a new version; those of released ones are never made again.
void write_fixtures(const std::string &stem, const std::shared_ptr<const Model> &model) {
  Session session(model, session_options(1));
  session.feed(stream_of(90));
  session.save(stem + ".snap", Kind::SESSION, {"golden", "90 tokens"});
  session.save(stem + ".memory.snap", Kind::MEMORY, {"golden", "the memory of 90 tokens"});
  Options compressed;
  compressed.set("compress", int64_t{3});
  session.set_options(compressed);
  session.save(stem + ".compressed.snap", Kind::SESSION, {"golden", "90 tokens"});
}

}  // namespace

TEST_CASE("a snapshot of every released version goes on as the stream that it was taken of") {
  const auto model = fixture_model();
  const std::vector<int32_t> more = stream_of(30);
  for (uint32_t version = 1; version <= kSnapshotVersion; ++version) {
    const std::string stem = test::fixture("snapshots/") + std::to_string(version);
    const char *write = std::getenv("INFINI_WRITE_FIXTURES");
    if (write && *write == '1' && version == kSnapshotVersion) write_fixtures(stem, model);
    for (const char *kind : {".snap", ".compressed.snap", ".memory.snap"}) {
      CAPTURE(version);
      CAPTURE(kind);
      const bool whole = std::string(kind) != ".memory.snap";
      Session fed(model, session_options(1)), restored(model, session_options(1));
      fed.feed(stream_of(90));
      if (!whole) fed.restore(fed.save(Kind::MEMORY, {}));
      const auto bytes = read_bytes(stem + kind);
      restored.restore(bytes);
      CHECK(restored.position() == 90);
      CHECK(restored.boundaries() == fed.boundaries());
      if (whole) {
        check_close(restored.logits(), fed.logits());
        const auto saved = restored.save(Kind::SESSION, {"golden", "90 tokens"});
        if (version == kSnapshotVersion && std::string(kind) == ".snap")
          check_layout(layout_of(saved), layout_of(bytes));
      }
      check_close(logits_after(restored, more), logits_after(fed, more));
    }
  }
}

TEST_CASE("so does one whose window is in bf16 and keeps sentences, and in a session that computes in f32") {
  const auto open = [](const char *compute) {
    Options options;
    options.set("compute", std::string(compute));
    for (const auto &[name, value] : {std::pair{"segment", 20}, {"carry", 24}, {"keep", 16}})
      options.set(name, int64_t{value});
    return Model::open(test::fixture("infini/linear-carry-sinks.gguf"), options);
  };
  const std::vector<int32_t> more = stream_of(30);
  for (uint32_t version = 1; version <= kSnapshotVersion; ++version) {
    CAPTURE(version);
    const std::string path = test::fixture("snapshots/") + std::to_string(version) + ".bf16.snap";
    const char *write = std::getenv("INFINI_WRITE_FIXTURES");
    if (write && *write == '1' && version == kSnapshotVersion) {
      Session session(open("bf16"), session_options(1));
      session.feed(stream_of(133));
      session.save(path, Kind::SESSION, {"golden", "133 tokens"});
    }
    for (const char *compute : {"bf16", "f32"}) {
      CAPTURE(std::string(compute));
      Session fed(open(compute), session_options(1)), restored(open(compute), session_options(1));
      fed.feed(stream_of(133));
      restored.restore(path);
      CHECK(restored.state().view.kept > 0);
      CHECK(restored.state().view.kept == fed.state().view.kept);
      CHECK(restored.boundaries() == fed.boundaries());
      CHECK(test::relative_difference(logits_after(restored, more), logits_after(fed, more)) < 0.05);
      restored.rewind(restored.boundaries().front() + 1);
      fed.rewind(fed.boundaries().front() + 1);
      CHECK(test::relative_difference(logits_after(restored, more), logits_after(fed, more)) < 0.05);
    }
  }
}

// Our own products follow the limit too; oneDNN's do as they like.
void check_instruction_sets(const std::string &compute, const std::string &gemm, double bound) {
  const EagerThreads eager;
  const auto model = fixture_model(compute, gemm);
  const std::vector<int32_t> more = stream_of(40);
  const char *const sets[] = {"avx2", "avx512", "best"};
  for (const char *saver : sets) {
    CAPTURE(compute);
    CAPTURE(gemm);
    limit_instruction_set(saver);
    Session session(model, session_options(1));
    session.feed(stream_of(70));
    const auto bytes = session.save(Kind::SESSION, {});
    const std::vector<float> expected = logits_after(session, more);
    for (const char *restorer : sets) {
      CAPTURE(saver);
      CAPTURE(restorer);
      limit_instruction_set(restorer);
      for (const int64_t threads : {1, 2, 3}) {
        Session restored(model, session_options(threads));
        restored.restore(bytes);
        const int64_t shared = eager.items_of_others();
        CHECK(test::relative_difference(logits_after(restored, more), expected) < bound);
        CHECK((eager.items_of_others() > shared) == (threads > 1));
      }
    }
  }
  limit_instruction_set("best");
}

TEST_CASE("a snapshot goes on with another instruction set and another number of threads") {
  for (const char *gemm : {"auto", "native"}) {
    check_instruction_sets("f32", gemm, kRounding);
    check_instruction_sets("bf16", gemm, 0.05);
  }
}

TEST_CASE("a snapshot saved under any compute type, products and instruction set opens under any other") {
  struct Setting {
    const char *compute, *gemm, *set;
  };
  std::vector<Setting> settings;
  for (const char *compute : {"f32", "bf16"})
    for (const char *gemm : test::kGemms)
      for (const char *set : {"avx2", "best"}) settings.push_back({compute, gemm, set});
  const std::vector<int32_t> more = stream_of(30);
  Session plain(fixture_model(), session_options(1));
  plain.feed(stream_of(83));
  const std::vector<float> expected = logits_after(plain, more);
  for (const Setting &saver : settings) {
    limit_instruction_set(saver.set);
    Session session(fixture_model(saver.compute, saver.gemm), session_options(1));
    session.feed(stream_of(83));
    const auto bytes = session.save(Kind::SESSION, {});
    for (const Setting &restorer : settings) {
      for (const Setting *s : {&saver, &restorer}) CAPTURE(cat(s->compute, " ", s->gemm, " ", s->set));
      limit_instruction_set(restorer.set);
      Session restored(fixture_model(restorer.compute, restorer.gemm), session_options(2));
      restored.restore(bytes);
      const bool f32 = std::string(saver.compute) == "f32" && std::string(restorer.compute) == "f32";
      CHECK(test::relative_difference(logits_after(restored, more), expected) < (f32 ? kRounding : 0.05));
    }
  }
  limit_instruction_set("best");
}

TEST_CASE("the window of a snapshot holds rows of tokens: no panels, and nothing that nobody needs") {
  const auto model = fixture_model();
  const Config &config = model->config();
  for (const char *compute : {"f32", "bf16"}) {
    CAPTURE(std::string(compute));
    Session session(fixture_model(compute), {});
    session.feed(stream_of(83));
    const auto bytes = session.save(Kind::SESSION, {});
    const SnapshotView file(bytes, "snapshot");
    const View &view = session.state().view;
    const int64_t number = std::string(compute) == "f32" ? 4 : 2, both = config.key_size + config.value_size;
    int64_t size = 0;
    for (int l = 0; l < config.layers; ++l)
      for (int h = 0; h < config.kv_heads; ++h)
        size += number * (view.keys() * both + (config.has_memory(l, h) ? view.open() * config.key_size : 0)) +
                4 * config.memory.sinks * both;
    CHECK(file.entry("window").size == static_cast<uint64_t>(size));
    // The first head's value of the stream's first token, which is a sink: as a row of the list, and in f32.
    std::vector<std::byte> window(static_cast<size_t>(size));
    file.read("window", {window});
    const auto at = [&](int64_t place) { return window.data() + place; };
    const int64_t values = number * view.keys() * config.key_size,
                  sinks = number * (view.keys() * both + (config.has_memory(0, 0) ? view.open() * config.key_size : 0));
    for (int64_t i = 0; i < config.memory.sinks * config.value_size; ++i) {
      float row, sink;
      uint16_t half;
      std::memcpy(&sink, at(sinks + 4 * (config.memory.sinks * config.key_size + i)), 4);
      if (number == 4) std::memcpy(&row, at(values + 4 * i), 4);
      else
        std::memcpy(&half, at(values + 2 * i), 2), widen(&half, 1, &row), narrow(&sink, 1, &half),
            widen(&half, 1, &sink);
      CHECK(row == sink);
      CHECK(row != 0);
    }
  }
}
