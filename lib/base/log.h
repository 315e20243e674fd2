// The library's log: it goes to the host's hook and to a bounded queue, never to stdout or stderr.
#pragma once

#include <optional>
#include <string>

namespace infini {

enum class LogLevel : int { DEBUG = 0, INFO = 1, WARNING = 2 };

struct LogRecord {
  LogLevel level;
  std::string message;
};

using LogHook = void (*)(void *user_data, int level, const char *message);

// Replaces the process-wide hook (NULL: none). The hook may be called from any thread that is inside
// a library call, one call at a time; it must not call the library.
void set_log_hook(LogHook hook, void *user_data);
// Takes the oldest queued record. The queue holds the newest 256.
std::optional<LogRecord> next_log_record();
void log(LogLevel level, const std::string &message);

}  // namespace infini
