// Restores a snapshot that may be bad, for the fuzzers.
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/hash.h"
#include "format/snapshot.h"
#include "stream/session.h"

namespace fuzz {

inline std::shared_ptr<const infini::Model> snapshot_model(const char *window_type = "compute") {
  infini::CreateConfig config;
  config.layers = 2, config.width = 16, config.heads = 2, config.kv_heads = 1, config.hidden = 16,
  config.vocabulary = 40;
  config.segment = 8, config.carry = 3, config.sinks = 2, config.seed = 5;
  infini::Options options;
  options.set("compute", std::string("f32"));
  options.set("threads", int64_t{1});
  options.set("window_type", std::string(window_type));
  return infini::Model::create(config, options);
}

inline infini::Options snapshot_options() {
  infini::Options options;
  options.set("checkpoints", int64_t{2});
  options.set("threads", int64_t{1});
  options.set("temperature", 1.0);
  options.set("max_tokens", int64_t{-1});
  return options;
}

// A good snapshot after `tokens` tokens.
inline std::string snapshot_bytes(int tokens, int level, infini::Session::SnapshotKind kind, const char *window_type) {
  infini::Session session(snapshot_model(window_type), snapshot_options());
  infini::Options options;
  options.set("compress", int64_t{level});
  session.set_options(options);
  for (int32_t i = 0; i < tokens; ++i) session.feed({&i, 1});
  if (tokens > 0) session.next();
  const auto bytes = session.save(kind, {"name", "note"});
  return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

// Makes the checksums right again, as an enemy would: without that no damage gets past them.
inline void seal(std::vector<std::byte> &bytes) {
  const auto number = [&](size_t at) {
    uint64_t value = 0;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  };
  const auto put = [&](size_t at, uint64_t value) { std::memcpy(bytes.data() + at, &value, sizeof value); };
  if (bytes.size() < 64) return;
  const uint64_t header = number(16), sections = number(40) & 0xffffffff;
  if (header < 64 || header > bytes.size()) return;
  for (uint64_t i = 0; i < sections && 64 + (i + 1) * 64 <= header; ++i) {
    const size_t entry = static_cast<size_t>(64 + i * 64);
    const uint64_t offset = number(entry + 24), size = number(entry + 32);
    if (offset <= bytes.size() && size <= bytes.size() - offset)
      put(entry + 48, infini::checksum(bytes.data() + offset, size));
  }
  put(24, 0);
  put(24, infini::checksum(bytes.data(), header));
}

// Whether the sealed bytes were accepted; then the session goes on. Lets any exception through that a bad file must
// not cause; a refusal leaves the session as it was.
inline bool touch_snapshot(std::span<const std::byte> given) {
  using namespace infini;
  static const std::shared_ptr<const Model> model = snapshot_model();
  std::vector<std::byte> bytes(given.begin(), given.end());
  seal(bytes);
  Session session(model, snapshot_options());
  const int32_t token = 7;
  session.feed({&token, 1});
  try {
    inspect_snapshot(bytes, "fuzzed", true);
  } catch (const Error &) {}
  try {
    session.restore(bytes);
  } catch (const Error &error) {
    const Status status = error.status();
    if (status == Status::INTERNAL || status == Status::STATE || std::string(error.what()).empty()) throw;
    if (session.position() != 1) throw std::logic_error("a refused snapshot changed the session");
    session.feed({&token, 1});
    return false;
  }
  const int64_t position = session.position();
  for (int32_t next = 0; next < 20; ++next) session.feed({&next, 1});
  if (session.position() != position + 20) throw std::logic_error("a restored session stands in the wrong place");
  session.rewind(session.rewind_limit());
  session.feed({&token, 1});
  session.save(Session::SnapshotKind::SESSION, {});
  try {
    session.next();
  } catch (const Error &error) {
    if (error.status() != Status::INVALID_ARGUMENT) throw;  // no token is possible: numbers of the file are not finite
  }
  return true;
}

}  // namespace fuzz
