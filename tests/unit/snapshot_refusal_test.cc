// Snapshots that an enemy wrote: sealed, so that no checksum helps. Each is refused with its own error, leaves the
// session as it was to the bit, and takes no more memory than its size justifies.
#include "support.h"

#include <zstd.h>

#include <cstring>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "allocations.h"
#include "format/snapshot.h"
#include "seal.h"
#include "stream/session.h"

using namespace infini;
using Kind = Session::SnapshotKind;
using Bytes = std::vector<std::byte>;
using nlohmann::json;

namespace {

std::shared_ptr<const Model> small_model(const std::string &name = "victim", int64_t seed = 5,
                                         const std::string &window_type = "compute") {
  CreateConfig config;
  config.name = name;
  config.layers = 2, config.width = 32, config.heads = 4, config.kv_heads = 2, config.hidden = 64,
  config.vocabulary = 100;
  config.segment = 24, config.carry = 10, config.sinks = 3, config.seed = seed;
  Options options;
  options.set("compute", std::string("f32"));
  options.set("window_type", window_type);
  return Model::create(config, options);
}

Options session_options(int64_t compress = 0) {
  Options options;
  options.set("checkpoints", int64_t{2});
  options.set("max_tokens", int64_t{-1});
  options.set("compress", compress);
  return options;
}

std::vector<int32_t> stream_of(int32_t count) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < count; ++i) tokens.push_back((i * 37 + i * i) % 96);
  return tokens;
}

using Sections = std::vector<std::pair<std::string, Bytes>>;

// The snapshot with its header and sections changed, and whole again.
Bytes forge(const Bytes &bytes, const std::function<void(json &, Sections &)> &change, int level = 0) {
  const SnapshotView view(bytes, "source");
  json header = json::parse(view.json());
  Sections sections;
  for (const SnapshotView::Entry &entry : view.entries()) {
    sections.emplace_back(entry.name, Bytes(entry.size));
    view.read(entry.name, {sections.back().second});
  }
  change(header, sections);
  std::vector<SnapshotSection> parts;
  for (const auto &[name, contents] : sections) parts.push_back({name, {contents}});
  return test::bytes_of(SnapshotImage(header.dump(), std::move(parts), level));
}

Bytes forge_header(const Bytes &bytes, const std::function<void(json &)> &change) {
  return forge(bytes, [&](json &header, Sections &) { change(header); });
}

template <class Number>
Bytes patched(Bytes bytes, size_t at, Number value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
  test::seal(bytes);
  return bytes;
}

// Where the table of sections has the one of this name.
size_t entry_of(const Bytes &bytes, const std::string &name) {
  const SnapshotView view(bytes, "source");
  for (size_t i = 0; i < view.entries().size(); ++i)
    if (view.entries()[i].name == name) return 64 + 64 * i;
  FAIL("no section " << name);
  return 0;
}

std::vector<int32_t> future_of(Session &session) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < 10; ++i) tokens.push_back(session.next().value());
  return tokens;
}

// What restoring says: its error, with the memory that it took.
struct Refusal {
  Status status = Status::OK;
  std::string message;
  size_t largest = 0;
};

struct Victim {
  std::shared_ptr<const Model> model;
  Bytes plain, compressed;
  Session session{model, session_options()};

  explicit Victim(const std::string &window_type = "compute") : model(small_model("victim", 5, window_type)) {
    Session source(model, session_options());
    source.feed(stream_of(90));
    plain = source.save(Kind::SESSION, {"diary", "note"});
    source.set_options(session_options(3));
    compressed = source.save(Kind::SESSION, {"diary", "note"});
    session.feed(stream_of(40));
  }

  Refusal restore(const Bytes &bytes) {
    const auto twin = session.fork();
    Refusal refusal;
    test::largest_allocation = 0;
    try {
      session.restore(bytes, "file.snap");
    } catch (const Error &error) { refusal = {error.status(), error.what(), 0}; }
    refusal.largest = test::largest_allocation;
    CHECK(session.position() == twin->position());
    CHECK(session.boundaries() == twin->boundaries());
    const auto probe = session.fork();
    CHECK(future_of(*probe) == future_of(*twin));
    return refusal;
  }

  void check(const Bytes &bytes, Status status, const std::vector<std::string> &parts) {
    const Refusal refusal = restore(bytes);
    CAPTURE(refusal.message);
    CHECK(status_name(refusal.status) == std::string(status_name(status)));
    CHECK(refusal.message.starts_with("file.snap: "));
    for (const std::string &part : parts) CHECK_MESSAGE(refusal.message.find(part) != std::string::npos, part);
    CHECK(refusal.largest < 2 * bytes.size() + (1 << 18));
  }
};

}  // namespace

