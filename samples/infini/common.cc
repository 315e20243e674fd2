#include "common.h"

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <sstream>

#include "notice.h"

namespace cli {
namespace {

[[noreturn]] void fail(const std::string &message) { throw std::runtime_error(message); }

// Where parsing stopped, counted as editors do.
std::string place_in(const std::string &text, size_t byte) {
  const std::string before = text.substr(0, byte > 0 ? byte - 1 : 0);
  return ": line " + std::to_string(1 + std::count(before.begin(), before.end(), '\n')) + ", column " +
         std::to_string(before.size() - (before.rfind('\n') + 1) + 1) +
         (byte > text.size() ? ", where it ends too early" : "");
}

}  // namespace

// --- flags

void ModelArguments::add(CLI::App &command) {
  command.add_option("MODEL", model, "a GGUF file")->type_name("FILE")->required();
  command.add_flag("--json", json, "print JSON and nothing else");
}

void ModelArguments::add_session_flags(CLI::App &command) {
  flags.add(command, {"threads", "weights", "compute", "window_type", "gemm", "chunk", "deterministic"},
            "How it is computed");
  flags.add(command, {"memory", "update", "segment", "carry", "sinks", "keep"}, "The memory");
  flags.add(command, {"adapter", "adapter_weight"}, "An adapter");
}

void ModelArguments::add_generation_flags(CLI::App &command) {
  flags.add(command,
            {"max_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty",
             "frequency_penalty", "penalty_window", "logit_bias", "seed", "stop", "ignore_end"},
            "Sampling");
}

void ModelArguments::add_text_flags(CLI::App &command) {
  flags.add(command, {"unknown_text"}, "Text");
  flags.set_default("unknown_text", "skip");
}

UnknownText ModelArguments::unknown_text() const {
  const Options options = flags.session_options();
  return {all_of(infini_options_get_string, static_cast<const infini_options *>(options.get()), "unknown_text"), 0};
}

Model ModelArguments::open() const { return open_model(model, flags.model_options()); }

Session ModelArguments::start(const infini_model *opened) const {
  return make<Session>(infini_session_create, opened, flags.session_options().get());
}

Model open_model(const std::string &path, const Options &options, const std::string &doing) {
  Progress progress(doing + " " + path);
  return make<Model>(infini_model_open, path.c_str(), options.get(), progress.task());
}

CLI::Option *add_count(CLI::App &command, const std::string &flag, int64_t &value, const std::string &help) {
  return command.add_option(flag, value, help)->check(CLI::PositiveNumber)->capture_default_str();
}

// --- what was given

void check_writable(const std::string &flag, const std::string &path) {
  std::error_code ignored;
  std::filesystem::path file = path;
  for (int links = 0; links < 40 && std::filesystem::is_symlink(file, ignored); ++links)
    file = file.parent_path() / std::filesystem::read_symlink(file, ignored);
  const std::filesystem::path folder = file.parent_path();
  if (path == "-") fail(flag + ": - is no file here; ./- names one that is called so");
  if (std::filesystem::is_directory(path, ignored)) fail(flag + ": " + path + " is a folder; name a file");
  if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored))
    fail(flag + ": " + path + " is a device or a pipe, and only a file can be kept; name one");
  if (!can_write_into(folder.string()))
    fail(flag + ": cannot write into the folder of " + path + ": " + std::strerror(errno));
}

Json parse_json(const std::string &text, const std::string &path) {
  constexpr int kDeepest = 32;  // no file of ours is nested deeper, and copying one would take as much stack
  const auto shallow = [&](int depth, Json::parse_event_t, Json &) {
    if (depth > kDeepest) fail(path + ": is nested deeper than " + std::to_string(kDeepest));
    return true;
  };
  try {
    return Json::parse(text, shallow);
  } catch (const Json::parse_error &error) { fail(path + ": is not JSON" + place_in(text, error.byte)); }
}

std::vector<int32_t> tokens_of(const infini_model *model, std::string_view text, bool start, bool special) {
  const int flags = (start ? INFINI_TOKENS_START : 0) | (special ? INFINI_TOKENS_SPECIAL : 0);
  return all_of<std::vector<int32_t>>(infini_model_tokenize, model, text.data(), text.size(), flags);
}

std::string known_text(const infini_model *model, std::string_view text, UnknownText &unknown) {
  const auto knows = [&](std::string_view part) {
    size_t size = 0;
    return infini_model_token_count(model, part.data(), part.size(), 0, &size) != INFINI_INVALID_ARGUMENT;
  };
  if (unknown.how == "error" || knows(text)) return std::string(text);
  json_text(std::string(text), "the text");
  const std::string_view stand_in = unknown.how == "skip" ? "" : knows("\uFFFD") ? "\uFFFD" : "?";
  std::string known;
  for (size_t at = 0, next; at < text.size(); at = next) {
    for (next = at + 1; next < text.size() && (text[next] & 0xC0) == 0x80;) ++next;
    const std::string_view character = text.substr(at, next - at);
    const bool is_known = knows(character);
    if (!is_known) unknown.bytes += static_cast<int64_t>(character.size());
    known += is_known ? character : stand_in;
  }
  return known;
}

