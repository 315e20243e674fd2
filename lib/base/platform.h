// The operating system. No other file of the library knows one: platform_linux.cc and platform_macos.cc have what
// POSIX leaves open, platform_posix.cc what both have of it, platform_windows.cc all of Windows, and platform.cc what
// is alike everywhere.
#pragma once

#include <atomic>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace infini::platform {

// --- Memory ----------------------------------------------------------------------------------------------------------

// Zero pages that cost nothing until they are written, in large pages where those are asked for and to be had. Throws
// bad_alloc.
void *map_memory(size_t bytes, bool large_pages);
void unmap_memory(void *memory, size_t bytes) noexcept;
// Gathers small pages that are in use into large ones, now where the system can do that, else later by itself.
void gather_pages(void *memory, size_t bytes) noexcept;
// Provides the pages of what is about to be written all at once, which costs less than page by page, where the system
// can.
void provide_pages(void *memory, size_t bytes) noexcept;

// --- Processors and threads ------------------------------------------------------------------------------------------

// Physical cores that this process may run on.
int cores();
// Processors that the CPU quotas of this process's control groups come to, rounded up, versions 1 and 2; 0: no quota.
// `root` stands before /proc and /sys; tests have their own.
int cpu_quota(const std::string &root = "");

// What a loop does that waits for another thread.
void pause();

// Sleeps while `word` has the value, until it is woken; it may return earlier. wake_all wakes all that sleep on `word`.
void sleep_while(const std::atomic<uint64_t> &word, uint64_t value) noexcept;
void wake_all(std::atomic<uint64_t> &word) noexcept;

// Threads that are started while it lives get no signals: those are the host's business.
class NoSignals {
 public:
  NoSignals();
  ~NoSignals();
  NoSignals(const NoSignals &) = delete;
  NoSignals &operator=(const NoSignals &) = delete;

 private:
  struct Mask;
  alignas(8) std::byte mask_[128];  // of the calling thread, before
};

// --- Files -----------------------------------------------------------------------------------------------------------
// What fails is an IO or NO_SPACE error that names the path and the system's reason.

[[noreturn]] void fail_io(const char *what, const std::string &path, int code);  // errno's code
bool no_space(int code);                                                         // whether that is the reason

// A regular file, read-only. `all`: every page at once, which costs less than page by page.
std::span<const std::byte> map_file(const std::string &path, bool all);
void unmap_file(std::span<const std::byte> bytes) noexcept;
// Pages that lie wholly in `bytes`, a part of a mapped file, take no memory of this process until they are read again.
void release_pages(std::span<const std::byte> bytes) noexcept;

// The file beside `path` that takes its place: AtomicFile without its buffer. AtomicFile's contract says what holds.
class Replacement {
 public:
  explicit Replacement(const std::string &path);
  ~Replacement();
  Replacement(const Replacement &) = delete;
  Replacement &operator=(const Replacement &) = delete;

  const std::string &path() const { return path_; }
  bool open() const { return descriptor_ >= 0; }  // neither committed nor given up
  // Each gives the file up if it fails.
  void reserve(size_t size);  // room for a file of this size, where the file system can do that
  void write(const char *data, size_t size);
  void rewrite(const char *data, size_t size);  // over the file's first bytes
  void commit();
  [[noreturn]] void fail(const char *what, int code);  // errno's code

 private:
  // 0, or errno's code.
  int allocate(size_t size) noexcept;
  // Returns how many bytes the system took, or -1 and errno.
  ptrdiff_t write_some(const char *data, size_t size) noexcept;
  void discard() noexcept;

  std::string path_, temporary_;
  int descriptor_ = -1;
};

// Of a Replacement's temporary file. It does not hang on the target's name, which may be as long as the file system
// allows.
constexpr std::string_view kTemporaryBegin = ".infini-", kTemporaryEnd = ".tmp";
std::string temporary_name();

// --- Numbers ---------------------------------------------------------------------------------------------------------

// A number that nobody outside can guess; some other one where the system has none yet, early in a machine's life.
uint64_t secret();
bool random_bits(uint64_t &number) noexcept;  // the system's; whether it has them

// std::from_chars of floating-point numbers, which Apple's library lacks.
std::from_chars_result real_from_chars(const char *begin, const char *end, float &value);
std::from_chars_result real_from_chars(const char *begin, const char *end, double &value);

}  // namespace infini::platform
