// Restoring a session from a snapshot, which is read as if an enemy had written it.
#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "base/limits.h"
#include "format/snapshot.h"
#include "stream/snapshot_parts.h"

namespace infini {
namespace {

using nlohmann::json;

constexpr int64_t kMostPosition = int64_t{1} << 60;

// --- the header

// The number type of what is kept, and of windows that are not int8.
NumberType read_compute(const json &header, const SnapshotView &file) {
  const auto compute = member<std::string>(header, "compute", file.name());
  if (compute != "f32" && compute != "bf16")
    fail(Status::FORMAT, file.name(), ": compute '", compute, "' is not known");
  return compute == "f32" ? NumberType::F32 : NumberType::BF16;
}

RowNumbers read_row_numbers(const json &header, const SnapshotView &file) {
  const bool rounded = header.contains("window");
  if (rounded && (header["window"] != "int8" || file.version() == 1))
    fail(Status::FORMAT, file.name(), ": window ", text_of(header["window"]), " is not known");
  return {read_compute(header, file), rounded};
}

// The four numbers of a random generator.
std::array<uint64_t, 4> random_member(const json &header, const char *name, const SnapshotView &file) {
  const json &values = member(header, name, file.name());
  std::array<uint64_t, 4> state{};
  if (!values.is_array() || values.size() != state.size() || !std::all_of(values.begin(), values.end(), fits<uint64_t>))
    fail(Status::FORMAT, file.name(), ": '", name, "' is no state of a random generator");
  std::transform(values.begin(), values.end(), state.begin(), [](const json &value) { return value.get<uint64_t>(); });
  return state;
}

// A window begins a carry before the segment, or, where sentences are kept, with a sentence soon after.
bool window_begins(const View &view, const MemoryConfig &memory) {
  const int64_t least = std::max(view.origin, view.segment_begin - memory.carry);
  return memory.keep == 0 ? view.window_begin == least
                          : view.window_begin >= least && view.window_begin <= least + kLongestSpan;
}

View read_view(const json &object, const SnapshotView &file, const MemoryConfig &memory) {
  View view;
  for (const auto &[name, number] : kViewNumbers)
    if (number != &View::kept || object.contains(name)) view.*number = member<int64_t>(object, name, file.name());
  const bool ordered = 0 <= view.origin && view.origin <= view.window_begin &&
                       view.window_begin <= view.segment_begin && view.segment_begin <= view.position &&
                       view.position < kMostPosition;
  if (!ordered || view.open() >= memory.segment || !window_begins(view, memory) || view.kept < 0 ||
      view.kept > memory.keep || view.sinks != std::min<int64_t>(memory.sinks, view.window_begin - view.origin) ||
      view.memory_tokens < 0 || view.memory_tokens > kMostPosition)
    fail(Status::FORMAT, file.name(), ": impossible positions: ", text_of(object));
  return view;
}

// Both values of what differs, and what to do about it.
std::string mismatch(const std::string &name, const json &shape, const json &here) {
  if (name == "memory_heads")
    return "other gates open: open the model with the option 'memory' that it was opened with then";
  const auto text = [](const json &value) { return value.is_string() ? value.get<std::string>() : text_of(value); };
  const std::string_view options[] = {"update", "segment", "carry", "sinks", "keep"};
  const std::string there = shape.is_object() && shape.contains(name) ? text(shape[name]) : "null";
  if (std::find(std::begin(options), std::end(options), name) == std::end(options))
    return cat("'", name, "' ", there, ", but this model's is ", text(here));
  return cat("option '", name, "' ", there, ", but this model was opened with ", text(here), ": open it with the same");
}

void check_model(const json &header, const SnapshotView &file, const Model &model, bool with_window) {
  const json &stored = member(header, "model", file.name());
  const auto fingerprint = member<std::string>(stored, "fingerprint", file.name());
  if (fingerprint != model.fingerprint())
    fail(Status::MODEL_MISMATCH, file.name(), ": the snapshot belongs to model '",
         member<std::string>(stored, "name", file.name()), "' (fingerprint ", fingerprint.substr(0, 8),
         "), this session's is '", model.config().name, "' (", model.fingerprint().substr(0, 8), ")");
  const json &shape = member(header, "shape", file.name());
  const auto expected = parse_json(snapshot_shape(model, with_window).text(), Status::INTERNAL, "the shape");
  for (const auto &[name, value] : expected->items()) {
    const bool there = shape.is_object() && shape.contains(name);
    if (there ? shape[name] != value : name != "keep" || value != 0)  // version 0.1 kept nothing, and did not say so
      fail(Status::MODEL_MISMATCH, file.name(), ": the snapshot was made with ", mismatch(name, shape, value));
  }
}

// The options of the session, completed from the snapshot's.
Options complete_options(const Options &given, const json &values, const SnapshotView &file) {
  Options options = given;
  if (!values.is_object()) fail(Status::FORMAT, file.name(), ": 'options' is no object");
  for (const OptionSpec &spec : option_table()) {
    if (spec.scope != kSavedOptions || given.is_set(spec.name) || !values.contains(spec.name)) continue;
    const json &value = values[spec.name];
    if (fits<int64_t>(value)) options.set(spec.name, value.get<int64_t>());
    else if (value.is_number()) options.set(spec.name, value.get<double>());
    else if (value.is_string()) options.set(spec.name, value.get<std::string>());
  }
  return options;
}

// --- sections

ReadSection section_of(const SnapshotView &file, const std::string &name) {
  return [&file, name](const std::vector<std::span<std::byte>> &parts) { file.read(name, parts); };
}

void require_finite(bool finite, const SnapshotView &file, const std::string &section) {
  if (!finite) fail(Status::FORMAT, file.name(), ": section '", section, "' holds numbers that are not finite");
}

// Reads memories, windows (also those of a session that held other numbers) and the last output.
void read_point(const Threads &threads, const SnapshotView &file, const std::string &prefix, const Engine &engine,
                RowNumbers stored, Point &point) {
  const std::string memory = prefix + "memory", window = prefix + "window", hidden = prefix + "hidden";
  require_finite(engine.read_memory(point, section_of(file, memory)), file, memory);
  if (file.version() == 1) {
    require_finite(engine.read_window_1(point, stored.type, section_of(file, window)), file, window);
  } else {
    Buffer<std::byte> space;
    const auto rows = file.view(window, engine.window_bytes(point, stored), space);
    require_finite(engine.read_window(threads, point, stored, rows), file, window);
  }
  file.read(hidden, {as_section(point.hidden)});
  require_finite(all_finite(point.hidden), file, hidden);
}

// Numbers of any kind, at most so many.
template <class T>
std::vector<T> read_numbers(const SnapshotView &file, const std::string &section, uint64_t most) {
  const uint64_t size = file.entry(section).size;
  if (size % sizeof(T) != 0 || size / sizeof(T) > most)
    fail(Status::FORMAT, file.name(), ": section '", section, "' holds ", size, " bytes");
  std::vector<T> numbers(size / sizeof(T));
  file.read(section, {as_section(numbers)});
  return numbers;
}

// Tokens of spans; -1: they are none.
int64_t count_spans(const std::vector<KeptSpan> &spans) {
  int64_t tokens = 0;
  for (const KeptSpan &span : spans) {
    if (span.begin < 0 || span.begin > kMostPosition || span.tokens <= 0 || span.tokens > kLongestSpan ||
        !std::isfinite(span.worth))
      return -1;
    tokens += span.tokens;
  }
  return tokens;
}

// What a memory alone kept.
void read_kept(const SnapshotView &file, const Engine &engine, NumberType stored, State &state) {
  auto spans = read_numbers<KeptSpan>(file, "kept", kMostKept);
  const int64_t tokens = count_spans(spans);
  if (tokens < 0 || tokens > kMostKept ||
      file.entry("kept_tokens").size != static_cast<uint64_t>(engine.kept_bytes(tokens, stored)))
    fail(Status::FORMAT, file.name(), ": sections 'kept' and 'kept_tokens' do not fit each other");
  require_finite(engine.read_kept(state, std::move(spans), stored, section_of(file, "kept_tokens")), file,
                 "kept_tokens");
}

// The sentences that are kept, and what is known of the tokens in the window.
Keep read_keep(const SnapshotView &file, const std::string &prefix, const MemoryConfig &memory, const View &view) {
  Keep keep;
  if (memory.keep == 0) return keep;
  auto spans = read_numbers<KeptSpan>(file, prefix + "kept", static_cast<uint64_t>(memory.keep));
  const auto most = static_cast<uint64_t>(view.position - view.window_begin);
  auto worth = read_numbers<float>(file, prefix + "surprise", most);
  auto ends = read_numbers<uint8_t>(file, prefix + "ends", most);
  const bool sound = ends.size() == worth.size() && count_spans(spans) == view.kept && all_finite(worth);
  if (!sound)
    fail(Status::FORMAT, file.name(), ": sections '", prefix, "kept', 'surprise' and 'ends' do not fit the stream");
  keep.restore(view, std::move(spans), std::move(worth), std::move(ends));
  return keep;
}

std::vector<int32_t> read_tokens(const SnapshotView &file, const std::string &section, int vocabulary, uint64_t most) {
  auto tokens = read_numbers<int32_t>(file, section, most);
  for (const int32_t token : tokens)
    if (token < 0 || token >= vocabulary)
      fail(Status::FORMAT, file.name(), ": section '", section, "' holds token ", token);
  return tokens;
}

std::string read_text(const SnapshotView &file, const std::string &section, uint64_t most) {
  const uint64_t size = file.entry(section).size;
  if (size > most) fail(Status::FORMAT, file.name(), ": section '", section, "' holds ", size, " bytes");
  std::string text(size, '\0');
  file.read(section, {as_section(text)});
  return text;
}

// --- the parts of a session

// The memory alone: the position stays, the local view starts with what is kept, as much as this model keeps.
void read_memory_alone(const SnapshotView &file, const json &header, const Model &model, const Engine &engine,
                       State &state) {
  const json &stored = member(header, "view", file.name());
  View &view = state.view;
  view.position = member<int64_t>(stored, "position", file.name());
  view.memory_tokens = member<int64_t>(stored, "memory_tokens", file.name());
  if (view.position < 0 || view.position > kMostPosition || view.memory_tokens < 0 ||
      view.memory_tokens > kMostPosition)
    fail(Status::FORMAT, file.name(), ": impossible positions: ", text_of(stored));
  view.origin = view.window_begin = view.segment_begin = view.position;
  require_finite(engine.read_memory(state, section_of(file, "memory")), file, "memory");
  state.checkpoints.clear();
  const auto &entries = file.entries();  // a snapshot of version 0.1 holds nothing kept
  if (model.config().memory.keep > 0 &&
      std::any_of(entries.begin(), entries.end(), [](const auto &entry) { return entry.name == "kept"; })) {
    read_kept(file, engine, read_compute(header, file), state);
    state.keep.restore(view, state.keep.spans(), {}, {});
  }
}

// The newest checkpoints, as many as the session keeps.
void read_checkpoints(const Threads &threads, const SnapshotView &file, const json &header, const MemoryConfig &memory,
                      const Engine &engine, RowNumbers stored, State &state) {
  state.checkpoints.clear();
  const json &checkpoints = member(header, "checkpoints", file.name());
  if (!checkpoints.is_array() || checkpoints.size() > kMostCheckpoints)
    fail(Status::FORMAT, file.name(), ": 'checkpoints' is no list of at most ", kMostCheckpoints);
  const size_t kept = static_cast<size_t>(state.most_checkpoints);
  for (size_t k = checkpoints.size() - std::min(kept, checkpoints.size()); k < checkpoints.size(); ++k) {
    const bool begins = member<bool>(checkpoints[k], "begins", file.name());
    Checkpoint checkpoint = begins ? Checkpoint() : engine.make_checkpoint();
    checkpoint.view = read_view(member(checkpoints[k], "view", file.name()), file, memory);
    checkpoint.has_hidden = member<bool>(checkpoints[k], "has_hidden", file.name());
    const int64_t before = state.checkpoints.empty() ? -1 : state.checkpoints.back().view.position;
    if (checkpoint.view.open() != 0 || checkpoint.view.position <= before ||
        checkpoint.view.position > state.view.segment_begin)
      fail(Status::FORMAT, file.name(), ": checkpoint ", k, " stands at an impossible position");
    if (begins && checkpoint.view.position != 0)
      fail(Status::FORMAT, file.name(), ": checkpoint ", k, " is no beginning");
    if (!begins) {
      read_point(threads, file, cat("c", k, "."), engine, stored, checkpoint);
      checkpoint.keep = read_keep(file, cat("c", k, "."), memory, checkpoint.view);
    }
    state.checkpoints.push_back(std::move(checkpoint));
  }
}

constexpr uint64_t kMostText = TextOutput::kMostReady;

void read_history(const SnapshotView &file, const json &header, int vocabulary, int64_t segment, const State &state,
                  History &history) {
  history.begin = member<int64_t>(header, "history_begin", file.name());
  if (history.begin < 0 || history.begin > state.view.position)
    fail(Status::FORMAT, file.name(), ": 'history_begin' is ", history.begin);
  // The oldest boundary to go back to is the file's first checkpoint, or the open segment's beginning.
  const auto segments = static_cast<int64_t>(header.at("checkpoints").size()) + 1;
  const int64_t needed = state.view.position - history.begin;
  if (needed > segments * segment)
    fail(Status::FORMAT, file.name(), ": ", needed, " tokens since the oldest checkpoint do not fit ", segments,
         " segments of ", segment);
  history.tokens = read_tokens(file, "tokens", vocabulary, static_cast<uint64_t>(needed));
  if (static_cast<int64_t>(history.tokens.size()) != needed)
    fail(Status::FORMAT, file.name(), ": section 'tokens' holds ", history.tokens.size(), " tokens, but ", needed,
         " are needed");
  history.randoms.resize(history.tokens.size());
  file.read("randoms", {as_section(history.randoms)});
  history.random_before = random_member(header, "random_before", file);
  for (const int32_t token : read_tokens(file, "recent_before", vocabulary, kMostRecent))
    history.recent_before.push(token);
  const int64_t oldest = state.checkpoints.empty() ? state.view.segment_begin : state.checkpoints.front().view.position;
  if (oldest < history.begin) fail(Status::FORMAT, file.name(), ": the tokens since ", oldest, " are missing");
  history.drop_before(oldest);
}

void read_generation(const SnapshotView &file, const json &header, int vocabulary, int64_t position,
                     Generation &generation) {
  const json &run = member(header, "generation", file.name());
  generation.generated = member<int64_t>(run, "generated", file.name());
  const auto reason =
      std::find(std::begin(kStopReasons), std::end(kStopReasons), member<std::string>(run, "stop_reason", file.name()));
  if (reason == std::end(kStopReasons) || generation.generated < 0)
    fail(Status::FORMAT, file.name(), ": impossible state of generation: ", text_of(run));
  generation.reason = static_cast<StopReason>(reason - std::begin(kStopReasons));
  generation.end_reported = member<bool>(run, "end_reported", file.name());
  generation.text_started = member<bool>(run, "text_started", file.name());
  // Version 0.1.0's first snapshots had neither.
  if (run.contains("chat_begin")) generation.chat_begin = member<int64_t>(run, "chat_begin", file.name());
  if (run.contains("unknown_bytes")) generation.unknown_bytes = member<int64_t>(run, "unknown_bytes", file.name());
  if (generation.chat_begin < -1 || generation.chat_begin > position || generation.unknown_bytes < 0)
    fail(Status::FORMAT, file.name(), ": impossible state of a conversation: ", text_of(run));
  generation.random.set_state(random_member(header, "random", file));
  for (const int32_t token : read_tokens(file, "recent", vocabulary, kMostRecent)) generation.recent.push(token);
  generation.output.restore(read_text(file, "ready", kMostText), read_text(file, "held", kMostText),
                            read_text(file, "pending", 3));
}

}  // namespace

OwnedJson<> parse_snapshot_header(const SnapshotView &file) {
  auto header = parse_json(file.json(), Status::FORMAT, file.name() + ": the header");
  if (!header->is_object()) fail(Status::FORMAT, file.name(), ": the header holds no JSON object");
  return header;
}

void Session::restore(const std::string &path, Task *task) {
  check_cancel(task, "restoring was cancelled; the session is as it was");
  const MappedFile file(path, MappedFile::Use::ALL);
  restore(file.bytes(), path);
}

void Session::restore(std::span<const std::byte> bytes, const std::string &name, Task *task) {
  check_cancel(task, "restoring was cancelled; the session is as it was");
  const SnapshotView file(bytes, name);
  const auto owned = parse_snapshot_header(file);
  const json &header = *owned;
  const auto kind = member<std::string>(header, "kind", file.name());
  if (kind != "session" && kind != "memory") fail(Status::FORMAT, file.name(), ": kind '", kind, "' is not known");
  const bool whole = kind == "session";
  check_model(header, file, *model_, whole);

  // Everything is read into a second Impl, which replaces this session's when it is complete.
  auto fresh = std::make_unique<Impl>(*model_, impl_->given);
  State &state = fresh->state;
  if (!whole) {
    fresh->apply(*model_, impl_->options);  // a memory brings none: those of an earlier snapshot stay
    read_memory_alone(file, header, *model_, fresh->engine, state);
    fresh->history.begin = state.view.position;
    fresh->generation.random = impl_->generation.random;
    fresh->history.random_before = impl_->generation.random.state();
    fresh->generation.text_started = state.view.position > 0;
    impl_ = std::move(fresh);
    moved();
    return;
  }
  const RowNumbers stored = read_row_numbers(header, file);
  const int vocabulary = model_->config().vocabulary;
  try {
    fresh->apply(*model_, complete_options(impl_->given, member(header, "options", file.name()), file));
  } catch (const Error &error) {
    if (error.status() != Status::INVALID_ARGUMENT) throw;
    fail(Status::FORMAT, file.name(), ": ", error.what());
  }
  const MemoryConfig &memory = model_->config().memory;
  state.view = read_view(member(header, "view", file.name()), file, memory);
  const ThreadScope threads(model_->threads(), fresh->settings.threads);
  read_point(threads, file, "", fresh->engine, stored, state);
  state.keep = read_keep(file, "", memory, state.view);
  state.has_hidden = member<bool>(header, "has_hidden", file.name());
  read_checkpoints(threads, file, header, memory, fresh->engine, stored, state);
  read_history(file, header, vocabulary, memory.segment, state, fresh->history);
  read_generation(file, header, vocabulary, state.view.position, fresh->generation);
  // The snapshot's generator goes on, unless this session was given another seed than the one that it began with.
  const json &saved = header.at("options");
  if (const int64_t seed = impl_->given.get_int("seed");
      impl_->given.is_set("seed") && saved.value("seed", json()) != seed)
    fresh->seed(seed);
  impl_ = std::move(fresh);
  moved();
}

}  // namespace infini
