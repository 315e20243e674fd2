// A session as a snapshot. The header's JSON holds every number, the sections the arrays:
//
//   memory    of each layer's KV heads that have a memory: M [key_size][value_size], z [key_size], and what rounding
//             left of these sums, M and z again; f32
//   window    of each layer, as attention/window.h lays it out: visit()
//   hidden    f32 [width]: the last token's normed output, from which the last logits follow bit for bit
//   tokens    i32: since the oldest place to which the session can be rewound
//   randoms   4 u64 a token of `tokens`: the random generator after it
//   recent, recent_before   i32: the tokens that penalties see, now and before `tokens`
//   ready     text that the caller has not taken; held: text that may begin a stop string; pending: bytes of an
//             unfinished character
//   cK.memory, cK.window, cK.hidden   of checkpoint K, oldest first
//
// A memory alone has only the section `memory`.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>

#include "base/file.h"
#include "base/json.h"
#include "format/snapshot.h"
#include "kernels/scalar.h"
#include "stream/session_impl.h"

namespace infini {
namespace {

using nlohmann::json;

std::span<const std::byte> bytes_of_vector(const auto &values) { return std::as_bytes(std::span(values)); }
std::span<std::byte> writable(auto &values) { return std::as_writable_bytes(std::span(values)); }

const char *const kOptions[] = {"max_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty",
                                "frequency_penalty", "penalty_window", "logit_bias", "stop", "ignore_end"};
const char *const kStopReasons[] = {"none", "end_token", "stop_string", "max_tokens"};

json view_json(const View &view) {
  return {{"position", view.position}, {"origin", view.origin}, {"window_begin", view.window_begin},
          {"segment_begin", view.segment_begin}, {"sinks", view.sinks}, {"memory_tokens", view.memory_tokens}};
}

// What must be equal in the session that restores.
json shape_json(const Model &model, bool with_window) {
  const Config &config = model.config();
  std::string memory_heads;  // a digit a KV head: whether it has a memory
  for (int l = 0; l < config.layers; ++l)
    for (int h = 0; h < config.kv_heads; ++h) memory_heads += config.has_memory(l, h) ? '1' : '0';
  json shape = {{"layers", config.layers}, {"kv_heads", config.kv_heads}, {"key_size", config.key_size},
                {"value_size", config.value_size}, {"memory_heads", memory_heads}, {"memory_type", "f32"},
                {"update", config.memory.update == UpdateRule::DELTA ? "delta" : "linear"}};
  if (with_window) {
    shape["width"] = config.width;
    shape["segment"] = config.memory.segment;
    shape["carry"] = config.memory.carry;
    shape["sinks"] = config.memory.sinks;
  }
  return shape;
}

// --- memories

std::vector<float> pack_memory(const std::vector<LayerState> &layers) {
  std::vector<float> values;
  for (const LayerState &layer : layers)
    for (const Memory &memory : layer.memory) memory.visit([&](float number) { values.push_back(number); });
  return values;
}

void check_finite(std::span<const float> values, const SnapshotView &file, const std::string &section) {
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i])) fail(Status::FORMAT, file.name(), ": section '", section, "' holds ", values[i], " at ", i);
}

void read_floats(const SnapshotView &file, const std::string &section, std::span<float> values) {
  const std::span<std::byte> parts[] = {std::as_writable_bytes(values)};
  file.read(section, parts);
  check_finite(values, file, section);
}

void unpack_memory(const SnapshotView &file, const std::string &section, std::vector<LayerState> &layers) {
  std::vector<float> values(pack_memory(layers).size());
  read_floats(file, section, values);
  const float *next = values.data();
  for (LayerState &layer : layers)
    for (Memory &memory : layer.memory) memory.visit([&](float &number) { number = *next++; });
}

// --- windows

std::vector<std::span<const std::byte>> window_parts(const std::vector<LayerState> &layers, const View &view) {
  std::vector<std::span<const std::byte>> parts;
  for (const LayerState &layer : layers)
    layer.window.visit(view, [&](const char *data, int64_t bytes) { parts.push_back(std::as_bytes(std::span(data, static_cast<size_t>(bytes)))); });
  return parts;
}

