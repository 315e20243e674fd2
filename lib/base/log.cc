#include "base/log.h"

#include <deque>
#include <mutex>

namespace infini {
namespace {

struct Log {
  std::mutex mutex;
  LogHook hook = nullptr;
  void *user_data = nullptr;
  std::deque<LogRecord> queue;
};

// Never destroyed, so that a thread that outlives main may still log.
Log &the_log() {
  static Log &log = *new Log;
  return log;
}

constexpr size_t kQueueLength = 256;

}  // namespace

void set_log_hook(LogHook hook, void *user_data) {
  std::lock_guard lock(the_log().mutex);
  the_log().hook = hook;
  the_log().user_data = user_data;
}

std::optional<LogRecord> next_log_record() {
  std::lock_guard lock(the_log().mutex);
  if (the_log().queue.empty()) return std::nullopt;
  LogRecord record = std::move(the_log().queue.front());
  the_log().queue.pop_front();
  return record;
}

void log(LogLevel level, const std::string &message) {
  std::lock_guard lock(the_log().mutex);
  if (the_log().queue.size() == kQueueLength) the_log().queue.pop_front();
  the_log().queue.push_back({level, message});
  if (the_log().hook) the_log().hook(the_log().user_data, static_cast<int>(level), message.c_str());
}

}  // namespace infini
