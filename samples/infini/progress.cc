#include "progress.h"

#include <algorithm>
#include <atomic>
#include <cstdio>

#include "common.h"

namespace cli {
namespace {

// How often the signal came that came most: mpirun sends another one a second after Ctrl-C, which is not impatience.
std::atomic<int> interrupts = 0, cancels_at = 1, kills_at = 2, counts[3] = {};
std::atomic<Interrupt> last_interrupt = Interrupt::KEY;
static_assert(std::atomic<int>::is_always_lock_free);  // a signal handler uses them

bool hear(Interrupt interrupt) {
  last_interrupt = interrupt;
  const int count = ++counts[static_cast<int>(interrupt)];
  if (count > interrupts) interrupts = count;
  return interrupts >= kills_at;
}

}  // namespace

void catch_interrupts() { listen(hear); }

bool interrupted() { return interrupts > 0; }
int interrupt_count() { return interrupts; }
bool interrupted_by_key() { return interrupts > 0 && last_interrupt == Interrupt::KEY; }

void forget_interrupts() {
  interrupts = 0;
  for (auto &count : counts) count = 0;
}

Patience::Patience(int cancel, int kill) : cancel_before_(cancels_at), kill_before_(kills_at) {
  kills_at = interrupts + kill;
  cancels_at = interrupts + cancel;
}
Patience::~Patience() {
  cancels_at = cancel_before_;
  kills_at = std::max(kill_before_, interrupts + 1);
}

LiveLine::LiveLine(bool wanted) : visible_(wanted && is_terminal(fileno(stderr))) {}

void LiveLine::show(const std::string &text) {
  if (!is_due()) return;
  const int columns = terminal_columns();
  std::fprintf(stderr, "\r\033[K%s", text.substr(0, columns > 1 ? static_cast<size_t>(columns) - 1 : 79).c_str());
  shown_ = true;
  since_shown_ = Stopwatch();
}

void LiveLine::clear() {
  if (shown_) std::fputs("\r\033[K", stderr);
  shown_ = false;
}

std::string time_text(double seconds) {
  if (seconds < 90) return format("%.0f s", seconds);
  return seconds < 90 * 60 ? format("%.0f min", seconds / 60) : format("%.1f h", seconds / 3600);
}

Progress::Progress(std::string label, int64_t total, Unit unit)
    : label_(std::move(label)), task_(make<Task>(infini_task_create)), line_(!label_.empty()), unit_(unit),
      total_(total) {
  check(infini_task_set_progress(task_.get(), report, this));
}

int Progress::report(void *user_data, const char *, int64_t done, int64_t total) {
  static_cast<Progress *>(user_data)->show(done, total);
  return interrupts >= cancels_at;
}

void Progress::add_done(int64_t done) {
  before_ += done;
  part_ = 0;
  show(0, 0);
}

void Progress::show(int64_t done, int64_t total) {
  constexpr int64_t kWidth = 30;
  if (!line_.is_due() || since_begin_.seconds() < 0.1) return;  // too short for words
  if (part_ > 0) done = total > 0 ? std::clamp(done, int64_t{0}, total) * part_ / total : 0;
  if (total_ > 0 || before_ > 0 || part_ > 0) done += before_, total = total_;
  const auto count = [this](int64_t number) { return unit_ == BYTES ? size_text(number) : grouped(number); };
  std::string line = label_ + "  ";
  if (total > 0) {
    const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
    const auto filled = static_cast<size_t>(kWidth * share);
    line += "[" + std::string(filled, '#') + std::string(kWidth - filled, ' ') + format("] %3.0f %%  ", 100 * share);
    line += count(done) + " of " + count(total);
    const double seconds = since_begin_.seconds();
    if (seconds > 1 && share > 0.01) line += "  " + time_text(seconds / share - seconds) + " left";
  } else {
    line += count(done);
  }
  line_.show(line);
}

}  // namespace cli