std::vector<std::span<std::byte>> window_parts(std::vector<LayerState> &layers, const View &view) {
  std::vector<std::span<std::byte>> parts;
  for (LayerState &layer : layers)
    layer.window.visit(view, [&](char *data, int64_t bytes) { parts.push_back(std::as_writable_bytes(std::span(data, static_cast<size_t>(bytes)))); });
  return parts;
}

std::vector<LayerState> empty_layers(const Model &model, NumberType type) {
  AttentionRules rules = model.weights().attention;
  rules.shape.type = type;
  std::vector<LayerState> layers;
  for (const LayerWeights &layer : model.weights().layers) layers.emplace_back(rules, layer.gate_weight.data());
  return layers;
}

// Reads a window, also one of a session that computed in the other number type.
void read_window(const SnapshotView &file, const std::string &section, const Model &model, NumberType stored, const View &view,
                 std::vector<LayerState> &layers) {
  const bool same = stored == model.weights().compute;
  std::vector<LayerState> other;
  if (!same) other = empty_layers(model, stored);
  file.read(section, window_parts(same ? layers : other, view));
  for (size_t l = 0; l < layers.size(); ++l) {
    if (!same) layers[l].window.convert_from(other[l].window, view);
    if (!layers[l].window.is_finite()) fail(Status::FORMAT, file.name(), ": section '", section, "' holds numbers that are not finite");
  }
}

// --- the header

// Whether the value can become a T without a number that T cannot hold.
template <class T>
bool fits(const json &value) {
  if constexpr (std::is_same_v<T, uint64_t>) return value.is_number_unsigned();
  else if constexpr (std::is_same_v<T, int64_t>) return value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX);
  else return true;
}

// A member of untrusted JSON, in the type that it must have.
template <class T>
T member(const json &object, const char *name, const SnapshotView &file) {
  try {
    const json &value = object.at(name);
    if (fits<T>(value)) return value.get<T>();
  } catch (const json::exception &) {
  }
  fail(Status::FORMAT, file.name(), ": the header lacks '", name, "', or it has another type than it should");
}

// The four numbers of a random generator.
std::array<uint64_t, 4> random_member(const json &header, const char *name, const SnapshotView &file) {
  const auto values = member<std::vector<json>>(header, name, file);
  std::array<uint64_t, 4> state{};
  if (values.size() != state.size() || !std::all_of(values.begin(), values.end(), fits<uint64_t>))
    fail(Status::FORMAT, file.name(), ": '", name, "' is no state of a random generator");
  std::transform(values.begin(), values.end(), state.begin(), [](const json &value) { return value.get<uint64_t>(); });
  return state;
}

json parse_header(const SnapshotView &file) {
  json header = parse_json(file.json(), Status::FORMAT, file.name());
  if (!header.is_object()) fail(Status::FORMAT, file.name(), ": the header holds no JSON object");
  return header;
}

View read_view(const json &object, const SnapshotView &file, const AttentionShape &shape) {
  View view;
  const auto number = [&](const char *name) { return member<int64_t>(object, name, file); };
  view.position = number("position"), view.origin = number("origin"), view.window_begin = number("window_begin");
  view.segment_begin = number("segment_begin"), view.sinks = number("sinks"), view.memory_tokens = number("memory_tokens");
  const bool ordered = 0 <= view.origin && view.origin <= view.window_begin && view.window_begin <= view.segment_begin &&
                       view.segment_begin <= view.position && view.position < (int64_t{1} << 60);
  if (!ordered || view.open() >= shape.segment || view.segment_begin - view.window_begin > shape.carry ||
      view.sinks != std::min<int64_t>(shape.sinks, view.window_begin - view.origin) || view.memory_tokens < 0 || view.memory_tokens > view.position)
    fail(Status::FORMAT, file.name(), ": impossible positions: ", text_of(object));
  return view;
}

