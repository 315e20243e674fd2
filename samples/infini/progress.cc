#include "progress.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "common.h"

namespace cli {
namespace {

// How often the signal came that came most: mpirun sends another one a second after Ctrl-C, which is not impatience.
volatile std::sig_atomic_t interrupts = 0, cancels_at = 1, kills_at = 2, last_signal = 0, counts[3] = {};
int wake[2] = {-1,
               -1};  // a pipe that an interrupt writes to, so that a wait for input ends, whichever thread has heard it

void hear(int signal) {
  const int before = errno;
  last_signal = signal;
  volatile std::sig_atomic_t &count = counts[signal == SIGINT ? 0 : signal == SIGTERM ? 1 : 2];
  count = count + 1;
  if (count > interrupts) interrupts = count;
  if (interrupts >= kills_at) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  (void)!write(wake[1], "", 1);
  errno = before;
}

}  // namespace

void catch_interrupts() {
  if (pipe2(wake, O_CLOEXEC | O_NONBLOCK) != 0)
    throw std::runtime_error(std::string("no pipe: ") + std::strerror(errno));
  struct sigaction action = {}, before = {};
  action.sa_handler = hear;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    sigaction(signal, nullptr, &before);
    if (signal == SIGHUP && before.sa_handler == SIG_IGN) continue;  // nohup
    sigaction(signal, &action, nullptr);
  }
  std::signal(SIGXFSZ, SIG_IGN);
}

bool interrupted() { return interrupts > 0; }
int interrupt_count() { return interrupts; }
bool interrupted_by_key() { return interrupts > 0 && last_signal == SIGINT; }

void forget_interrupts() {
  interrupts = 0;
  for (auto &count : counts) count = 0;
  char byte;
  while (read(wake[0], &byte, 1) == 1) {}
}

Patience::Patience(int cancel, int kill) : cancel_before_(cancels_at), kill_before_(kills_at) {
  kills_at = interrupts + kill;
  cancels_at = interrupts + cancel;
}
Patience::~Patience() {
  cancels_at = cancel_before_;
  kills_at = std::max(kill_before_, interrupts + 1);
}

size_t read_some(int file, char *data, size_t capacity, const std::string &path) {
  for (;;) {
    pollfd waits[] = {{file, POLLIN, 0}, {wake[0], POLLIN, 0}};
    if (poll(waits, 2, -1) < 0 && errno != EINTR)
      throw std::runtime_error("cannot wait for " + path + ": " + std::strerror(errno));
    if (interrupted()) throw Cancelled();
    if (waits[0].revents == 0) continue;
    const ssize_t size = read(file, data, capacity);
    if (size >= 0) return static_cast<size_t>(size);
    if (errno != EINTR && errno != EAGAIN)
      throw std::runtime_error("cannot read " + path + ": " + std::strerror(errno));
  }
}

LiveLine::LiveLine(bool wanted) : visible_(wanted && isatty(STDERR_FILENO)) {}

void LiveLine::show(const std::string &text) {
  if (!visible_ || (shown_ && since_shown_.seconds() <= 0.1)) return;
  winsize size = {};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  std::fprintf(stderr, "\r\033[K%s", text.substr(0, known ? size.ws_col - 1u : 79u).c_str());
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
  if (since_begin_.seconds() < 0.1) return;  // too short for words
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
