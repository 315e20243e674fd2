// The promises of snapshots, rewinding and forks.
#include "support.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <optional>
#include <nlohmann/json.hpp>
#include <set>

#include "base/file.h"
#include "base/random.h"
#include "base/testing.h"
#include "decaying_memory.h"
#include "format/snapshot.h"
#include "model/footprint.h"
#include "model/layers.h"
#include "seal.h"
#include "sessions.h"
#include "temporary_folder.h"

using namespace infini;
using test::options_of;
using test::status_of;
using Kind = Session::SnapshotKind;

namespace {

constexpr const char *kModelOptions[] = {"compute", "window_type", "gemm",  "memory", "update",
                                         "segment", "carry",       "sinks", "keep"};

CreateConfig small_config(int64_t seed = 5, const std::string &update = "delta") {
  CreateConfig config;
  config.layers = 2, config.width = 32, config.heads = 4, config.kv_heads = 2, config.hidden = 64,
  config.vocabulary = 100;
  config.segment = 24, config.carry = 10, config.sinks = 3, config.update = update, config.seed = seed;
  return config;
}

std::shared_ptr<const Model> small_model(const char *compute = "f32", int64_t seed = 5) {
  return Model::create(small_config(seed), test::computing(compute));
}

std::vector<int32_t> random_tokens(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t &token : tokens) token = static_cast<int32_t>(random.uniform() * 100);
  return tokens;
}

const Options kSampling = options_of({{"temperature", 1.0},
                                      {"seed", int64_t{7}},
                                      {"repetition_penalty", 1.2},
                                      {"penalty_window", int64_t{20}},
                                      {"max_tokens", int64_t{-1}},
                                      {"checkpoints", int64_t{3}}});

// Everything that can be observed of what follows: logits after more tokens, then generated ones.
struct Future {
  std::vector<float> logits;
  std::vector<int32_t> tokens;
  bool operator==(const Future &) const = default;
};
Future future_of(Session &session) {
  Future future;
  for (int i = 0; i < 30; ++i) future.tokens.push_back(session.next().value());
  session.feed(random_tokens(40, 99));
  future.logits.assign(session.logits().begin(), session.logits().end());
  return future;
}

}  // namespace

TEST_CASE("what follows a restore is bit for bit what would have followed without it") {
  for (const char *compute : {"f32", "bf16", "f32/int8", "bf16/int8"}) {
    const auto model = small_model(compute);
    for (const int64_t level : {0, 3}) {
      for (const size_t fed : {1, 3, 23, 24, 25, 60, 72, 200}) {
        CAPTURE(fed);
        Session session(model, kSampling);
        session.set_options(options_of({{"compress", level}}));
        session.feed(random_tokens(fed, fed));
        for (int i = 0; i < 5; ++i) session.next();
        const auto bytes = session.save(Kind::SESSION, {"a name", "a note"});
        const Future expected = future_of(session);
        Session fresh(model, options_of({{"checkpoints", int64_t{3}}, {"max_tokens", int64_t{-1}}}));
        fresh.restore(bytes);
        CHECK(fresh.position() == static_cast<int64_t>(fed) + 5);
        CHECK(fresh.save(Kind::SESSION, {"a name", "a note"}).size() > 0);
        CHECK(future_of(fresh) == expected);
        session.restore(bytes);  // into a session that went on
        CHECK(future_of(session) == expected);
      }
    }
  }
}