void check_model(const json &header, const SnapshotView &file, const Model &model, bool with_window) {
  const json stored = member<json>(header, "model", file);
  const auto fingerprint = member<std::string>(stored, "fingerprint", file);
  if (fingerprint != model.fingerprint())
    fail(Status::MODEL_MISMATCH, file.name(), ": the snapshot belongs to model '", member<std::string>(stored, "name", file), "' (fingerprint ", fingerprint,
         "), this session's is '", model.config().name, "' (", model.fingerprint(), ")");
  const json shape = member<json>(header, "shape", file), expected = shape_json(model, with_window);
  for (const auto &[name, value] : expected.items())
    if (!shape.is_object() || !shape.contains(name) || shape[name] != value)
      fail(Status::MODEL_MISMATCH, file.name(), ": the snapshot was made with another '", name, "' than ", text_of(value),
           "; open the model with the options that it was opened with then");
}

json read_array(const SnapshotView &file, const json &header, const char *name) {
  json array = member<json>(header, name, file);
  if (!array.is_array()) fail(Status::FORMAT, file.name(), ": '", name, "' is no list");
  return array;
}

std::vector<int32_t> read_tokens(const SnapshotView &file, const std::string &section, int vocabulary, uint64_t most) {
  const uint64_t size = file.entry(section).size;
  if (size % sizeof(int32_t) != 0 || size / sizeof(int32_t) > most)
    fail(Status::FORMAT, file.name(), ": section '", section, "' holds ", size, " bytes");
  std::vector<int32_t> tokens(size / sizeof(int32_t));
  const std::span<std::byte> parts[] = {writable(tokens)};
  file.read(section, parts);
  for (const int32_t token : tokens)
    if (token < 0 || token >= vocabulary) fail(Status::FORMAT, file.name(), ": section '", section, "' holds token ", token);
  return tokens;
}

std::string read_text(const SnapshotView &file, const std::string &section, uint64_t most) {
  const uint64_t size = file.entry(section).size;
  if (size > most) fail(Status::FORMAT, file.name(), ": section '", section, "' holds ", size, " bytes");
  std::string text(size, '\0');
  const std::span<std::byte> parts[] = {writable(text)};
  file.read(section, parts);
  return text;
}

json option_values(const Options &options) {
  json values = json::object();
  for (const OptionSpec &spec : option_table()) {
    if (std::none_of(std::begin(kOptions), std::end(kOptions), [&](const char *name) { return std::string(name) == spec.name; })) continue;
    if (std::holds_alternative<int64_t>(spec.standard)) values[spec.name] = options.get_int(spec.name);
    else if (std::holds_alternative<double>(spec.standard)) values[spec.name] = options.get_double(spec.name);
    else values[spec.name] = options.get_string(spec.name);
  }
  return values;
}

// The options of the session, completed from the snapshot's.
Options complete_options(const Options &given, const json &values, const SnapshotView &file) {
  Options options = given;
  if (!values.is_object()) fail(Status::FORMAT, file.name(), ": 'options' is no object");
  for (const char *name : kOptions) {
    if (given.is_set(name) || !values.contains(name)) continue;
    const json &value = values[name];
    if (fits<int64_t>(value)) options.set(name, value.get<int64_t>());
    else if (value.is_number()) options.set(name, value.get<double>());
    else if (value.is_string()) options.set(name, value.get<std::string>());
  }
  return options;
}

json random_json(const std::array<uint64_t, 4> &state) { return {state[0], state[1], state[2], state[3]}; }

// Everything that an image points into.
struct Parts {
  json header;
  std::vector<SnapshotSection> sections;
  std::deque<std::vector<float>> memories;  // stay where they are
  std::vector<int32_t> recent, recent_before;

  void add(const std::string &name, std::span<const std::byte> bytes) { sections.push_back({name, {bytes}}); }
  void add_memory(const std::string &name, const std::vector<LayerState> &layers) {
    memories.push_back(pack_memory(layers));
    add(name, bytes_of_vector(memories.back()));
  }
};

}  // namespace

