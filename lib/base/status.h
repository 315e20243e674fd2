// Errors: one table of statuses, one exception type.
//
// Inside the library every failure is an Error that names the offending thing and value and, where
// it helps, says what to do. The C interface turns it into a status and a message.
#pragma once

#include <charconv>
#include <concepts>
#include <stdexcept>
#include <string>
#include <string_view>

namespace infini {

// X(name, value, one-line meaning). Values are part of the ABI: families have gaps, none is reused.
#define INFINI_STATUS_TABLE(X)                                                               \
  X(OK, 0, "success")                                                                        \
  X(END, 1, "nothing more comes: generation ended, or a queue is empty")                     \
  X(INVALID_ARGUMENT, 100, "an argument is NULL, out of range or not what it should be")     \
  X(UNKNOWN_OPTION, 101, "no option has that name")                                          \
  X(BUFFER_TOO_SMALL, 102, "the caller's buffer is smaller than the size that was returned") \
  X(IO, 200, "a file could not be opened, read, written or replaced")                        \
  X(NO_SPACE, 201, "the disk or the file-size limit is full")                                \
  X(FORMAT, 300, "a file is damaged or is not what it claims to be")                         \
  X(TRUNCATED, 301, "a file ends before its contents do")                                    \
  X(MODEL_MISMATCH, 400, "a snapshot or checkpoint belongs to another model")                \
  X(VERSION, 500, "a file was written by a newer version")                                   \
  X(CHECKSUM, 600, "a checksum does not match: the file was changed or damaged")             \
  X(OUT_OF_MEMORY, 700, "memory could not be allocated")                                     \
  X(CANCELLED, 800, "the call was cancelled")                                                \
  X(STATE, 900, "the call does not fit the state of the object")                             \
  X(UNSUPPORTED, 1000, "valid, but not something this version can do")                       \
  X(INTERNAL, 1100, "a fault of the library itself; please report it")

enum class Status : int {
#define X(name, value, text) name = value,
  INFINI_STATUS_TABLE(X)
#undef X
};

// "FORMAT"; "UNKNOWN" for a number that is no status.
const char *status_name(Status status);
// The one-line meaning from the table.
const char *status_text(Status status);

class Error : public std::runtime_error {
 public:
  Error(Status status, const std::string &message, int os_error = 0)
      : std::runtime_error(message), status_(status), os_error_(os_error) {}
  Status status() const { return status_; }
  int os_error() const { return os_error_; }  // errno of the call that failed; 0: none did

 private:
  Status status_;
  int os_error_;
};

// A number as text whatever the host's locale, which streams and printf ask: fractions to six digits.
template <class Number>
requires(std::integral<Number> || std::floating_point<Number>) void append(std::string &out, Number number) {
  if constexpr (std::same_as<Number, char>) {
    out += number;
  } else if constexpr (std::same_as<Number, bool>) {
    out += number ? '1' : '0';
  } else {
    char digits[64];
    char *const end = digits + sizeof digits;
    if constexpr (std::floating_point<Number>)
      out.append(digits, std::to_chars(digits, end, number, std::chars_format::general, 6).ptr);
    else out.append(digits, std::to_chars(digits, end, number).ptr);
  }
}
inline void append(std::string &out, std::string_view text) { out += text; }

// Everything in one string: cat("row ", 3, " of ", 7).
template <class... Parts>
std::string cat(const Parts &...parts) {
  std::string out;
  (append(out, parts), ...);
  return out;
}

template <class... Parts>
[[noreturn]] void fail(Status status, const Parts &...parts) {
  throw Error(status, cat(parts...));
}

}  // namespace infini
