// A session as a snapshot. The header's JSON holds every number, the sections the arrays:
//
//   memory    of each layer's KV heads that have a memory: M [key_size][value_size], z [key_size], and what rounding
//             left of these sums, M and z again; f32
//   window    of each layer, as to_rows() of attention/window.h lays it out, of the header's `compute` type, or with
//             int8, where the header has `window`: "int8"; in format 1 as visit() does
//   kept, surprise, ends   where sentences are kept: {begin i64, tokens i32, worth f32} of each; of the last tokens
//             that were read: what each is worth, f32, and whether a sentence ends there, u8
//   hidden    f32 [width]: the last token's normed output, from which the last logits follow bit for bit
//   tokens    i32: since the oldest boundary to which the session can be rewound
//   randoms   4 u64 a token of `tokens`: the random generator after it
//   recent, recent_before   i32: the tokens that penalties see, now and before `tokens`
//   ready     text that the caller has not taken; held: text that may begin a stop string; pending: bytes of an
//             unfinished character
//   cK.memory, cK.window, cK.hidden, ...   of checkpoint K, oldest first
//
// A memory alone has only the section `memory`, and where sentences are kept those that stay without a window:
//
//   kept         as above
//   kept_tokens  of each layer that keeps any [tokens][kv_heads][key_size + value_size]: keys before rotation and
//                values, of the header's `compute` type
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/file.h"
#include "stream/snapshot_parts.h"

namespace infini {
namespace {

JsonObject json_of_view(const View &view) {
  JsonObject json;
  for (const auto &[name, number] : kViewNumbers) json.add(name, view.*number);
  return json;
}

// The state as it would be with no open segment and no window.
State emptied(const Threads &threads, const Model &model, const State &state) {
  State closed = state.copy();
  closed.checkpoints.clear();
  closed.most_checkpoints = 0;
  Engine(model).close_segment(threads, closed, true);
  return closed;
}

// An image in the making: its header, its sections, and arrays that are made only for it.
struct Parts {
  const Engine &engine;
  bool keeps;  // sentences
  JsonObject header{};
  std::vector<SnapshotSection> sections{};
  std::vector<int32_t> recent{}, recent_before{};

