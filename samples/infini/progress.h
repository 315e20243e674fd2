// How far a long call has come, and how it is interrupted.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "handles.h"

namespace cli {

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

// --- interrupts, which system.h hears

// After it, an interrupt cancels the call that runs; a second one ends the process. A file that may not grow further
// (SIGXFSZ) becomes an error of the call that writes.
void catch_interrupts();
bool interrupted();
int interrupt_count();
// Whether the interrupt came from the keyboard (Ctrl-C), which may ask for less than the end of the program.
bool interrupted_by_key();
// The interrupts so far have been heard.
void forget_interrupts();

// While it lives: how many more interrupts cancel what Progress watches, and how many kill the process.
class Patience {
 public:
  Patience(int cancel, int kill);
  // Of what should be finished: whoever has not interrupted yet must do so once more.
  Patience() : Patience(interrupted() ? 1 : 2, interrupted() ? 2 : 3) {}
  ~Patience();
  Patience(const Patience &) = delete;
  Patience &operator=(const Patience &) = delete;

 private:
  int cancel_before_, kill_before_;
};

// --- progress

// One line on a terminal's standard error that is written over and over; nothing elsewhere.
class LiveLine {
 public:
  explicit LiveLine(bool wanted);
  ~LiveLine() { clear(); }
  LiveLine(const LiveLine &) = delete;
  LiveLine &operator=(const LiveLine &) = delete;
  bool is_due() const { return visible_ && (!shown_ || since_shown_.seconds() > 0.1); }
  void show(const std::string &text);  // where it is due: at most ten times a second
  void clear();                        // wipes the line, so that other output may come

 private:
  bool visible_, shown_ = false;
  Stopwatch since_shown_;
};

// "12 s", "3 min", "1.5 h"
std::string time_text(double seconds);

// A task for the library's long calls. Shows how far they have come.
class Progress {
 public:
  enum Unit { COUNT, BYTES };
  // Without a label nothing is shown; interrupts cancel all the same. `total`: what several calls will have done; 0:
  // not known.
  explicit Progress(std::string label = "", int64_t total = 0, Unit unit = COUNT);
  Progress(const Progress &) = delete;
  Progress &operator=(const Progress &) = delete;

  infini_task *task() const { return task_.get(); }
  // The next call does so much of what is counted, whatever it counts itself.
  void next_part(int64_t size) { part_ = size; }
  // Earlier calls have done so much, which is added to what is shown.
  void add_done(int64_t done);
  void clear() { line_.clear(); }

 private:
  static int report(void *user_data, const char *stage, int64_t done, int64_t total);
  void show(int64_t done, int64_t total);

  std::string label_;
  Task task_;
  LiveLine line_;
  Unit unit_;
  int64_t total_, before_ = 0, part_ = 0;
  Stopwatch since_begin_;
};

}  // namespace cli
