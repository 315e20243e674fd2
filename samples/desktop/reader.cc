#include "reader.h"

#include <nlohmann/json.hpp>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace desktop {
namespace {

std::string name_of(const std::string &path) { return std::filesystem::path(path).filename().string(); }

// The last words of a text, of whole characters, on one line.
std::string last_words(const std::string &text) {
  constexpr std::size_t kMost = 90;
  std::size_t begin = text.size() > kMost ? text.size() - kMost : 0;
  while (begin > 0 && begin < text.size() && (text[begin] & 0xC0) == 0x80) ++begin;
  std::string words = text.substr(begin);
  for (char &letter : words)
    if (static_cast<unsigned char>(letter) < ' ') letter = ' ';
  return words;
}

}  // namespace

std::string count_text(std::int64_t count) {
  std::string digits = std::to_string(count);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<std::size_t>(at), ",");
  return digits;
}

Reader::Reader(std::function<void()> wake) : wake_(std::move(wake)), thread_([this] { work(); }) {}

Reader::~Reader() {
  cancel();
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Reader::add(std::string what, std::function<std::string()> job) {
  {
    Job added{std::move(what), std::move(job), cli::make<cli::Task>(infini_task_create)};
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(added));
  }
  changed_.notify_one();
}

void Reader::work() {
  for (;;) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return end_ || !jobs_.empty(); });
    if (end_) return;
    const Job job = std::move(jobs_.front());
    jobs_.pop_front();
    part_begin_ = part_ = 0;
    task_ = job.task.get();
    lock.unlock();
    run(job);
    lock.lock();
    task_ = nullptr;
  }
}

void Reader::run(const Job &job) {
  try {
    post(Event::STARTED, job.what);
    std::string words = job.run();
    post(Event::DONE, std::move(words));
  } catch (const cli::Cancelled &) { post(Event::CANCELLED, ""); } catch (const std::exception &error) {
    post(Event::FAILED, error.what());
  }
}

void Reader::post(Event::Kind kind, std::string text) {
  Event event{kind, std::move(text), last_, chats_, notice_};
  try {
    event.numbers = last_ = numbers();
  } catch (const std::exception &) {
    // the job's own words matter more
  }
  {
    const std::lock_guard lock(mutex_);
    tokens_ = event.numbers.tokens;
    events_.push_back(std::move(event));
  }
  wake_();
}

