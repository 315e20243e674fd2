#include "input.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "common.h"

namespace cli {
namespace {

[[noreturn]] void fail(const std::string &message) { throw std::runtime_error(message); }

// Bytes at the end of a text that begin a character whose others have not come.
size_t open_end(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    const size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

}  // namespace

Input::Input(const std::string &path)
    : path_(path == "-" ? "standard input" : path), file_(path == "-" ? STDIN_FILENO : open_to_read(path)) {
  if (file_ < 0) fail("cannot open " + path_ + ": " + std::strerror(errno));
  struct stat facts = {};
  if (fstat(file_, &facts) != 0) fail("cannot read " + path_ + ": " + std::strerror(errno));
  if (S_ISDIR(facts.st_mode)) fail(path_ + " is a folder; name a file");
  lasts_ = S_ISREG(facts.st_mode);
  if (lasts_) size_ = std::max<int64_t>(0, facts.st_size - std::max<int64_t>(0, lseek(file_, 0, SEEK_CUR)));
}

Input::~Input() {
  if (file_ > STDIN_FILENO) close(file_);
}

void Input::read(bool repeat, bool whole, const Take &take) {
  const TextStream stream = make<TextStream>(infini_text_stream_create);
  std::string data(size_t{1} << 13, '\0'), piece(size_t{1} << 16, '\0');
  size_t held = 0;    // bytes in front of `data` that begin a character
  int64_t begin = 0;  // of the piece that is given, in the text
  bool any = false, inside = false;
  // Gives what is ready; false: enough.
  const auto give = [&] {
    for (;;) {
      size_t size = 0;
      const infini_status status = infini_text_stream_next(stream.get(), piece.data(), piece.size(), &size);
      if (status == INFINI_BUFFER_TOO_SMALL) {
        piece.resize(size);
        continue;
      }
      if (status == INFINI_END) return true;
      check(status);
      any = inside = true;
      try {
        if (!take(std::string_view(piece).substr(0, size))) return false;
      } catch (const Refused &error) {
        if (begin == 0) throw;
        throw Refused("in the piece of the text that begins at byte " + std::to_string(begin) + ": " + error.what());
      }
      begin += static_cast<int64_t>(size);
      inside = false;
    }
  };
  const auto push = [&](size_t size) {
    check(infini_text_stream_push(stream.get(), data.data(), size));
    bytes_ += static_cast<int64_t>(size);
  };
  whole = whole && !lasts_;
  std::optional<Patience> patience;
  if (whole) patience.emplace(2, 3);
  int64_t before = -1;
  try {
    for (;;) {
      const size_t size = read_some(file_, data.data() + held, data.size() - held, path_);
      if (size > 0) {
        const size_t end = held + size;
        held = open_end(std::string_view(data).substr(0, end));
        push(end - held);
        std::memmove(data.data(), data.data() + end - held, held);
        if (!give()) return;
        continue;
      }
      push(held);
      held = 0;
      if (!repeat || bytes_ == std::max<int64_t>(before, 0)) break;  // an empty file is not repeated
      before = bytes_;
      if (lseek(file_, 0, SEEK_SET) != 0) fail("cannot read " + path_ + " again: " + std::strerror(errno));
    }
  } catch (const Cancelled &) {
    if (whole && !inside && infini_text_stream_finish(stream.get()) == INFINI_OK) give();
    throw;
  }
  check(infini_text_stream_finish(stream.get()));
  if (give() && !any) take("");
}

}  // namespace cli