TEST_CASE("what is no snapshot, is old, new or of another byte order says so") {
  Victim victim;
  Bytes magic = victim.plain;
  magic[0] = std::byte{'X'};
  victim.check(magic, Status::FORMAT, {"INFINISN"});
  victim.check(patched<uint32_t>(victim.plain, 8, 0), Status::FORMAT, {"version 0"});
  victim.check(patched<uint32_t>(victim.plain, 8, 7), Status::VERSION, {"version 7", "update the library"});
  victim.check(patched<uint32_t>(victim.plain, 12, 0x04030201), Status::FORMAT, {"byte order"});
  victim.check({victim.plain.begin(), victim.plain.begin() + 40}, Status::TRUNCATED, {"40 bytes"});
  victim.check({victim.plain.begin(), victim.plain.end() - 1}, Status::TRUNCATED,
               {std::to_string(victim.plain.size())});
  Bytes longer = victim.plain;
  longer.resize(longer.size() + 3);
  victim.check(longer, Status::FORMAT, {"3 bytes follow"});
  // A newer version is told before anything that it may have changed: here its table of sections is none of ours.
  Bytes newer = patched<uint32_t>(victim.plain, 40, 0xffffffff);
  victim.check(newer, Status::FORMAT, {"sections"});
  victim.check(patched<uint32_t>(newer, 8, 3), Status::VERSION, {"version 3"});
}

TEST_CASE("another model is named") {
  Victim victim;
  Session stranger(small_model("stranger", 6), session_options());
  stranger.feed(stream_of(30));
  const Bytes bytes = stranger.save(Kind::SESSION, {});
  victim.check(bytes, Status::MODEL_MISMATCH, {"'stranger'", "'victim'", victim.model->fingerprint().substr(0, 8)});
  // It is told before any section is read.
  Bytes damaged = bytes;
  damaged.back() ^= std::byte{1};
  victim.check(damaged, Status::MODEL_MISMATCH, {"'stranger'"});
  victim.check(forge_header(victim.plain, [](json &h) { h["shape"]["memory_type"] = "f16"; }), Status::MODEL_MISMATCH,
               {"memory_type"});
  victim.check(forge_header(victim.plain, [](json &h) { h["shape"]["segment"] = 48; }), Status::MODEL_MISMATCH,
               {"option 'segment' 48", "opened with 24"});
}

TEST_CASE("a header that does not make sense is refused by what is wrong in it") {
  Victim victim;
  struct Case {
    std::function<void(json &)> change;
    std::vector<std::string> parts;
  };
  const Case cases[] =
      {
          {[](json &h) { h = json::array(); }, {"no JSON object"}},
          {[](json &h) { h["kind"] = "diary"; }, {"kind", "diary"}},
          {[](json &h) { h["compute"] = "f8"; }, {"compute", "f8"}},
          {[](json &h) { h["window"] = "int4"; }, {"window", "int4"}},
          {[](json &h) { h["window"] = 8; }, {"window", "8"}},
          {[](json &h) { h["window"] = "int8"; }, {"'window'"}},  // whose size is not that of int8
          {[](json &h) { h.erase("view"); }, {"view"}},
          {[](json &h) { h["view"]["position"] = -1; }, {"positions"}},
          {[](json &h) { h["view"]["position"] = int64_t{1} << 62; }, {"positions"}},
          {[](json &h) { h["view"]["position"] = 200; }, {"positions"}},  // an open segment of more than a segment
          {[](json &h) { h["view"]["sinks"] = 2; }, {"positions"}},
          // Less than the carry: what is moved when the segment closes would begin before the buffer.
          {[](json &h) { h["view"]["window_begin"] = h["view"]["segment_begin"]; }, {"positions"}},
          {[](json &h) { h["checkpoints"][1]["view"]["window_begin"] = h["checkpoints"][1]["view"]["segment_begin"]; },
           {"positions"}},
          {[](json &h) { h["view"]["memory_tokens"] = -1; }, {"positions"}},
          {[](json &h) { h["history_begin"] = -5; }, {"history_begin"}},
          {[](json &h) { h["history_begin"] = 1000; }, {"history_begin"}},
          {[](json &h) { h["checkpoints"] = "none"; }, {"checkpoints"}},
          {[](json &h) { h["checkpoints"] = json(5000, json::object()); }, {"checkpoints", "4096"}},
          {[](json &h) { h["checkpoints"][0]["view"]["position"] = 71; }, {"checkpoint 0", "impossible position"}},
          {[](json &h) { std::swap(h["checkpoints"][0], h["checkpoints"][1]); },
           {"checkpoint 1", "impossible position"}},
          {[](json &h) {
    h["random"] = {1, 2, 3};
           },
           {"random"}},
          {[](json &h) { h["generation"]["stop_reason"] = "boredom"; }, {"generation"}},
          {[](json &h) { h["options"] = 7; }, {"options"}},
          {[](json &h) { h["options"]["temperature"] = "hot"; }, {"temperature"}},
          {[](json &h) { h["options"]["top_k"] = -3; }, {"top_k"}},
          {[](json &h) { h["options"]["logit_bias"] = "x"; }, {"logit_bias"}},
          {[](json &h) { h["options"]["logit_bias"] = "12345:1"; }, {"12345"}},
  };
  for (const Case &c : cases) victim.check(forge_header(victim.plain, c.change), Status::FORMAT, c.parts);
}