TEST_CASE("sessions with every kind of memory are saved and restored, take the same bytes, and refuse another kind") {
  REQUIRE(memory_kind_names().size() == 3);
  std::vector<int64_t> bytes, lines;
  std::set<std::string> footprints;
  for (const std::string &kind : memory_kind_names()) {
    CAPTURE(kind);
    const std::string another = kind == "linear" ? "delta" : "linear";
    const auto model = Model::create(small_config(5, kind), {}),
               other = Model::create(small_config(5, kind), options_of({{"update", another}}));
    CHECK(model->config().memory.kind == find_memory_kind(kind));
    footprints.insert(footprint(*model, 1000).text());
    Session session(model, kSampling), restored(model, kSampling), fresh(other, kSampling);
    session.feed(random_tokens(100, 1));
    for (const Kind what : {Kind::SESSION, Kind::MEMORY}) {
      std::string message;
      CHECK(status_of([&] { fresh.restore(session.save(what, {})); }, &message) == Status::MODEL_MISMATCH);
      CHECK(message.find("update") != std::string::npos);
    }
    bytes.push_back(session.state().bytes());
    lines.push_back(layers_of(session.state())[1].memory[1].bytes());
    CHECK(&layers_of(session.state())[1].memory[1].kind() == find_memory_kind(kind));
    restored.restore(session.save(Kind::SESSION, {}));
    CHECK(future_of(restored) == future_of(session));
  }
  CHECK(std::set(bytes.begin(), bytes.end()).size() == 1);
  REQUIRE(footprints.size() == 1);
  const std::string line = cat("\"infini_attention\",\"values\":", 2 * 2 * (8 * 8 + 8));  // M and z of a head
  CHECK(footprints.begin()->find(line) != std::string::npos);
  CHECK(std::set(lines.begin(), lines.end()) == std::set<int64_t>{2 * 4 * (8 * 64 + 8)});  // sums and what they rounded
}

TEST_CASE("a saved file replaces the old one and restores") {
  const auto model = small_model();
  Session session(model, kSampling), other(model, kSampling);
  session.feed(random_tokens(50, 1));
  session.save("snapshot_test.snap", Kind::SESSION, {});
  session.feed(random_tokens(50, 2));
  session.save("snapshot_test.snap", Kind::SESSION, {});
  other.restore("snapshot_test.snap");
  CHECK(other.position() == 100);
  CHECK(future_of(other) == future_of(session));
  std::remove("snapshot_test.snap");
}

TEST_CASE("a snapshot goes where the caller says once its size is known, and nowhere where only that is wanted") {
  const auto model = small_model();
  for (const int64_t level : {0, 3}) {
    Options options = kSampling;
    options.set("compress", level);
    Session session(model, options);
    session.feed(random_tokens(50, 1));
    for (const Kind kind : {Kind::SESSION, Kind::MEMORY}) {
      const std::vector<std::byte> expected = session.save(kind, {"name", "note"});
      size_t told = 0;
      session.save(kind, {"name", "note"}, [&](size_t size) -> std::byte * {
        told = size;
        return nullptr;
      });
      CHECK(told == expected.size());
      std::vector<std::byte> room(told + 1, std::byte{7});
      session.save(kind, {"name", "note"}, [&](size_t) { return room.data(); });
      CHECK(std::equal(expected.begin(), expected.end(), room.begin()));
      CHECK(room.back() == std::byte{7});
    }
  }
}

TEST_CASE("a memory alone is what closing the segment would give, and leaves the session as it was") {
  const auto model = small_model();
  Session session(model, kSampling), closed(model, kSampling), restored(model, kSampling);
  session.feed(random_tokens(60, 1));
  closed.feed(random_tokens(60, 1));
  const auto bytes = session.save(Kind::MEMORY, {});
  CHECK(session.segment_position() == 12);
  CHECK(future_of(session) == future_of(closed));
  closed.reset();
  closed.feed(random_tokens(60, 1));
  closed.close_segment();
  restored.restore(bytes);
  CHECK(restored.position() == 60);
  CHECK(restored.memory_tokens() == 60);
  CHECK(status_of([&] { restored.logits(); }) == Status::STATE);
  for (size_t l = 0; l < 2; ++l)
    for (size_t h = 0; h < 2; ++h)
      for (int i = 0; i < 8; ++i)
        CHECK(layers_of(restored.state())[l].memory[h].matrix(i, i) ==
              layers_of(closed.state())[l].memory[h].matrix(i, i));
  restored.feed(random_tokens(100, 3));  // the local view starts empty and fills
  CHECK(restored.position() == 160);
}

