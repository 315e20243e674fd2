#include "text/text_decoder.h"

#include "base/status.h"
#include "text/utf8.h"

namespace infini {
namespace {

constexpr std::string_view utf8_mark = "\xef\xbb\xbf", little_mark = "\xff\xfe", big_mark = "\xfe\xff";
constexpr std::string_view utf32_mark("\xff\xfe\0\0", 4);

void append_character(uint32_t code, std::string &text) {
  const auto put = [&](uint32_t byte) { text += static_cast<char>(byte); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xc0 | code >> 6);
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12), put(0x80 | (code >> 6 & 0x3f));
  } else {
    put(0xf0 | code >> 18), put(0x80 | (code >> 12 & 0x3f)), put(0x80 | (code >> 6 & 0x3f));
  }
  put(0x80 | (code & 0x3f));
}

}  // namespace

// By the mark, whose size is given; UNKNOWN: more bytes are needed.
TextDecoder::Encoding TextDecoder::encoding_of(std::string_view bytes, bool finished, size_t &mark) {
  mark = 0;
  if (bytes.starts_with(utf32_mark))
    fail(Status::INVALID_ARGUMENT, "the text is UTF-32; `iconv -f UTF-32 -t UTF-8` converts it");
  for (const std::string_view each : {utf8_mark, utf32_mark, big_mark})
    if (!finished && bytes.size() < each.size() && each.starts_with(bytes)) return Encoding::UNKNOWN;
  if (bytes.starts_with(utf8_mark)) mark = utf8_mark.size();
  else if (bytes.starts_with(little_mark) || bytes.starts_with(big_mark)) mark = 2;
  return mark != 2 ? Encoding::UTF8 : bytes[0] == big_mark[0] ? Encoding::UTF16_BIG : Encoding::UTF16_LITTLE;
}

// Bytes of the whole characters at the front.
size_t TextDecoder::whole_utf8(std::string_view bytes) const {
  const size_t invalid = find_invalid_utf8(bytes, true);
  if (invalid != bytes.npos)
    fail(Status::INVALID_ARGUMENT, "invalid UTF-8 at byte ", offset_ + invalid,
         "; `iconv -f WINDOWS-1252 -t UTF-8` converts a Western text of another encoding");
  size_t last = bytes.size();  // where the last character begins
  while (last > 0 && (static_cast<unsigned char>(bytes[last - 1]) & 0xc0) == 0x80) --last;
  if (last == 0) return 0;
  return utf8_size(bytes[last - 1]) > bytes.size() - (last - 1) ? last - 1 : bytes.size();
}

std::string TextDecoder::from_utf16(std::string_view bytes, size_t &done) const {
  const auto unit = [&](size_t at) -> uint32_t {
    const uint32_t first = static_cast<unsigned char>(bytes[at]), second = static_cast<unsigned char>(bytes[at + 1]);
    return encoding_ == Encoding::UTF16_BIG ? first << 8 | second : second << 8 | first;
  };
  std::string characters;
  for (done = 0; done + 2 <= bytes.size();) {
    const uint32_t lead = unit(done);
    const bool pair = lead >= 0xd800 && lead < 0xdc00;
    if (pair && done + 4 > bytes.size()) break;
    const uint32_t trail = pair ? unit(done + 2) : 0;
    if ((lead >= 0xdc00 && lead < 0xe000) || (pair && (trail < 0xdc00 || trail >= 0xe000)))
      fail(Status::INVALID_ARGUMENT, "invalid UTF-16 at byte ", offset_ + done);
    append_character(pair ? 0x10000 + ((lead - 0xd800) << 10) + (trail - 0xdc00) : lead, characters);
    done += pair ? 4 : 2;
  }
  return characters;
}

void TextDecoder::append(std::string_view characters, std::string &text) {
  const size_t before = text.size();
  for (size_t begin = 0; begin < characters.size();) {
    if (after_cr_ && characters[begin] == '\n') {
      ++begin;
      lfs_.push_back(written_ + (text.size() - before));
    }
    after_cr_ = false;
    const size_t cr = characters.find('\r', begin);
    text.append(characters, begin, cr - begin);
    if (cr == characters.npos) break;
    text += '\n';
    after_cr_ = true;
    begin = cr + 1;
  }
  written_ += text.size() - before;
}

void TextDecoder::push(std::string_view bytes, std::string &text) {
  std::string all = pending_;
  all += bytes;
  std::string_view rest = all;
  TextDecoder next = *this;  // takes this one's place when nothing has failed
  if (encoding_ == Encoding::UNKNOWN) {
    size_t mark = 0;
    next.encoding_ = encoding_of(rest, false, mark);
    rest.remove_prefix(mark);
    next.offset_ = next.dropped_ = mark;
  }
  if (next.encoding_ == Encoding::UTF8) {
    const size_t whole = next.whole_utf8(rest);
    next.append(rest.substr(0, whole), text);
    rest.remove_prefix(whole);
    next.offset_ += whole;
  } else if (next.encoding_ != Encoding::UNKNOWN) {
    size_t done = 0;
    next.append(next.from_utf16(rest, done), text);
    rest.remove_prefix(done);
    next.offset_ += done;
  }
  next.pending_ = rest;
  *this = std::move(next);
}

void TextDecoder::finish(std::string &text) {
  if (encoding_ == Encoding::UNKNOWN) {  // at most three bytes, some beginning of a mark
    size_t mark = 0;
    TextDecoder next = *this;
    next.encoding_ = encoding_of(pending_, true, mark);
    next.offset_ = next.dropped_ = mark;
    next.pending_.clear();
    next.push(std::string_view(pending_).substr(mark), text);
    *this = std::move(next);
  }
  if (!pending_.empty())
    fail(Status::INVALID_ARGUMENT, "the text ends inside a character, which begins at byte ", offset_);
}

uint64_t TextDecoder::dropped_before(uint64_t size) {
  for (; !lfs_.empty() && lfs_.front() <= size; lfs_.pop_front()) ++dropped_;
  return dropped_;
}

}  // namespace infini
