// One run of generation, for the commands that write.
#pragma once

#include "keeping.h"

namespace cli {

// What it came to.
struct Run {
  std::string text;  // filled only if it was not printed
  int64_t tokens = 0;
  double seconds = 0;
  std::string stop_reason;
  bool cancelled = false;

  Json json(const infini_session *session) const;
};

// Generates until the run ends or is interrupted; prints the text as it comes, or keeps it. Saves on the way, if
// --save-every says so.
Run generate_run(infini_session *session, bool keep, Keeping &keeping);

}  // namespace cli
