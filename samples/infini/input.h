// Text that comes from a file, a pipe or a terminal.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace cli {

// Hears of a piece of text that can be tokenized by itself; false: enough.
using Take = std::function<bool(std::string_view piece)>;

class Input {
 public:
  // Opens a file; "-": standard input.
  explicit Input(const std::string &path);
  ~Input();
  Input(const Input &) = delete;
  Input &operator=(const Input &) = delete;

  // Bytes that are to come; 0: not known.
  int64_t size() const { return size_; }
  // Whether what was read can be read again.
  bool lasts() const { return lasts_; }

  // Gives the text in pieces, as it comes; a text that is empty comes as one empty piece. `repeat`: again and again.
  // Throws Cancelled after an interrupt. `whole`: what has left a pipe by then is given first, though the last word may
  // be cut, and a second interrupt is needed to end that.
  void read(bool repeat, bool whole, const Take &take);
  // Bytes of the text that were given, or will be before read() ends.
  int64_t bytes() const { return bytes_; }

 private:
  std::string path_;
  int file_;
  bool lasts_ = false;
  int64_t size_ = 0, bytes_ = 0;
};

}  // namespace cli