TEST_CASE(
    "where nothing is carried, a memory alone goes on as the stream whose segment was closed, in segments of any "
    "length") {
  auto config = small_config();
  config.carry = config.sinks = 0;
  const auto model = Model::create(config, options_of({{"compute", std::string("f32")}}));
  const auto longer = Model::create(config, options_of({{"compute", std::string("f32")}, {"segment", int64_t{40}}}));
  REQUIRE(longer->rules().attention.shape.segment == 40);
  Session source(model, kSampling), closed(model, kSampling), restored(model, kSampling), elsewhere(longer, kSampling),
      fed(longer, kSampling);
  for (Session *session : {&source, &closed, &fed}) {
    session->feed(random_tokens(60, 1));
    if (session != &source) session->close_segment();
  }
  const auto bytes = source.save(Kind::MEMORY, {});
  restored.restore(bytes);
  elsewhere.restore(bytes);
  CHECK(elsewhere.segment_position() == 0);
  for (Session *session : {&closed, &restored, &elsewhere, &fed}) session->feed(random_tokens(37, 3));
  CHECK(std::equal(restored.logits().begin(), restored.logits().end(), closed.logits().begin()));
  CHECK(test::relative_difference(elsewhere.logits(), fed.logits()) >
        1e-3);  // cut elsewhere, Delta keeps something else
  Session empty(longer, kSampling);
  empty.feed(random_tokens(37, 3));
  CHECK(test::relative_difference(elsewhere.logits(), empty.logits()) > 1e-3);
}

TEST_CASE("a snapshot in the middle of a stop string, or of a character, goes on as if nothing had happened") {
  const auto model = Model::open(INFINI_SOURCE_DIR "/samples/models/stories260K.gguf",
                                 options_of({{"compute", std::string("f32")}, {"memory", std::string("open")}}));
  const Options options = options_of({{"temperature", 8.0},
                                      {"seed", int64_t{11}},
                                      {"max_tokens", int64_t{-1}},
                                      {"ignore_end", int64_t{1}},
                                      {"checkpoints", int64_t{2}},
                                      {"stop", std::string("the cat sat\nsomething very long")}});
  Session session(model, options);
  session.feed_text("Once upon a time");
  int held = 0, pending = 0;
  for (int i = 0; i < 400; ++i) {
    const auto bytes = session.save(Kind::SESSION, {});
    const auto json = nlohmann::json::parse(inspect_snapshot(bytes, "x", true));
    for (const auto &section : json["sections"]) {
      held += section["name"] == "held" && section["size"] > 0;
      pending += section["name"] == "pending" && section["size"] > 0;
    }
    Session restored(model, options);
    restored.restore(bytes);
    const auto fork = session.fork();
    for (int step = 0; step < 4; ++step) REQUIRE(test::next_text(restored) == test::next_text(*fork));
    // What next() does not give out as text stays back all the same.
    if (i % 5 == 0) test::next_text(session);
    else session.next();
  }
  CHECK(held > 0);
  CHECK(pending > 0);
}

// A value of an option that is neither its default nor that of another `turn`; nothing for a model's options.
std::optional<OptionValue> value_of(const OptionSpec &spec, int turn) {
  const std::string name = spec.name;
  if (std::find(std::begin(kModelOptions), std::end(kModelOptions), name) != std::end(kModelOptions)) return {};
  if (name == "logit_bias") return OptionValue("1:" + std::to_string(turn));
  if (spec.standard.index() == 2) return OptionValue("text " + std::to_string(turn));
  if (spec.standard.index() == 1) return OptionValue((spec.least + 1) / 2 + 0.125 * turn);
  if (spec.greatest == 1) return OptionValue(int64_t{1});
  return OptionValue(std::get<int64_t>(spec.standard) + turn);
}

