#include "writing.h"

#include <exception>

namespace cli {
namespace {

// Where text goes. No call may save the session while it generates, so it is stopped when a save is due.
struct Sink {
  std::string *kept;
  const Keeping &keeping;
  int64_t position;  // of the first piece, and one more with each: about that of the session
  bool due = false;
  std::exception_ptr error;

  static int receive(void *user_data, const char *text, size_t text_size) {
    auto &sink = *static_cast<Sink *>(user_data);
    try {
      if (sink.kept) sink.kept->append(text, text_size);
      else print({text, text_size});
      sink.due = sink.keeping.due(++sink.position);
      return sink.due;
    } catch (...) {
      sink.error = std::current_exception();
      return 1;
    }
  }
};

}  // namespace

Json Run::json(const infini_session *session) const {
  return {{"text", text},
          {"tokens", tokens},
          {"stop_reason", stop_reason},
          {"tokens_per_second", static_cast<double>(tokens) / seconds},
          {"resident_bytes", resident_bytes()},
          {"session_bytes", session_info(session)["session_bytes"]}};
}

Run generate_run(infini_session *session, bool keep, Keeping &keeping) {
  Run run;
  const Progress progress;
  const int64_t before = position_of(session);
  const Stopwatch watch;
  for (;;) {
    Sink sink{keep ? &run.text : nullptr, keeping, position_of(session), false, nullptr};
    const infini_status status = infini_session_generate(session, Sink::receive, &sink, progress.task());
    if (sink.error) std::rethrow_exception(sink.error);
    run.cancelled = status == INFINI_CANCELLED;
    if (!run.cancelled) check(status);
    if (!run.cancelled || !sink.due) break;
    keeping.save(session);
  }
  run.seconds = watch.seconds();
  run.tokens = position_of(session) - before;
  run.stop_reason = run.cancelled ? "cancelled" : all_of(infini_session_stop_reason, session);
  return run;
}

}  // namespace cli