std::vector<int32_t> tokens_of(const infini_model *model, std::string_view text, bool start, UnknownText &unknown,
                               bool special) {
  try {
    return tokens_of(model, text, start, special);
  } catch (const Refused &) {
    if (unknown.how == "error") throw;
  }
  return tokens_of(model, known_text(model, text, unknown), start, special);
}

std::vector<int64_t> parse_numbers(const std::string &list, const std::string &what) {
  std::vector<int64_t> numbers;
  std::istringstream stream(list);
  for (std::string text; std::getline(stream, text, ',');) {
    int64_t number = 0;
    if (!parse_number(text, number)) fail(what + ": '" + text + "' is not a whole number");
    numbers.push_back(number);
  }
  return numbers;
}

// --- output

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return;
  if (interrupted()) return;  // a terminal that was closed: what remains is to save
  throw OutputFailed(std::string("cannot write to standard output: ") + std::strerror(errno));
}

std::string json_text(const Json &json, const std::string &what) try {
  return json.dump();
} catch (const Json::type_error &) { fail(what + " is not UTF-8"); }

std::string json_line(const Json &json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

void print_json(const Json &json) { print(json_line(json)); }

std::string decimals(const Json &value, int count) {
  return value.is_number() ? format("%.*f", count, value.get<double>()) : "-";
}

std::string grouped(int64_t number) {
  std::string text = std::to_string(number);
  const int first = text[0] == '-' ? 1 : 0;
  for (int at = static_cast<int>(text.size()) - 3; at > first; at -= 3) text.insert(static_cast<size_t>(at), ",");
  return text;
}

std::string length_text(int64_t tokens) {
  constexpr int64_t kKilo = 1024, kMega = kKilo * kKilo;
  if (tokens >= kMega && tokens % kMega == 0) return grouped(tokens / kMega) + "M";
  if (tokens >= kKilo && tokens % kKilo == 0) return grouped(tokens / kKilo) + "K";
  return grouped(tokens);
}

std::string size_text(int64_t bytes) {
  static const char *const units[] = {"kB", "MB", "GB", "TB", "PB"};
  double value = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  for (; value >= 1000 && unit + 1 < std::size(units); ++unit) value /= 1000;
  return format("%.*f %s", value < 10 ? 2 : value < 100 ? 1 : 0, value, units[unit]);
}

std::string format(const char *pattern, ...) {
  va_list arguments, again;
  va_start(arguments, pattern);
  va_copy(again, arguments);
  std::string text(static_cast<size_t>(std::vsnprintf(nullptr, 0, pattern, arguments)), '\0');
  std::vsnprintf(text.data(), text.size() + 1, pattern, again);
  va_end(again);
  va_end(arguments);
  return text;
}

// --- measures

void feed_random(infini_session *session, int64_t count, int64_t vocabulary, const Progress &progress) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  uint32_t random = 1;
  for (int32_t &token : tokens) {
    random = random * 1664525u + 1013904223u;
    token = static_cast<int32_t>((random >> 8) % static_cast<uint32_t>(vocabulary));
  }
  check(infini_session_feed(session, tokens.data(), tokens.size(), progress.task()));
}

void Foresight::add(infini_session *session, std::string_view text, const Progress &progress) {
  double sum = 0;
  int64_t count = 0;
  check(infini_session_score_text(session, text.data(), text.size(), progress.task(), &sum, &count));
  nll += sum;
  tokens += count;
}

double Foresight::mean(const std::string &path) const {
  if (tokens == 0) fail(path + " holds no token that has another before it");
  return nll / static_cast<double>(tokens);
}

Json model_info(const infini_model *model) { return json_of(infini_model_info_json, model); }
Json session_info(const infini_session *session) { return json_of(infini_session_info_json, session); }
int64_t position_of(const infini_session *session) { return value_of<int64_t>(infini_session_position, session); }

void tell_of_unknown_text(int64_t bytes) {
  if (bytes > 0)
    std::fprintf(stderr, "bytes that the model has no token for, left out or replaced (--unknown-text): %s\n",
                 grouped(bytes).c_str());
}

void tell_of_no_memory(const std::string &path, const infini_model *model) {
  const Json facts = model_info(model);
  if (facts["trained_memory"] || facts["memory_heads"] != 0) return;
  std::fprintf(stderr, "%s\n", no_memory_notice(path, facts["window"].get<int64_t>()).c_str());
}

}  // namespace cli