TEST_CASE("of every option, what was given comes before what a snapshot brings, and that before the default") {
  const auto model = small_model();
  const std::vector<std::string> saved = {"max_tokens",
                                          "temperature",
                                          "top_k",
                                          "top_p",
                                          "min_p",
                                          "repetition_penalty",
                                          "presence_penalty",
                                          "frequency_penalty",
                                          "penalty_window",
                                          "logit_bias",
                                          "stop",
                                          "ignore_end",
                                          "seed"};
  size_t tried = 0;
  for (const OptionSpec &spec : option_table()) {
    const auto in_snapshot = value_of(spec, 1), given = value_of(spec, 2), later = value_of(spec, 3);
    if (!in_snapshot || spec.choices[0]) continue;
    CAPTURE(spec.name);
    ++tried;
    const auto same = [&](const Session &session, const OptionValue &expected) {
      return std::visit(
          [&](const auto &v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, int64_t>) return session.options().get_int(spec.name) == v;
        else if constexpr (std::is_same_v<T, double>) return session.options().get_double(spec.name) == v;
        else return session.options().get_string(spec.name) == v;
          },
          expected);
    };
    Session source(model, options_of({{spec.name, *in_snapshot}}));
    source.feed(random_tokens(30, 1));
    const auto bytes = source.save(Kind::SESSION, {});
    Session bare(model, {}), told(model, options_of({{spec.name, *given}})), late(model, {});
    late.set_options(options_of({{spec.name, *given}}));
    const bool brings = std::find(saved.begin(), saved.end(), spec.name) != saved.end();
    for (Session *session : {&bare, &told, &late}) session->restore(bytes);
    CHECK(same(bare, brings ? *in_snapshot : spec.standard));
    CHECK(same(told, *given));
    CHECK(same(late, *given));
    for (Session *session : {&bare, &told, &late}) {
      session->set_options(options_of({{spec.name, *later}}));
      CHECK(same(*session, *later));
      session->restore(bytes);
      CHECK(same(*session, *later));
    }
  }
  CHECK(tried >= 18);
}

TEST_CASE("a seed that is given restarts the random generator at a restore; without one the snapshot's goes on") {
  const auto model = small_model();
  const auto draw = [](Session &session) {
    std::vector<int32_t> tokens;
    for (int i = 0; i < 20; ++i) tokens.push_back(session.next().value());
    return tokens;
  };
  const Options drawing = options_of({{"temperature", 1.0}, {"max_tokens", int64_t{-1}}});
  Session source(model, kSampling);
  source.feed(random_tokens(60, 1));
  draw(source);
  const auto bytes = source.save(Kind::SESSION, {});
  const auto goes_on = draw(source);
  const auto after = [&](const Options &options, bool before) {
    Session session(model, before ? options : drawing);
    session.restore(bytes);
    if (!before) session.set_options(options);
    return draw(session);
  };
  CHECK(after({}, true) == goes_on);
  const auto seeded = [&](int64_t seed, bool before) {
    return after(options_of({{"temperature", 1.0}, {"max_tokens", int64_t{-1}}, {"seed", seed}}), before);
  };
  for (const int64_t seed : {0, 1, 2}) {
    CHECK(seeded(seed, true) != goes_on);
    CHECK(seeded(seed, true) == seeded(seed, false));
    CHECK(seeded(seed, true) != seeded(seed + 1, true));
  }
  // Going back to where the seed was given draws the same again.
  Session session(model,
                  options_of({{"seed", int64_t{3}}, {"rewind_sampler", int64_t{1}}, {"checkpoints", int64_t{3}}}));
  session.restore(bytes);
  const int64_t here = session.position();
  const auto first = draw(session);
  session.rewind(here);
  CHECK(draw(session) == first);
}

TEST_CASE("options that a snapshot brought outlast the restore of a memory alone") {
  const auto model = small_model();
  Session session(model, kSampling), bare(model, {}), twin(model, kSampling);
  session.feed(random_tokens(60, 1));
  const auto whole = session.save(Kind::SESSION, {}), memory = session.save(Kind::MEMORY, {});
  for (Session *target : {&bare, &twin}) {
    target->restore(whole);
    target->restore(memory);
    target->feed(random_tokens(10, 2));
  }
  CHECK(future_of(bare) == future_of(twin));
}

TEST_CASE("a snapshot restores in another compute type, or another type of the window, within the rounding bound") {
  const auto tokens = random_tokens(100, 1), more = random_tokens(40, 2);
  std::vector<std::vector<float>> logits;
  for (const char *from : {"f32", "bf16", "bf16/int8", "f32/int8"}) {
    Session source(small_model(from), {});
    source.feed(tokens);
    const auto bytes = source.save(Kind::SESSION, {});
    for (const char *to : {"f32", "bf16", "bf16/int8", "f32/int8"}) {
      Session target(small_model(to), {});
      target.restore(bytes);
      target.feed(more);
      logits.emplace_back(target.logits().begin(), target.logits().end());
    }
  }
  for (size_t i = 1; i < logits.size(); ++i) CHECK(test::relative_difference(logits[i], logits[0]) < 0.1);
}