// f(image) with everything that it points into alive.
void Session::with_image(SnapshotKind kind, const Labels &labels, const std::function<void(const SnapshotImage &)> &f) const {
  impl_->check_whole();
  const bool whole = kind == SnapshotKind::SESSION;
  const State &state = impl_->state;
  Parts parts;
  parts.header = {{"library", INFINI_VERSION_TEXT}, {"kind", whole ? "session" : "memory"}, {"name", labels.name}, {"note", labels.note},
                  {"model", {{"name", model_->config().name}, {"fingerprint", model_->fingerprint()}}}, {"shape", shape_json(*model_, whole)}};
  if (!whole) {
    State closed = state.copy();
    Workspace workspace;
    const ThreadScope scope(model_->threads(), impl_->settings.threads);
    infini::close_segment(*model_, closed, workspace);
    parts.header["view"] = view_json(closed.view);
    parts.add_memory("memory", closed.layers);
    f(SnapshotImage(text_of(parts.header), std::move(parts.sections), impl_->settings.compress));
    return;
  }
  const Generation &generation = impl_->generation;
  parts.header["view"] = view_json(state.view);
  parts.header["compute"] = model_->weights().compute == NumberType::F32 ? "f32" : "bf16";
  parts.header["has_hidden"] = state.has_hidden;
  parts.header["history_begin"] = impl_->history.begin;
  parts.header["random"] = random_json(generation.random.state());
  parts.header["random_before"] = random_json(impl_->history.random_before);
  parts.header["generation"] = {{"generated", generation.generated}, {"stop_reason", kStopReasons[static_cast<int>(generation.reason)]},
                                {"end_reported", generation.end_reported}, {"text_started", generation.text_started}};
  parts.header["options"] = option_values(impl_->options);
  parts.add_memory("memory", state.layers);
  parts.sections.push_back({"window", window_parts(state.layers, state.view)});
  parts.add("hidden", bytes_of_vector(state.hidden));
  parts.add("tokens", bytes_of_vector(impl_->history.tokens));
  parts.add("randoms", bytes_of_vector(impl_->history.randoms));
  parts.recent = generation.recent.in_order();
  parts.recent_before = impl_->history.recent_before.in_order();
  parts.add("recent", bytes_of_vector(parts.recent));
  parts.add("recent_before", bytes_of_vector(parts.recent_before));
  parts.add("ready", bytes_of_vector(generation.output.ready()));
  parts.add("held", bytes_of_vector(generation.output.held()));
  parts.add("pending", bytes_of_vector(generation.output.pending()));
  parts.header["checkpoints"] = json::array();
  for (size_t k = 0; k < state.checkpoints.size(); ++k) {
    const Checkpoint &checkpoint = state.checkpoints[k];
    parts.header["checkpoints"].push_back({{"view", view_json(checkpoint.view)}, {"has_hidden", checkpoint.has_hidden}, {"begins", checkpoint.layers.empty()}});
    if (checkpoint.layers.empty()) continue;
    parts.add_memory(cat("c", k, ".memory"), checkpoint.layers);
    parts.sections.push_back({cat("c", k, ".window"), window_parts(checkpoint.layers, checkpoint.view)});
    parts.add(cat("c", k, ".hidden"), bytes_of_vector(checkpoint.hidden));
  }
  f(SnapshotImage(text_of(parts.header), std::move(parts.sections), impl_->settings.compress));
}

void Session::save(const std::string &path, SnapshotKind kind, const Labels &labels, Task *task) const {
  if (task && task->take_cancel()) fail(Status::CANCELLED, "saving was cancelled; nothing was written");
  with_image(kind, labels, [&](const SnapshotImage &image) {
    if (task) task->begin("save", static_cast<int64_t>(image.size()));
    AtomicFile file(path);
    int64_t done = 0;
    constexpr size_t kPiece = size_t{4} << 20;
    image.write([&](const void *data, size_t size) {
      for (size_t at = 0; at < size; at += kPiece) {
        if (task && task->take_cancel()) fail(Status::CANCELLED, "saving was cancelled; '", path, "' is as it was");
        file.write(static_cast<const char *>(data) + at, std::min(kPiece, size - at));
        if (task) task->advance_to(done += static_cast<int64_t>(std::min(kPiece, size - at)));
      }
    });
    file.commit();
  });
}