std::optional<Event> Reader::take() {
  const std::lock_guard lock(mutex_);
  if (events_.empty()) return std::nullopt;
  Event event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void Reader::cancel() {
  const std::lock_guard lock(mutex_);
  jobs_.clear();
  if (task_) infini_task_cancel(task_);
}

Progress Reader::progress() {
  const std::lock_guard lock(mutex_);
  Progress progress{-1, tokens_};
  if (!task_) return progress;
  std::int64_t done = 0, total = 0;
  infini_task_done(task_, &done);
  infini_task_total(task_, &total);
  const auto stage = cli::all_of(infini_task_stage, static_cast<const infini_task *>(task_));
  const double part = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0;
  if (stage == "feed" && part_ > 0) {
    progress.fraction = part_begin_ + part_ * part;
    progress.tokens += done;
  } else if (stage == "open" || stage == "save") {
    progress.fraction = part;
  }
  return progress;
}

infini_session *Reader::need_session() const {
  if (!session_) throw std::runtime_error("Open a model first.");
  return session_.get();
}

std::int64_t Reader::position() const {
  return session_
             ? cli::value_of<std::int64_t>(infini_session_position, static_cast<const infini_session *>(session_.get()))
             : 0;
}

Numbers Reader::numbers() const {
  if (!session_) return {};
  using nlohmann::json;
  const infini_session *session = session_.get();
  const auto info = json::parse(cli::all_of(infini_session_info_json, session));
  Numbers numbers{position(), info.at("session_bytes").get<std::int64_t>(), 0};
  const infini_model *model = model_.get();
  const auto footprint = json::parse(cli::all_of(infini_model_footprint_json, model, numbers.tokens));
  for (const auto &method : footprint.at("methods")) {
    if (method.at("method") == "kv_cache") numbers.cache_bytes = method.at("bytes").get<std::int64_t>();
  }
  return numbers;
}

void Reader::open(std::string path) {
  add("Opening " + name_of(path), [this, path] {
    const infini_options *defaults = nullptr;
    auto model = cli::make<cli::Model>(infini_model_open, path.c_str(), defaults, task_);
    const auto options = cli::make<cli::Options>(infini_options_create);
    cli::check(infini_options_set_int(options.get(), "max_tokens", 200));
    cli::check(infini_options_set_double(options.get(), "temperature", 0.8));
    cli::check(infini_options_set_string(options.get(), "unknown_text", "skip"));
    const infini_model *made = model.get();
    auto session =
        cli::make<cli::Session>(infini_session_create, made, static_cast<const infini_options *>(options.get()));
    const auto info = nlohmann::json::parse(cli::all_of(infini_model_info_json, made));
    const auto &chat = info.at("chat_template");
    session_ = std::move(session);
    model_ = std::move(model);
    chats_ = chat.is_string() && chat != "unknown";
    const bool remembers = info.at("trained_memory").get<bool>();
    notice_ = remembers ? "" : cli::no_memory_notice(name_of(path), info.at("window").get<std::int64_t>());
    const auto name = info.at("name").is_string() ? info.at("name").get<std::string>() : std::string();
    post(Event::OPENED, name.empty() ? name_of(path) : name);
    return std::string();
  });
}

void Reader::feed(const std::string &text) {
  cli::check(infini_session_feed_text(need_session(), text.data(), text.size(), task_));
}

void Reader::read_text(std::string text) {
  add("Reading the text", [this, text] {
    const std::int64_t before = position();
    {
      const std::lock_guard lock(mutex_);
      part_ = 1;
    }
    feed(text);
    return "Read a text of " + count_text(position() - before) + " tokens";
  });
}

void Reader::read_file(std::string path) {
  add("Reading " + name_of(path), [this, path] { return feed_file(path); });
}

std::string Reader::feed_file(const std::string &path) {
  need_session();
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": " + std::strerror(errno));
  const double size = static_cast<double>(std::filesystem::file_size(path));
  const std::int64_t before = position();
  const auto stream = cli::make<cli::TextStream>(infini_text_stream_create);
  std::string data(65536, '\0'), piece(65536, '\0');
  double fed = 0;
  const auto feed_pieces = [&] {
    std::size_t length = 0;
    infini_status status;
    while ((status = infini_text_stream_next(stream.get(), piece.data(), piece.size(), &length)) == INFINI_OK) {
      {
        const std::lock_guard lock(mutex_);
        tokens_ = position();
        part_begin_ = fed / size;
        part_ = static_cast<double>(length) / size;
      }
      feed(piece.substr(0, length));
      fed += static_cast<double>(length);
      post(Event::READ, last_words(piece.substr(0, length)));
    }
    if (status != INFINI_END) cli::check(status);
  };
  while (file.read(data.data(), static_cast<std::streamsize>(data.size())), file.gcount() > 0) {
    cli::check(infini_text_stream_push(stream.get(), data.data(), static_cast<std::size_t>(file.gcount())));
    feed_pieces();
  }
  if (file.bad()) throw std::runtime_error(path + ": cannot be read");
  cli::check(infini_text_stream_finish(stream.get()));
  feed_pieces();
  return "Read " + name_of(path) + ", " + count_text(position() - before) + " tokens";
}

void Reader::ask(std::string question) {
  add("Answering", [this, question] { return answer(question); });
}

std::string Reader::answer(const std::string &question) {
  infini_session *session = need_session();
  if (chats_) {
    const auto messages = nlohmann::json::array({{{"role", "user"}, {"content", question}}}).dump();
    cli::check(infini_session_chat(session, messages.c_str(), task_));
  } else {
    feed((position() == 0 ? "" : "\n\n") + question);  // the model writes on
    cli::check(infini_session_start_generation(session));
  }
  std::string text(4096, '\0');
  std::size_t size = 0;
  infini_status status;
  while ((status = infini_session_next_text(session, task_, text.data(), text.size(), &size)) == INFINI_OK) {
    post(Event::TEXT, text.substr(0, size));
  }
  if (status != INFINI_END) cli::check(status);
  return "";
}

void Reader::save(std::string path) {
  add("Saving " + name_of(path), [this, path] {
    cli::check(infini_session_save(need_session(), path.c_str(), 0, "", "", task_));
    return "Saved the memory as " + name_of(path);
  });
}

void Reader::restore(std::string path) {
  add("Reopening " + name_of(path), [this, path] {
    cli::check(infini_session_restore(need_session(), path.c_str(), task_));
    return "Reopened the memory " + name_of(path);
  });
}

}  // namespace desktop