TEST_CASE("every single changed byte is noticed, and leaves the session untouched") {
  const auto model = small_model();
  Session session(model, options_of({{"max_tokens", int64_t{-1}}}));
  session.feed(random_tokens(30, 1));
  const auto whole = session.save(Kind::SESSION, {"name", "note"}),
             memory = session.save(Kind::MEMORY, {"name", "note"});
  session.set_options(options_of({{"compress", int64_t{3}}}));
  const auto compressed = session.save(Kind::SESSION, {"name", "note"});
  CHECK(whole.size() > 10'000);
  for (const auto &bytes : {whole, memory, compressed}) {
    MESSAGE("snapshot of " << bytes.size() << " bytes");
    Session target(model, options_of({{"max_tokens", int64_t{-1}}}));
    target.feed(random_tokens(40, 2));
    const auto twin = target.fork();
    auto damaged = bytes;
    for (size_t i = 0; i < bytes.size(); ++i) {
      damaged[i] ^= std::byte{static_cast<unsigned char>(1u << (i % 8))};
      const Status status = status_of([&] { target.restore(damaged); });
      REQUIRE_MESSAGE(status != Status::OK, "byte " << i);
      damaged[i] = bytes[i];
    }
    CHECK(future_of(target) == future_of(*twin));
  }
}

TEST_CASE("each kind of bad snapshot has its own error") {
  const auto model = small_model();
  Session session(model, {});
  session.feed(random_tokens(30, 1));
  const auto bytes = session.save(Kind::SESSION, {});
  const auto restore = [&](std::vector<std::byte> changed, std::string *message = nullptr) {
    return status_of([&] { session.restore(changed, "file.snap"); }, message);
  };
  std::string message;
  CHECK(restore({}) == Status::FORMAT);
  for (size_t size : {9, 63, 64, 500})
    CHECK(restore({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)}) == Status::TRUNCATED);
  CHECK(restore({bytes.begin(), bytes.end() - 1}, &message) == Status::TRUNCATED);
  CHECK(message.find("file.snap") != std::string::npos);
  auto longer = bytes;
  longer.push_back(std::byte{0});
  CHECK(restore(longer) == Status::FORMAT);
  auto newer = bytes;
  newer[8] = std::byte{3};
  CHECK(restore(newer) == Status::CHECKSUM);
  test::seal(newer);
  CHECK(restore(newer, &message) == Status::VERSION);
  CHECK(message.find("version 3") != std::string::npos);
  auto magic = bytes;
  magic[0] = std::byte{'X'};
  CHECK(restore(magic) == Status::FORMAT);
  auto section = bytes;
  section.back() ^= std::byte{1};
  CHECK(restore(section, &message) == Status::CHECKSUM);
  auto absurd = bytes;
  std::memset(absurd.data() + 64 + 40, 0xff, 8);  // the first section's size
  test::seal(absurd);
  CHECK(restore(absurd) == Status::FORMAT);
  auto many = bytes;
  std::memset(many.data() + 40, 0xff, 4);  // the number of sections
  test::seal(many);
  CHECK(restore(many) == Status::FORMAT);

  Session stranger(small_model("f32", 6), {});
  CHECK(status_of([&] { stranger.restore(bytes); }, &message) == Status::MODEL_MISMATCH);
  CHECK(message.find(model->fingerprint().substr(0, 8)) != std::string::npos);
  const auto wider = Model::create(small_config(), options_of({{"segment", int64_t{48}}, {"compute", "f32"}}));
  Session other_segment(wider, {});
  CHECK(status_of([&] { other_segment.restore(bytes); }, &message) == Status::MODEL_MISMATCH);
  CHECK(message.find("option 'segment' 24, but this model was opened with 48") != std::string::npos);
}