TEST_CASE("sections that do not fit the session are refused by name") {
  Victim victim;
  const auto section = [&](const std::string &name, const std::function<void(Bytes &)> &change) {
    return forge(victim.plain, [&](json &, Sections &sections) {
      for (auto &[of, contents] : sections)
        if (of == name) change(contents);
    });
  };
  const auto put = [](float value) {
    return [value](Bytes &contents) { std::memcpy(contents.data() + 8, &value, sizeof value); };
  };
  for (const char *name : {"memory", "window", "hidden", "c0.memory", "c1.window"}) {
    victim.check(section(name, [](Bytes &contents) { contents.pop_back(); }), Status::FORMAT, {name});
    victim.check(section(name, put(std::numeric_limits<float>::infinity())), Status::FORMAT, {name});
    victim.check(section(name, put(std::numeric_limits<float>::quiet_NaN())), Status::FORMAT, {name});
  }
  for (const char *name : {"tokens", "recent"}) {
    const auto stranger = [](Bytes &contents) { std::memset(contents.data(), 0x7f, 4); };
    victim.check(section(name, stranger), Status::FORMAT, {name, "token"});
    victim.check(section(name, [](Bytes &contents) { contents.resize(contents.size() + 1); }), Status::FORMAT, {name});
  }
  victim.check(section("randoms", [](Bytes &contents) { contents.resize(8); }), Status::FORMAT, {"randoms"});
  victim.check(section("pending", [](Bytes &contents) { contents.resize(4); }), Status::FORMAT, {"pending"});
  victim.check(forge(victim.plain, [](json &, Sections &sections) { sections.erase(sections.begin()); }),
               Status::FORMAT, {"memory", "missing"});
}

TEST_CASE("scales of int8 that are not finite are refused, whatever the window is here") {
  for (const char *here : {"compute", "int8"}) {
    Victim victim(here);
    Session source(small_model("victim", 5, "int8"), session_options());
    source.feed(stream_of(90));
    const Bytes whole = source.save(Kind::SESSION, {});
    const auto scaled = [&](float scale) {
      return forge(whole, [&](json &, Sections &sections) {
        for (auto &[of, contents] : sections)
          if (of == "window") std::memcpy(contents.data(), &scale, sizeof scale);
      });
    };
    for (const float wrong : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
      victim.check(scaled(wrong), Status::FORMAT, {"window"});
    victim.session.restore(scaled(-1));  // as good as any
    CHECK(victim.session.position() == 90);
  }
}

TEST_CASE("a small file cannot ask for much memory") {
  Victim victim;
  for (const Bytes &source : {victim.plain, victim.compressed}) {
    for (const uint64_t size : {uint64_t{1} << 20, uint64_t{1} << 33, uint64_t{1} << 62}) {
      for (const char *name : {"memory", "window", "tokens", "recent", "ready"})
        victim.check(patched(source, entry_of(source, name) + 40, size), Status::FORMAT, {name});
    }
  }
  // A frame that would have zstd keep 128 MB, of contents that are small.
  const Bytes small(1 << 16, std::byte{7});
  Bytes frame(1 << 20);
  ZSTD_CCtx *const context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, 27);
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
  ZSTD_outBuffer out{frame.data(), frame.size(), 0};
  ZSTD_inBuffer in{small.data(), small.size(), 0};
  while (in.pos < in.size) ZSTD_compressStream2(context, &out, &in, ZSTD_e_continue);  // before the size is known
  while (ZSTD_compressStream2(context, &out, &in, ZSTD_e_end) != 0) {}
  ZSTD_freeCCtx(context);
  frame.resize(out.pos);
  Bytes wide = test::bytes_of(SnapshotImage("{}", {{"ready", {frame}}}, 0));
  wide = patched(patched<uint32_t>(wide, 64 + 56, 1), 64 + 40, uint64_t{small.size()});
  const SnapshotView view(wide, "wide");
  CHECK_THROWS_WITH_AS(view.verify(view.entry("ready")), doctest::Contains("too much memory"), Error);
  // Tokens since long ago: a history as long as the stream, in a frame that pretends to hold it.
  const Bytes old = forge(
      victim.plain,
      [](json &header, Sections &sections) {
    header["history_begin"] = 0;
    header["view"]["position"] = (int64_t{1} << 33) + 90;
    for (const char *name : {"window_begin", "segment_begin"})
      header["view"][name] = header["view"][name].get<int64_t>() + (int64_t{1} << 33);
    header["checkpoints"] = json::array();
    for (auto &[name, contents] : sections)
      if (name == "tokens" || name == "randoms") contents.assign(100'000, std::byte{0});
      },
      3);
  victim.check(patched(old, entry_of(old, "tokens") + 40, uint64_t{4} * ((uint64_t{1} << 33) + 90)), Status::FORMAT,
               {"tokens since the oldest checkpoint"});
}
