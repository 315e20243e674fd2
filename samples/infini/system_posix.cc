#ifndef _WIN32
#include "system.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>
#ifdef __APPLE__
#include <mach/mach.h>
#endif

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>

#include "progress.h"

namespace cli {
namespace {

Hear g_hear = nullptr;
// A pipe that an interrupt writes to, so that a wait for input ends, whichever thread has heard it.
int wake[2] = {-1, -1};

void on_signal(int signal) {
  const int before = errno;
  if (g_hear(signal == SIGINT ? Interrupt::KEY : signal == SIGTERM ? Interrupt::END : Interrupt::CLOSED)) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  (void)!write(wake[1], "", 1);
  errno = before;
}

}  // namespace

void prepare_console() {}
bool is_terminal(int file) { return isatty(file) != 0; }

int terminal_columns() {
  winsize size = {};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

void listen(Hear hear) {
  g_hear = hear;
  if (pipe(wake) != 0) throw std::runtime_error(std::string("no pipe: ") + std::strerror(errno));
  for (const int end : wake) fcntl(end, F_SETFL, O_NONBLOCK), fcntl(end, F_SETFD, FD_CLOEXEC);
  struct sigaction action = {}, before = {};
  action.sa_handler = on_signal;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    sigaction(signal, nullptr, &before);
    if (signal == SIGHUP && before.sa_handler == SIG_IGN) continue;  // nohup
    sigaction(signal, &action, nullptr);
  }
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow further is an error of the call that writes
}

size_t read_some(int file, char *data, size_t capacity, const std::string &path) {
  for (;;) {
    pollfd waits[] = {{file, POLLIN, 0}, {wake[0], POLLIN, 0}};
    if (poll(waits, 2, -1) < 0 && errno != EINTR)
      throw std::runtime_error("cannot wait for " + path + ": " + std::strerror(errno));
    if (interrupted()) throw Cancelled();
    char byte;
    while (waits[1].revents != 0 && ::read(wake[0], &byte, 1) == 1) {}  // of an interrupt that was forgotten
    if (interrupted()) throw Cancelled();
    if (waits[0].revents == 0) continue;
    const ssize_t size = ::read(file, data, capacity);
    if (size >= 0) return static_cast<size_t>(size);
    if (errno != EINTR && errno != EAGAIN)
      throw std::runtime_error("cannot read " + path + ": " + std::strerror(errno));
  }
}

int open_to_read(const std::string &path) { return open(path.c_str(), O_RDONLY | O_CLOEXEC); }

bool can_write_into(const std::string &folder) {
  return access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK) == 0;
}

int64_t resident_bytes() {
#ifdef __APPLE__
  mach_task_basic_info info{};
  mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
  task_info(mach_task_self(), MACH_TASK_BASIC_INFO, reinterpret_cast<task_info_t>(&info), &count);
  return static_cast<int64_t>(info.resident_size);
#else
  int64_t size = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
#endif
}

}  // namespace cli
#endif
