// Statuses, version, options, tasks, the log and text streams.
#include <cstring>
#include <mutex>
#include <new>
#include <stdexcept>

#include "base/log.h"
#include "base/schema.h"
#include "guard.h"

using namespace infini;
using namespace infini::capi;

#define X(name, value, text) static_assert(static_cast<int>(Status::name) == INFINI_##name && INFINI_##name == value);
INFINI_STATUS_TABLE(X)
#undef X
static_assert(static_cast<int>(LogLevel::DEBUG) == INFINI_LOG_DEBUG);
static_assert(static_cast<int>(LogLevel::INFO) == INFINI_LOG_INFO);
static_assert(static_cast<int>(LogLevel::WARNING) == INFINI_LOG_WARNING);

namespace {

// A plain array: it needs no memory when memory is what lacks, and nothing when the thread ends.
thread_local char last_error[4096];
thread_local int last_os_error;

void set_last_error(const char *message, int os_error = 0) noexcept {
  last_os_error = os_error;
  const size_t size = std::min(std::strlen(message), sizeof last_error - 1);
  std::memcpy(last_error, message, size);
  last_error[size] = 0;
}

infini_status failed(Status status, const char *message, int os_error = 0) noexcept {
  try {
    set_last_error(printable(message, sizeof last_error - 8).c_str(), os_error);  // names and paths may be anything
  } catch (...) { set_last_error(status_text(status), os_error); }
  return static_cast<infini_status>(status);
}

// The record that infini_log_next is giving. Never destroyed, as the log itself.
struct LogReader {
  std::mutex mutex;
  WaitingText next;
  int level = 0;
};
LogReader &log_reader() {
  static LogReader &reader = *new LogReader;
  return reader;
}

}  // namespace

infini_status capi::translate_exception() noexcept {
  try {
    throw;
  } catch (const Error &error) {
    return failed(error.status(), error.what(), error.os_error());
  } catch (const std::bad_alloc &) {
    set_last_error("memory could not be allocated");
    return INFINI_OUT_OF_MEMORY;
  } catch (const std::length_error &) {
    set_last_error("more memory was asked for than there can be");
    return INFINI_OUT_OF_MEMORY;
  } catch (const std::exception &error) { return failed(Status::INTERNAL, error.what()); } catch (...) {
    set_last_error("an exception of unknown type");
    return INFINI_INTERNAL;
  }
}

extern "C" {

const char *infini_status_name(int status) { return status_name(static_cast<Status>(status)); }
const char *infini_status_text(int status) { return status_text(static_cast<Status>(status)); }
const char *infini_last_error(void) { return last_error; }
int infini_last_os_error(void) { return last_os_error; }
const char *infini_version(void) { return INFINI_VERSION_TEXT; }
int infini_abi_version(void) { return INFINI_ABI_VERSION; }

infini_status infini_options_json(char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(describe_options().text, buffer, capacity, size); });
}

infini_status infini_options_create(infini_options **options) {
  return give_handle(options, "options", [] { return infini_options{}; });
}

void infini_options_free(infini_options *options) { delete options; }

infini_status infini_options_set_int(infini_options *options, const char *name, int64_t value) {
  return guard([&] { need(options, "options").value.set(&need(name, "name"), value); });
}

infini_status infini_options_set_double(infini_options *options, const char *name, double value) {
  return guard([&] { need(options, "options").value.set(&need(name, "name"), value); });
}

infini_status infini_options_set_string(infini_options *options, const char *name, const char *value) {
  return guard([&] { need(options, "options").value.set(&need(name, "name"), std::string(&need(value, "value"))); });
}

infini_status infini_options_get_int(const infini_options *options, const char *name, int64_t *value) {
  return guard([&] { need(value, "value") = need(options, "options").value.get_int(&need(name, "name")); });
}

infini_status infini_options_get_double(const infini_options *options, const char *name, double *value) {
  return guard([&] { need(value, "value") = need(options, "options").value.get_double(&need(name, "name")); });
}

infini_status infini_options_get_string(const infini_options *options, const char *name, char *buffer, size_t capacity,
                                        size_t *size) {
  return guard(
      [&] { give_text(need(options, "options").value.get_string(&need(name, "name")), buffer, capacity, size); });
}

infini_status infini_task_create(infini_task **task) {
  return give_handle(task, "task", [] { return infini_task{}; });
}

void infini_task_free(infini_task *task) { delete task; }

infini_status infini_task_cancel(infini_task *task) {
  return guard([&] { need(task, "task").value.cancel(); });
}

infini_status infini_task_done(const infini_task *task, int64_t *done) {
  return guard([&] { need(done, "done") = need(task, "task").value.done(); });
}

infini_status infini_task_total(const infini_task *task, int64_t *total) {
  return guard([&] { need(total, "total") = need(task, "task").value.total(); });
}

infini_status infini_task_stage(const infini_task *task, char *buffer, size_t capacity, size_t *size) {
  return guard([&] { give_text(need(task, "task").value.stage(), buffer, capacity, size); });
}

infini_status infini_task_set_progress(infini_task *task, infini_progress_callback callback, void *user_data) {
  return guard([&] { need(task, "task").value.set_progress(callback, user_data); });
}

infini_status infini_log_set_callback(infini_log_callback callback, void *user_data) {
  return guard([&] { set_log_hook(callback, user_data); });
}

infini_status infini_log_next(int *level, char *buffer, size_t capacity, size_t *size) {
  return guard([&] {
    LogReader &reader = log_reader();
    const std::lock_guard lock(reader.mutex);
    const auto refill = [&] {
      auto record = next_log_record();
      if (!record) return false;
      reader.level = static_cast<int>(record->level);
      reader.next.put(std::move(record->message));
      return true;
    };
    const infini_status status = give_once(reader.next, buffer, capacity, size, refill);
    if (level && status == INFINI_OK) *level = reader.level;
    return status;
  });
}

infini_status infini_text_stream_create(infini_text_stream **stream) {
  return give_handle(stream, "stream", [] { return infini_text_stream{TextStream(), {}}; });
}

void infini_text_stream_free(infini_text_stream *stream) { delete stream; }

infini_status infini_text_stream_push(infini_text_stream *stream, const char *text, size_t text_size) {
  return guard([&] { need(stream, "stream").value.push(need_text(text, text_size)); });
}

infini_status infini_text_stream_finish(infini_text_stream *stream) {
  return guard([&] { need(stream, "stream").value.finish(); });
}

infini_status infini_text_stream_next(infini_text_stream *stream, char *buffer, size_t capacity, size_t *size) {
  return guard([&] {
    need(stream, "stream");
    return give_once(stream->next, buffer, capacity, size, [&] {
      std::string piece = stream->value.next();
      if (piece.empty()) return false;
      stream->next.put(std::move(piece));
      return true;
    });
  });
}

}  // extern "C"