TEST_CASE("inspecting needs no model and shows what is in a snapshot") {
  const auto model = small_model();
  Session session(model, {});
  session.feed(random_tokens(30, 1));
  auto bytes = session.save(Kind::SESSION, {"diary", "read until May"});
  const auto json = nlohmann::json::parse(inspect_snapshot(bytes, "x", true));
  CHECK(json["name"] == "diary");
  CHECK(json["note"] == "read until May");
  CHECK(json["kind"] == "session");
  CHECK(json["view"]["position"] == 30);
  CHECK(json["model"]["fingerprint"] == model->fingerprint());
  CHECK(json["sections"].size() >= 5);
  bytes.back() ^= std::byte{1};
  CHECK(status_of([&] { inspect_snapshot(bytes, "x", true); }) == Status::CHECKSUM);
  CHECK(status_of([&] { inspect_snapshot(bytes, "x", false); }) == Status::OK);
}

TEST_CASE("an inspection with checksums goes piece by piece and hears a cancel") {
  const auto model = small_model();
  Session session(model, options_of({{"compress", int64_t{3}}}));
  session.feed(random_tokens(100, 1));
  const auto bytes = session.save(Kind::SESSION, {});
  Task task;
  inspect_snapshot(bytes, "x", true, &task);
  CHECK(std::string(task.stage()) == "inspect");
  CHECK(task.total() > static_cast<int64_t>(bytes.size()));
  CHECK(task.done() == task.total());
  task.set_progress([](void *, const char *, int64_t done, int64_t) { return int{done > 0}; }, nullptr);
  CHECK(status_of([&] { inspect_snapshot(bytes, "x", true, &task); }) == Status::CANCELLED);
  CHECK(task.done() < task.total());
  CHECK(status_of([&] { inspect_snapshot(bytes, "x", false, &task); }) == Status::OK);
}

TEST_CASE("contents have one checksum, however they were compressed") {
  const auto model = small_model();
  Session session(model, {});
  session.feed(random_tokens(60, 1));
  const auto plain = nlohmann::json::parse(inspect_snapshot(session.save(Kind::SESSION, {}), "x", true));
  session.set_options(options_of({{"compress", int64_t{3}}}));
  auto bytes = session.save(Kind::SESSION, {});
  const auto packed = nlohmann::json::parse(inspect_snapshot(bytes, "x", true));
  int compressed = 0;
  for (size_t i = 0; i < plain["sections"].size(); ++i) {
    CHECK(plain["sections"][i]["content_checksum"] == plain["sections"][i]["checksum"]);
    CHECK(packed["sections"][i]["content_checksum"] == plain["sections"][i]["checksum"]);
    compressed += packed["sections"][i]["encoding"] == "zstd";
  }
  REQUIRE(compressed > 0);
  // A frame that holds less than its section claims.
  uint64_t size = packed["sections"][0]["size"].get<uint64_t>() + 1;
  REQUIRE(packed["sections"][0]["encoding"] == "zstd");
  std::memcpy(bytes.data() + 64 + 40, &size, 8);
  test::seal(bytes);
  CHECK(status_of([&] { inspect_snapshot(bytes, "x", true); }) == Status::FORMAT);
}

