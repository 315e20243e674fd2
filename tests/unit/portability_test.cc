// Snapshots from elsewhere: another instruction set, another thread count, and files of every version of the format
// that was ever released, which must open for ever.
#include "support.h"

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

// Names and sizes of the sections, and the names in the header's JSON: within a version none may go, or change; names may
// be added that readers can do without.
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
