// utf8.manifest makes every text of the system UTF-8, from Windows 10 1903 on.
#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include "system.h"

#include <windows.h>

#include <fcntl.h>
#include <io.h>
#include <psapi.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

#include "progress.h"

namespace cli {
namespace {

Hear g_hear = nullptr;
HANDLE g_reader = nullptr;  // the thread that reads, to wake it
std::atomic<bool> g_reading{false};
unsigned g_output_page = 0;  // the console's, before

// Windows runs it in a new thread for each event.
BOOL WINAPI on_event(DWORD event) {
  const bool by_key = event == CTRL_C_EVENT || event == CTRL_BREAK_EVENT;
  if (g_hear(by_key ? Interrupt::KEY : Interrupt::CLOSED)) {
    constexpr UINT kEndedByKey = 0xC000013A;  // STATUS_CONTROL_C_EXIT
    TerminateProcess(GetCurrentProcess(), kEndedByKey);
  }
  // Over and over, since the reader may be about to begin.
  while (g_reading && interrupted()) {
    CancelSynchronousIo(g_reader);
    Sleep(10);
  }
  if (!by_key) Sleep(INFINITE);  // the process ends when this returns, or after some seconds
  return TRUE;
}

HANDLE handle_of(int file) { return reinterpret_cast<HANDLE>(_get_osfhandle(file)); }

struct Reading {
  Reading() { g_reading = true; }
  ~Reading() { g_reading = false; }
};

// A line, or a part of one, that was typed; reading bytes would lose all that is not ASCII.
DWORD read_console(HANDLE console, char *data, size_t capacity) {
  static wchar_t pending = 0;  // the first half of a character whose second did not fit
  wchar_t units[1024];
  DWORD count = 0, read = 0;
  if (pending) units[count++] = std::exchange(pending, L'\0');
  const auto most = static_cast<DWORD>(std::min<size_t>(std::size(units), capacity / 3)) - count;
  if (!ReadConsoleW(console, units + count, most, &read, nullptr)) return ~DWORD{0};
  count += read;
  if (count > 0 && IS_HIGH_SURROGATE(units[count - 1])) pending = units[--count];
  if (count > 0 && units[0] == 0x1a) return 0;  // Ctrl-Z
  return static_cast<DWORD>(WideCharToMultiByte(CP_UTF8, 0, units, static_cast<int>(count), data,
                                                static_cast<int>(capacity), nullptr, nullptr));
}

}  // namespace

void prepare_console() {
  for (const int file : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) _setmode(file, _O_BINARY);
  g_output_page = GetConsoleOutputCP();
  if (g_output_page != 0 && SetConsoleOutputCP(CP_UTF8)) std::atexit([] { SetConsoleOutputCP(g_output_page); });
  DWORD mode = 0;
  const HANDLE errors = GetStdHandle(STD_ERROR_HANDLE);
  if (GetConsoleMode(errors, &mode)) SetConsoleMode(errors, mode | ENABLE_VIRTUAL_TERMINAL_PROCESSING);
}

bool is_terminal(int file) {
  DWORD mode = 0;
  return GetConsoleMode(handle_of(file), &mode);
}

int terminal_columns() {
  CONSOLE_SCREEN_BUFFER_INFO facts;
  if (!GetConsoleScreenBufferInfo(GetStdHandle(STD_ERROR_HANDLE), &facts)) return 0;
  return facts.srWindow.Right - facts.srWindow.Left + 1;
}

void listen(Hear hear) {
  g_hear = hear;
  DuplicateHandle(GetCurrentProcess(), GetCurrentThread(), GetCurrentProcess(), &g_reader, 0, FALSE,
                  DUPLICATE_SAME_ACCESS);
  SetConsoleCtrlHandler(on_event, TRUE);
}

size_t read_some(int file, char *data, size_t capacity, const std::string &path) {
  const HANDLE from = handle_of(file);
  for (;;) {
    DWORD size = 0, code = 0;
    {
      const Reading scope;
      if (interrupted()) throw Cancelled();
      if (is_terminal(file)) size = read_console(from, data, capacity);
      else if (!ReadFile(from, data, static_cast<DWORD>(std::min<size_t>(capacity, 1u << 20)), &size, nullptr))
        size = ~DWORD{0};
      code = GetLastError();
    }
    if (interrupted()) throw Cancelled();
    if (size != ~DWORD{0} && (size > 0 || code != ERROR_OPERATION_ABORTED)) return size;
    if (code == ERROR_BROKEN_PIPE || code == ERROR_HANDLE_EOF) return 0;
    if (code != ERROR_OPERATION_ABORTED)
      throw std::runtime_error("cannot read " + path + ": Windows' error " + std::to_string(code));
    Sleep(1);  // the console gives up before the interrupt is heard
  }
}

int open_to_read(const std::string &path) { return _open(path.c_str(), _O_RDONLY | _O_BINARY | _O_NOINHERIT); }
bool can_write_into(const std::string &folder) { return _access(folder.empty() ? "." : folder.c_str(), W_OK) == 0; }

int64_t resident_bytes() {
  PROCESS_MEMORY_COUNTERS counters{};
  GetProcessMemoryInfo(GetCurrentProcess(), &counters, sizeof counters);
  return static_cast<int64_t>(counters.WorkingSetSize);
}

}  // namespace cli
#endif
