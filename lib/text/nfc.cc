#include "text/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "base/status.h"
#include "text/utf8.h"

namespace infini {
namespace {

using Codes = std::vector<utf8proc_int32_t>;

// Characters below U+0300 are in form C, and none of them joins with what stands before it.
bool is_plain(char byte) { return static_cast<unsigned char>(byte) < 0xcc; }

utf8proc_int32_t code_of(std::string_view text) {
  utf8proc_int32_t code = 0;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t *>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &code);
  return code;
}

// utf8proc's own utf8proc_map() puts marks in order in quadratic time.
void normalise(std::string_view text, Codes &codes, std::string &out) {
  codes.clear();
  for (size_t at = 0; at < text.size(); at += utf8_size(text[at])) {
    utf8proc_int32_t parts[8];
    int boundary = 0;
    const utf8proc_ssize_t size =
        utf8proc_decompose_char(code_of(text.substr(at)), parts, std::size(parts), UTF8PROC_DECOMPOSE, &boundary);
    if (size < 0 || size > static_cast<utf8proc_ssize_t>(std::size(parts)))
      fail(Status::INTERNAL, "a character could not be normalised: ", utf8_name(text.substr(at, utf8_size(text[at]))));
    codes.insert(codes.end(), parts, parts + size);
  }
  const auto mark = [](utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; };
  for (auto begin = codes.begin(); begin != codes.end();) {
    begin = std::find_if(begin, codes.end(), mark);
    const auto end = std::find_if_not(begin, codes.end(), mark);
    std::stable_sort(begin, end, [&](utf8proc_int32_t a, utf8proc_int32_t b) { return mark(a) < mark(b); });
    begin = end;
  }
  const utf8proc_ssize_t size =
      utf8proc_normalize_utf32(codes.data(), static_cast<utf8proc_ssize_t>(codes.size()),
                               static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (size < 0) fail(Status::INTERNAL, "a text could not be normalised: ", utf8proc_errmsg(size));
  for (utf8proc_ssize_t i = 0; i < size; ++i) {
    utf8proc_uint8_t bytes[4];
    const utf8proc_ssize_t count = utf8proc_encode_char(codes[i], bytes);
    out.append(reinterpret_cast<const char *>(bytes), static_cast<size_t>(count));
  }
}

}  // namespace

std::string_view nfc(std::string_view text, std::string &room, Edits &edits) {
  edits.clear();
  room.clear();
  Codes codes;
  size_t kept = 0;  // up to here the text is in `room`
  for (size_t end = 0;;) {
    size_t begin = end;
    while (begin < text.size() && is_plain(text[begin])) ++begin;
    if (begin == text.size()) break;
    for (end = begin; end < text.size() && !is_plain(text[end]);) end += utf8_size(text[end]);
    if (begin > 0)  // what they may join with
      do --begin;
      while ((text[begin] & 0xc0) == 0x80);
    const std::string_view run = text.substr(begin, end - begin);
    const size_t before = room.size();
    room.append(text, kept, begin - kept);
    const size_t start = room.size();
    normalise(run, codes, room);
    if (std::string_view(room).substr(start) == run) {
      room.resize(before);
    } else {
      edits.add(start, room.size(), end);
      kept = end;
    }
  }
  if (kept == 0) return text;
  return room.append(text, kept);
}

bool joins_before(std::string_view text) {
  if (is_plain(text[0])) return false;
  const utf8proc_property_t *property = utf8proc_get_property(code_of(text));
  if (property->combining_class > 0 || property->category == UTF8PROC_CATEGORY_MN ||
      property->category == UTF8PROC_CATEGORY_MC)
    return true;
  return property->boundclass == UTF8PROC_BOUNDCLASS_V || property->boundclass == UTF8PROC_BOUNDCLASS_T;
}

}  // namespace infini