std::vector<std::byte> Session::save(SnapshotKind kind, const Labels &labels) const {
  std::vector<std::byte> bytes;
  with_image(kind, labels, [&](const SnapshotImage &image) {
    bytes.reserve(image.size());
    image.write([&](const void *data, size_t size) {
      const auto *from = static_cast<const std::byte *>(data);
      bytes.insert(bytes.end(), from, from + size);
    });
  });
  return bytes;
}

void Session::restore(const std::string &path, Task *task) {
  if (task && task->take_cancel()) fail(Status::CANCELLED, "restoring was cancelled; the session is as it was");
  const MappedFile file(path);
  restore(file.bytes(), path);
}

void Session::restore(std::span<const std::byte> bytes, const std::string &name) {
  const SnapshotView file(bytes, name);
  const json header = parse_header(file);
  const auto kind = member<std::string>(header, "kind", file);
  if (kind != "session" && kind != "memory") fail(Status::FORMAT, file.name(), ": kind '", kind, "' is not known");
  const bool whole = kind == "session";
  check_model(header, file, *model_, whole);
  const AttentionShape &shape = model_->weights().attention.shape;

  // Everything is read into a second session, which takes the place of this one's insides when it is whole.
  auto fresh = std::make_unique<Impl>(*model_, impl_->given);
  State &state = fresh->state;
  if (!whole) {
    fresh->apply(*model_, impl_->options);  // a memory says nothing of how to generate
    const json stored = member<json>(header, "view", file);
    state.view.position = member<int64_t>(stored, "position", file);
    state.view.memory_tokens = member<int64_t>(stored, "memory_tokens", file);
    if (state.view.position < 0 || state.view.position > (int64_t{1} << 60) || state.view.memory_tokens < 0 || state.view.memory_tokens > state.view.position)
      fail(Status::FORMAT, file.name(), ": impossible positions: ", text_of(stored));
    unpack_memory(file, "memory", state.layers);
    // The local view starts empty.
    state.view.origin = state.view.window_begin = state.view.segment_begin = state.view.position;
    state.checkpoints.clear();
    fresh->history.begin = state.view.position;
    fresh->generation.random = impl_->generation.random;
    fresh->history.random_before = impl_->generation.random.state();
    fresh->generation.text_started = state.view.position > 0;
    impl_ = std::move(fresh);
    return;
  }

  const auto compute = member<std::string>(header, "compute", file);
  if (compute != "f32" && compute != "bf16") fail(Status::FORMAT, file.name(), ": compute '", compute, "' is not known");
  const NumberType stored = compute == "f32" ? NumberType::F32 : NumberType::BF16;
  const int vocabulary = model_->config().vocabulary;
  fresh->apply(*model_, complete_options(impl_->given, member<json>(header, "options", file), file));
  state.view = read_view(member<json>(header, "view", file), file, shape);
  unpack_memory(file, "memory", state.layers);
  read_window(file, "window", *model_, stored, state.view, state.layers);
  read_floats(file, "hidden", state.hidden);
  state.has_hidden = member<bool>(header, "has_hidden", file);

  state.checkpoints.clear();
  const json checkpoints = read_array(file, header, "checkpoints");
  const size_t skip = checkpoints.size() > static_cast<size_t>(state.kept) ? checkpoints.size() - static_cast<size_t>(state.kept) : 0;
  for (size_t k = skip; k < checkpoints.size(); ++k) {
    Checkpoint checkpoint;
    checkpoint.view = read_view(member<json>(checkpoints[k], "view", file), file, shape);
    checkpoint.has_hidden = member<bool>(checkpoints[k], "has_hidden", file);
    const int64_t before = state.checkpoints.empty() ? -1 : state.checkpoints.back().view.position;
    if (checkpoint.view.open() != 0 || checkpoint.view.position <= before || checkpoint.view.position > state.view.segment_begin)
      fail(Status::FORMAT, file.name(), ": checkpoint ", k, " stands at an impossible position");
    const bool begins = member<bool>(checkpoints[k], "begins", file);
    if (begins && checkpoint.view.position != 0) fail(Status::FORMAT, file.name(), ": checkpoint ", k, " is no beginning");
    if (!begins) {
      checkpoint.layers = empty_layers(*model_, model_->weights().compute);
      unpack_memory(file, cat("c", k, ".memory"), checkpoint.layers);
      read_window(file, cat("c", k, ".window"), *model_, stored, checkpoint.view, checkpoint.layers);
      checkpoint.hidden.resize(state.hidden.size());
      read_floats(file, cat("c", k, ".hidden"), checkpoint.hidden);
    }
    state.checkpoints.push_back(std::move(checkpoint));
  }

  History &history = fresh->history;
  history.begin = member<int64_t>(header, "history_begin", file);
  if (history.begin < 0 || history.begin > state.view.position) fail(Status::FORMAT, file.name(), ": 'history_begin' is ", history.begin);
  history.tokens = read_tokens(file, "tokens", vocabulary, static_cast<uint64_t>(state.view.position - history.begin));
  if (static_cast<int64_t>(history.tokens.size()) != state.view.position - history.begin)
    fail(Status::FORMAT, file.name(), ": section 'tokens' holds ", history.tokens.size(), " tokens, but ", state.view.position - history.begin, " are needed");
  history.randoms.resize(history.tokens.size());
  const std::span<std::byte> randoms[] = {writable(history.randoms)};
  file.read("randoms", randoms);
  history.random_before = random_member(header, "random_before", file);
  constexpr uint64_t kMostRecent = 65536, kMostText = 1u << 20;
  for (const int32_t token : read_tokens(file, "recent_before", vocabulary, kMostRecent)) history.recent_before.push(token);
  for (const int32_t token : read_tokens(file, "recent", vocabulary, kMostRecent)) fresh->generation.recent.push(token);
  if (const int64_t oldest = state.checkpoints.empty() ? state.view.segment_begin : state.checkpoints.front().view.position; oldest < history.begin)
    fail(Status::FORMAT, file.name(), ": the tokens since ", oldest, " are missing");
  else history.drop_before(oldest);

  Generation &generation = fresh->generation;
  const json run = member<json>(header, "generation", file);
  generation.generated = member<int64_t>(run, "generated", file);
  const auto reason = std::find(std::begin(kStopReasons), std::end(kStopReasons), member<std::string>(run, "stop_reason", file));
  if (reason == std::end(kStopReasons) || generation.generated < 0) fail(Status::FORMAT, file.name(), ": impossible state of generation: ", text_of(run));
  generation.reason = static_cast<StopReason>(reason - std::begin(kStopReasons));
  generation.end_reported = member<bool>(run, "end_reported", file);
  generation.text_started = member<bool>(run, "text_started", file);
  generation.random.set_state(random_member(header, "random", file));
  generation.output.restore(read_text(file, "ready", kMostText), read_text(file, "held", kMostText), read_text(file, "pending", 3));
  impl_ = std::move(fresh);
}

std::string inspect_snapshot(std::span<const std::byte> bytes, const std::string &name, bool verify) {
  const SnapshotView file(bytes, name);
  json header = parse_header(file);
  header["format_version"] = file.version();
  header["size"] = file.size();
  header["sections"] = json::array();
  for (const SnapshotView::Entry &entry : file.entries()) {
    if (verify) file.verify(entry);
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(entry.checksum));
    header["sections"].push_back({{"name", entry.name}, {"offset", entry.offset}, {"stored_size", entry.stored_size}, {"size", entry.size},
                                  {"encoding", entry.encoding == 0 ? "plain" : "zstd"}, {"checksum", digits}});
  }
  return text_of(header);
}

std::string inspect_snapshot(const std::string &path, bool verify) {
  const MappedFile file(path);
  return inspect_snapshot(file.bytes(), path, verify);
}

}  // namespace infini