  void add(const std::string &name, const auto &values) { sections.push_back({name, {as_section(values)}}); }
  void add_section(const std::string &name, SnapshotSection section) {
    section.name = name;
    sections.push_back(std::move(section));
  }
  void add_point(const std::string &prefix, const Point &point) {
    add_section(prefix + "memory", engine.memory_section(point));
    add_section(prefix + "window", engine.window_section(point));
    add(prefix + "hidden", point.hidden);
    if (keeps) {
      add(prefix + "kept", point.keep.spans());
      add(prefix + "surprise", point.keep.worth());
      add(prefix + "ends", point.keep.ends());
    }
  }
  SnapshotImage image(int compress) { return {header.text(), std::move(sections), compress}; }
};

}  // namespace

JsonObject snapshot_shape(const Model &model, bool with_window) {
  const Config &config = model.config();
  std::string memory_heads;  // a digit a KV head: whether it has a memory
  for (int l = 0; l < config.layers; ++l)
    for (int h = 0; h < config.kv_heads; ++h) memory_heads += config.has_memory(l, h) ? '1' : '0';
  JsonObject shape;
  shape.add("layers", config.layers)
      .add("kv_heads", config.kv_heads)
      .add("key_size", config.key_size)
      .add("value_size", config.value_size)
      .add("memory_heads", memory_heads)
      .add("memory_type", "f32")
      .add("update", config.memory.kind->name());
  if (with_window)
    shape.add("width", config.width)
        .add("segment", config.memory.segment)
        .add("carry", config.memory.carry)
        .add("sinks", config.memory.sinks)
        .add("keep", config.memory.keep);
  return shape;
}

// f(image) with everything that it points into alive.
void Session::with_image(SnapshotKind kind, const Labels &labels,
                         const std::function<void(const SnapshotImage &)> &f) const {
  impl_->check_whole();
  const bool whole = kind == SnapshotKind::SESSION;
  const State &state = impl_->state;
  const bool keeps = model_->config().memory.keep > 0;
  Parts parts{impl_->engine, keeps};
  JsonObject &header = parts.header;
  header.add("library", INFINI_VERSION_TEXT)
      .add("kind", whole ? "session" : "memory")
      .add("name", labels.name)
      .add("note", labels.note)
      .add("model", JsonObject().add("name", model_->config().name).add("fingerprint", model_->fingerprint()))
      .add("shape", snapshot_shape(*model_, whole))
      .add("compute", name_of(impl_->engine.number_type()));
  if (whole && impl_->engine.row_numbers().int8) header.add("window", "int8");
  if (!whole) {
    const ThreadScope threads(model_->threads(), impl_->settings.threads);
    const State closed = emptied(threads, *model_, state);
    header.add("view", json_of_view(closed.view));
    parts.add_section("memory", impl_->engine.memory_section(closed));
    if (keeps) {
      parts.add("kept", closed.keep.spans());
      parts.add_section("kept_tokens", impl_->engine.kept_section(closed));
    }
    f(parts.image(impl_->settings.compress));
    return;
  }
  const Generation &generation = impl_->generation;
  const History &history = impl_->history;
  JsonList checkpoints;
  for (const Checkpoint &checkpoint : state.checkpoints)
    checkpoints.add(JsonObject()
                        .add("view", json_of_view(checkpoint.view))
                        .add("has_hidden", checkpoint.has_hidden)
                        .add("begins", checkpoint.begins()));
  header.add("view", json_of_view(state.view))
      .add("has_hidden", state.has_hidden)
      .add("history_begin", history.begin)
      .add("random", generation.random.state())
      .add("random_before", history.random_before)
      .add("generation", JsonObject()
                             .add("generated", generation.generated)
                             .add("stop_reason", kStopReasons[static_cast<int>(generation.reason)])
                             .add("end_reported", generation.end_reported)
                             .add("text_started", generation.text_started)
                             .add("chat_begin", generation.chat_begin)
                             .add("unknown_bytes", generation.unknown_bytes))
      .add("options", options_json(impl_->options, kSavedOptions))
      .add("checkpoints", checkpoints);
  parts.add_point("", state);
  parts.recent = generation.recent.in_order();
  parts.recent_before = history.recent_before.in_order();
  parts.add("tokens", history.tokens);
  parts.add("randoms", history.randoms);
  parts.add("recent", parts.recent);
  parts.add("recent_before", parts.recent_before);
  parts.add("ready", generation.output.ready());
  parts.add("held", generation.output.held());
  parts.add("pending", generation.output.pending());
  for (size_t k = 0; k < state.checkpoints.size(); ++k)
    if (!state.checkpoints[k].begins()) parts.add_point(cat("c", k, "."), state.checkpoints[k]);
  f(parts.image(impl_->settings.compress));
}

void Session::save(const std::string &path, SnapshotKind kind, const Labels &labels, Task *task) const {
  begin_call();
  if (cancelled(task)) fail(Status::CANCELLED, "saving was cancelled; nothing was written");
  with_image(kind, labels, [&](const SnapshotImage &image) {
    AtomicFile file(path);
    file.reserve(image.size());
    file.rewrite(write(image, task, [&](const void *data, size_t size) { file.write(data, size); }));
    file.commit();
  });
}

void Session::save(SnapshotKind kind, const Labels &labels, const std::function<std::byte *(size_t)> &to_hold,
                   Task *task) const {
  begin_call();
  if (cancelled(task)) fail(Status::CANCELLED, "saving was cancelled; nothing was written");
  with_image(kind, labels, [&](const SnapshotImage &image) {
    std::byte *const to = to_hold(image.size());
    if (!to) return;
    std::byte *next = to;
    const std::vector<std::byte> front = write(image, task, [&](const void *data, size_t size) {
      next = std::copy_n(static_cast<const std::byte *>(data), size, next);
    });
    std::copy(front.begin(), front.end(), to);
  });
}

// Returns what is to be written over the first bytes.
std::vector<std::byte> Session::write(const SnapshotImage &image, Task *task,
                                      const std::function<void(const void *, size_t)> &put) const {
  if (task) task->begin("save", static_cast<int64_t>(image.size()));
  int64_t done = 0;
  return image.write([&](const void *data, size_t size) {
    if (cancelled(task)) fail(Status::CANCELLED, "saving was cancelled after ", done, " bytes");
    put(data, size);
    done += static_cast<int64_t>(size);
    if (task) task->advance_to(done);
  });
}

std::vector<std::byte> Session::save(SnapshotKind kind, const Labels &labels) const {
  std::vector<std::byte> bytes;
  save(kind, labels, [&](size_t size) {
    bytes.resize(size);
    return bytes.data();
  });
  return bytes;
}

std::string inspect_snapshot(std::span<const std::byte> bytes, const std::string &name, bool verify, Task *task) {
  const SnapshotView file(bytes, name);
  double total = 0;  // what a header claims may be more than an integer holds
  for (const SnapshotView::Entry &entry : file.entries())
    if (verify)
      total += static_cast<double>(entry.stored_size) + (entry.encoding == 0 ? 0.0 : static_cast<double>(entry.size));
  Watch watch(task, "inspect", total < 0x1p62 ? static_cast<int64_t>(total) : 0,
              cat("inspecting '", name, "' was cancelled"));
  const auto pass = [&](uint64_t size) { watch.advance(size); };
  const auto digits = [](uint64_t sum) {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(sum));
    return std::string(text);
  };
  const auto header = parse_snapshot_header(file);
  JsonList sections;
  for (const SnapshotView::Entry &entry : file.entries()) {
    JsonObject section;
    section.add("name", entry.name)
        .add("offset", entry.offset)
        .add("stored_size", entry.stored_size)
        .add("size", entry.size)
        .add("encoding", entry.encoding == 0 ? "plain" : "zstd")
        .add("checksum", digits(entry.checksum));
    if (verify) section.add("content_checksum", digits(file.verify(entry, pass)));
    sections.add(section);
  }
  JsonObject facts;
  facts.add("format_version", file.version()).add("size", file.size()).add("sections", sections);
  for (const auto &[field, value] : header->items())  // these three are the file's own
    if (field != "format_version" && field != "size" && field != "sections") facts.add(field, JsonText{text_of(value)});
  return facts.text();
}

std::string inspect_snapshot(const std::string &path, bool verify, Task *task) {
  const MappedFile file(path);
  return inspect_snapshot(file.bytes(), path, verify, task);
}

}  // namespace infini
