// What saving and restoring share: private to stream/. What a snapshot holds is said in stream/snapshot.cc.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "base/json.h"
#include "format/snapshot.h"
#include "stream/session_impl.h"

namespace infini {

// Options that go with a session; the others belong to the machine or to the caller.
inline constexpr OptionScope kSavedOptions = OptionScope::GENERATION;

// A view in the header. The last one may be missing: version 0.1 kept nothing.
inline constexpr std::pair<const char *, int64_t View::*> kViewNumbers[] = {{"position", &View::position},
                                                                            {"origin", &View::origin},
                                                                            {"window_begin", &View::window_begin},
                                                                            {"segment_begin", &View::segment_begin},
                                                                            {"sinks", &View::sinks},
                                                                            {"memory_tokens", &View::memory_tokens},
                                                                            {"kept", &View::kept}};

// The header's JSON: an object. FORMAT if it is none.
OwnedJson<> parse_snapshot_header(const SnapshotView &file);

// What must be equal in the session that restores.
JsonObject snapshot_shape(const Model &model, bool with_window);

// Bytes to write from where the values are constant, else bytes to read into.
template <class T>
auto as_section(T *values, size_t count) {
  if constexpr (std::is_const_v<T>) return std::as_bytes(std::span(values, count));
  else return std::as_writable_bytes(std::span(values, count));
}
auto as_section(auto &values) { return as_section(values.data(), values.size()); }

}  // namespace infini