TEST_CASE("JSON that is nested too deeply is refused") {
  const std::string deep = "{\"a\":" + std::string(200'000, '[') + std::string(200'000, ']') + "}";
  const std::vector<std::byte> bytes = test::bytes_of(SnapshotImage(deep, {}, 0));
  std::string message;
  CHECK(status_of([&] { inspect_snapshot(bytes, "x", false); }, &message) == Status::FORMAT);
  CHECK(message.find("nested") != std::string::npos);
  Session session(small_model(), {});
  CHECK(status_of([&] { session.restore(bytes); }) == Status::FORMAT);
}

TEST_CASE("the size of a snapshot does not tell its age") {
  const auto model = small_model();
  Session session(model, {});
  session.feed(random_tokens(24 * 5, 1));
  const size_t young = session.save(Kind::SESSION, {}).size();
  for (int i = 0; i < 50; ++i) session.feed(random_tokens(24 * 20, 1));
  CHECK(session.save(Kind::SESSION, {}).size() == young);
}

TEST_CASE("a save that fails leaves the old file whole and no litter") {
  const auto model = small_model();
  const test::TemporaryFolder folder;
  const std::string path = folder.file("failing.snap");
  Session session(model, {});
  session.feed(random_tokens(30, 1));
  session.save(path, Kind::SESSION, {});
  const std::string before = test::read_text(path);
  session.feed(random_tokens(30, 2));
  for (long long after = 0; after < static_cast<long long>(before.size()); after += 997) {
    set_write_failure(after);
    CHECK(status_of([&] { session.save(path, Kind::SESSION, {}); }) == Status::NO_SPACE);
    set_write_failure(-1);
    REQUIRE(test::read_text(path) == before);
    REQUIRE(folder.names() == std::set<std::string>{"failing.snap"});
  }
  CHECK(status_of([&] { session.save("no/such/folder/x.snap", Kind::SESSION, {}); }) == Status::IO);
}

TEST_CASE("rewinding gives what feeding only that far would have given") {
  const auto model = small_model();
  const auto tokens = random_tokens(200, 1);
  for (const int64_t kept : {0, 1, 4}) {
    const Options options = options_of({{"checkpoints", kept}, {"max_tokens", int64_t{-1}}});
    for (int64_t position = 0; position <= 200; ++position) {
      Session session(model, options);
      session.feed(std::span(tokens).first(110));
      session.feed(std::span(tokens).subspan(110));
      std::string message;
      const int64_t limit = session.rewind_limit();
      if (position < limit) {
        CHECK(status_of([&] { session.rewind(position); }, &message) == Status::STATE);
        CHECK(message.find("possible are positions " + std::to_string(limit)) != std::string::npos);
        CHECK(session.position() == 200);
        continue;
      }
      session.rewind(position);
      REQUIRE(session.position() == position);
      Session straight(model, options);
      straight.feed(std::span(tokens).first(static_cast<size_t>(position)));
      if (position > 0) CHECK(test::relative_difference(session.logits(), straight.logits()) < 2e-5);
      session.feed(tokens);
      straight.feed(tokens);
      REQUIRE(test::relative_difference(session.logits(), straight.logits()) < 2e-5);
    }
    Session session(model, options);
    session.feed(tokens);
    if (kept == 4) CHECK(session.boundaries() == std::vector<int64_t>{120, 144, 168, 192});
    Session without(model, Options());
    without.feed(tokens);
    const int64_t checkpoints = session.state().checkpoint_bytes();
    const int64_t since_boundary = 200 % 24,
                  kept_tokens = kept == 0 ? since_boundary : 200 - session.boundaries().front();
    CHECK(checkpoints == session.state_bytes() - without.state_bytes() - 36 * (kept_tokens - since_boundary));
    CHECK((checkpoints > 0) == (kept > 0));
    session.feed(tokens);  // the same place in a segment
    CHECK(session.state().checkpoint_bytes() == checkpoints);
  }
}

TEST_CASE("the sampler goes back with rewind_sampler only") {
  const auto model = small_model();
  for (const int64_t goes_back : {0, 1}) {
    Session session(model, kSampling);
    session.set_options(options_of({{"rewind_sampler", goes_back}}));
    session.feed(random_tokens(60, 1));
    std::vector<int32_t> first, second;
    for (int i = 0; i < 30; ++i) first.push_back(session.next().value());
    session.rewind(60);
    for (int i = 0; i < 30; ++i) second.push_back(session.next().value());
    CHECK((first == second) == (goes_back == 1));
  }
}

TEST_CASE("checkpoints survive a snapshot") {
  const auto model = small_model();
  Session session(model, kSampling), restored(model, kSampling);
  session.feed(random_tokens(200, 1));
  restored.restore(session.save(Kind::SESSION, {}));
  CHECK(restored.boundaries() == session.boundaries());
  restored.rewind(150);
  session.rewind(150);
  CHECK(future_of(restored) == future_of(session));
}

TEST_CASE("text after a rewind begins as it did") {
  const auto model = Model::open(INFINI_SOURCE_DIR "/samples/models/stories260K.gguf", {});
  Session session(model, {});
  session.feed(std::vector<int32_t>{model->tokenizer().bos()});
  const auto text = [&] {
    std::string pieces;
    for (int i = 0; i < 10; ++i) pieces += test::next_text(session).value_or("");
    return pieces;
  };
  const std::string first = text();
  CHECK(first.starts_with("Once"));
  session.rewind(1);
  CHECK(text() == first);
  const int64_t position = session.position();
  const std::string second = text();
  session.rewind(position);
  CHECK(text() == second);
}
