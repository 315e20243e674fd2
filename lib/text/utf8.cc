#include "text/utf8.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "base/status.h"
#include "text/nfc.h"

namespace infini {
namespace {

constexpr char replacement[] = "\xef\xbf\xbd";  // U+FFFD

enum class Form { WHOLE, CUT, WRONG };
struct Character {
  Form form;
  size_t size;  // bytes of the character, of its beginning that is there, or of what must be replaced as one
};

// The character at the front of a text that is not empty.
Character first_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {Form::WHOLE, 1};
  if (lead < 0xc2 || lead > 0xf4) return {Form::WRONG, 1};
  const size_t size = utf8_size(text[0]);
  // Overlong forms, surrogates and what lies above U+10FFFF show in the second byte.
  const unsigned char least = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned char most = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  for (size_t i = 1; i < size; ++i) {
    if (i == text.size()) return {Form::CUT, i};
    if (byte(i) < (i == 1 ? least : 0x80) || byte(i) > (i == 1 ? most : 0xbf)) return {Form::WRONG, i};
  }
  return {Form::WHOLE, size};
}

size_t ascii_length(std::string_view text) {
  size_t n = 0;
  for (uint64_t word = 0; n + sizeof word <= text.size(); n += sizeof word) {
    std::memcpy(&word, text.data() + n, sizeof word);
    if (word & 0x8080808080808080u) break;
  }
  while (n < text.size() && static_cast<unsigned char>(text[n]) < 0x80) ++n;
  return n;
}

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

// Of the character at the front: an ASCII letter, or anything from U+00C0 on but the blocks that have white space.
// All that a cut beside a single space needs is that no white space touches that space: then every expression of the
// pre-tokenizers, and every token of a SentencePiece vocabulary in which spaces only lead, begins anew at it.
bool is_letter(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned>(static_cast<unsigned char>(text[i])); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return (lead | 0x20) >= 'a' && (lead | 0x20) <= 'z';
  if (lead < 0xe0) return lead >= 0xc3;  // below: U+0080 to U+00BF
  if (lead > 0xe3) return true;
  const unsigned character = (lead & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f);
  return character != 0x1680 && (character < 0x2000 || character > 0x206f) && character != 0x3000;
}

}  // namespace

size_t find_invalid_utf8(std::string_view text, bool partial) {
  size_t at = 0;
  while (true) {
    at += ascii_length(text.substr(at));
    if (at == text.size()) return text.npos;
    const Character character = first_character(text.substr(at));
    if (character.form == Form::CUT && partial) return text.npos;
    if (character.form != Form::WHOLE) return at;
    at += character.size;
  }
}

std::string utf8_name(std::string_view character) {
  unsigned code = static_cast<unsigned char>(character[0]);
  if (character.size() > 1) code &= 0x7fu >> character.size();
  for (const char byte : character.substr(1)) code = code << 6 | (static_cast<unsigned char>(byte) & 0x3f);
  char text[16];
  std::snprintf(text, sizeof text, "U+%04X", code);
  return text;
}

std::string printable(std::string_view text, size_t most) {
  Utf8Stream stream;
  std::string valid = stream.push(text.substr(0, most));
  valid += stream.finish();
  return text.size() > most ? valid + "..." : valid;
}

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  std::string whole;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const Character character = first_character(rest);
    if (character.form == Form::CUT) break;
    character.form == Form::WHOLE ? whole += rest.substr(0, character.size) : whole += replacement;
    rest.remove_prefix(character.size);
  }
  pending_.erase(0, pending_.size() - rest.size());
  return whole;
}

std::string Utf8Stream::finish() {
  std::string text = pending_.empty() ? "" : replacement;
  pending_.clear();
  return text;
}

void TextStream::push(std::string_view bytes) {
  if (finished_) fail(Status::STATE, "bytes after the end of a text");
  decoder_.push(bytes, buffer_);
}

void TextStream::finish() {
  if (!finished_) decoder_.finish(buffer_);
  finished_ = true;
}

std::string TextStream::next() {
  const std::string_view rest = std::string_view(buffer_).substr(begin_);
  for (size_t space; (space = rest.find(' ', scanned_)) < longest; scanned_ = space + 1) {
    scanned_ = space;
    if (!finished_ && rest.size() - space <= 4) return "";  // what follows it may not be there
    size_t before = space - 1;
    while (is_continuation(rest[before])) --before;
    if (is_letter(rest.substr(before)) && space + 1 < rest.size() && is_letter(rest.substr(space + 1)))
      return take(space);
  }
  if (rest.size() > longest) {
    const auto start_of = [&](size_t at) {
      while (is_continuation(rest[at])) --at;
      return at;
    };
    // A letter keeps its marks, if they are not more than letters have.
    const size_t border = start_of(longest);
    size_t letter = border;
    while (letter > longest - most_marks && joins_before(rest.substr(letter))) letter = start_of(letter - 1);
    return take(joins_before(rest.substr(letter)) ? border : letter);
  }
  scanned_ = std::max(scanned_, rest.size());
  return finished_ ? take(rest.size()) : "";
}

std::string TextStream::take(size_t size) {
  std::string piece = buffer_.substr(begin_, size);
  begin_ += size;
  scanned_ = shortest;
  if (begin_ > buffer_.size() / 2) {  // so that a byte is moved once on average
    buffer_.erase(0, begin_);
    offset_ += begin_;
    begin_ = 0;
  }
  return piece;
}

}  // namespace infini
