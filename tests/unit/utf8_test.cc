// UTF-8 that arrives cut anywhere: checked, made whole, and cut into pieces that do not depend on how it came.
#include "text/utf8.h"

#include <random>

#include "base/status.h"
#include "support.h"

using infini::Error;
using infini::find_invalid_utf8;
using infini::Status;
using infini::TextStream;
using infini::Utf8Stream;

namespace {

constexpr size_t valid = std::string_view::npos;
const std::string replacement = "\uFFFD";

std::string stream(const std::string &bytes, size_t chunk) {
  Utf8Stream utf8;
  std::string text;
  for (size_t at = 0; at < bytes.size(); at += chunk) text += utf8.push(bytes.substr(at, chunk));
  return text + utf8.finish();
}

std::vector<std::string> pieces(const std::string &text, std::mt19937 *random, size_t chunk = 1) {
  TextStream stream;
  std::vector<std::string> all;
  const auto drain = [&] {
    for (std::string piece; !(piece = stream.next()).empty();) all.push_back(piece);
  };
  for (size_t at = 0; at < text.size();) {
    const size_t size = random ? (*random)() % (2 * chunk) : chunk;
    stream.push(text.substr(at, size));
    at += std::min(size, text.size() - at);
    if (!random || (*random)() % 2) drain();
  }
  stream.finish();
  drain();
  return all;
}

bool is_ascii_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

}  // namespace

TEST_CASE("the first invalid byte is found") {
  CHECK(find_invalid_utf8("") == valid);
  CHECK(find_invalid_utf8("plain, é, 中, 🦙, \u07ff\u0800\uffff\U00010000\U0010ffff, long enough for words") ==
        valid);
  CHECK(find_invalid_utf8(std::string_view("\0a\0", 3)) == valid);
  CHECK(find_invalid_utf8("abcdefgh\xff") == 8);
  CHECK(find_invalid_utf8("é\x80") == 2);      // a continuation alone
  CHECK(find_invalid_utf8("a\xc0\xaf") == 1);  // overlong
  CHECK(find_invalid_utf8("a\xc1\xbf") == 1);
  CHECK(find_invalid_utf8("a\xe0\x9f\xbf") == 1);
  CHECK(find_invalid_utf8("a\xf0\x8f\xbf\xbf") == 1);
  CHECK(find_invalid_utf8("a\xed\xa0\x80") == 1);      // a surrogate
  CHECK(find_invalid_utf8("a\xf4\x90\x80\x80") == 1);  // above U+10FFFF
  CHECK(find_invalid_utf8("a\xf5\x80\x80\x80") == 1);
  CHECK(find_invalid_utf8("a\xe4\xb8z") == 1);
}

TEST_CASE("an unfinished character at the end is an error unless the text goes on") {
  for (const std::string character : {"é", "中", "🦙"})
    for (size_t size = 1; size < character.size(); ++size) {
      const std::string text = "ab" + character.substr(0, size);
      CHECK(find_invalid_utf8(text) == 2);
      CHECK(find_invalid_utf8(text, true) == valid);
    }
  CHECK(find_invalid_utf8("ab\xe0\x80", true) == 2);  // no byte that follows can mend it
  CHECK(find_invalid_utf8("ab\xed\xa0", true) == 2);
  CHECK(find_invalid_utf8("ab\xff", true) == 2);
}

TEST_CASE("every two bytes, every three that begin a character: as the table of the Unicode standard") {
  const auto wellformed = [](unsigned a, unsigned b, unsigned c) {
    const unsigned least = a == 0xe0 ? 0xa0 : 0x80, most = a == 0xed ? 0x9f : 0xbf;
    return b >= least && b <= most && c >= 0x80 && c <= 0xbf;
  };
  for (unsigned a = 0; a < 256; ++a)
    for (unsigned b = 0; b < 256; ++b) {
      const std::string two = {static_cast<char>(a), static_cast<char>(b)};
      const bool good = (a < 0x80 && b < 0x80) || (a >= 0xc2 && a <= 0xdf && b >= 0x80 && b <= 0xbf);
      REQUIRE((find_invalid_utf8(two) == valid) == good);
      if (a < 0xe0 || a > 0xef) continue;
      for (unsigned c = 0; c < 256; ++c)
        REQUIRE((find_invalid_utf8(two + static_cast<char>(c)) == valid) == wellformed(a, b, c));
    }
}

TEST_CASE("whole characters come out however the bytes are cut") {
  const std::string text = "a é 中 🦙 क्षि 😶‍🌫️ end";
  for (size_t chunk = 1; chunk < 8; ++chunk) CHECK(stream(text, chunk) == text);
  Utf8Stream utf8;
  CHECK(utf8.push("a\xf0\x9f") == "a");
  CHECK(utf8.pending() == "\xf0\x9f");
  Utf8Stream restored;
  restored.set_pending(utf8.pending());
  CHECK(restored.push("\xa6\x99z") == "🦙z");
  CHECK(restored.pending().empty());
  CHECK(restored.finish() == "");
}

TEST_CASE("what belongs to no character becomes U+FFFD, as browsers do it, however it is cut") {
  const std::vector<std::pair<std::string, std::string>> examples = {
      {"a\xffz", "a" + replacement + "z"},
      {"\x80\x80", replacement + replacement},
      {"\xc0\xaf", replacement + replacement},
      {"\xe4\xb8z", replacement + "z"},
      {"\xe4z", replacement + "z"},
      {"\xed\xa0\x80", replacement + replacement + replacement},
      {"\xf0\x9f\xa6", replacement},  // the end comes first
      {"\xf0\x9f\xa6\xf0\x9f\xa6\x99", replacement + "🦙"},
      // The standard's own example, section 3.9.
      {"\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64",
       "a" + replacement + replacement + replacement + "b" + replacement + "c" + replacement + replacement + "d"},
  };
  for (const auto &[bytes, expected] : examples)
    for (size_t chunk = 1; chunk < 5; ++chunk) CHECK(stream(bytes, chunk) == expected);
}

TEST_CASE("at most three bytes are ever held back, and the output is always valid") {
  std::mt19937 random(5);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (uint32_t i = 0, n = random() % 20; i < n; ++i)
      bytes += static_cast<char>(random() % 3 ? 0x80 + random() % 0x80 : random() % 0x80);
    Utf8Stream utf8;
    std::string text;
    for (const char byte : bytes) {
      text += utf8.push({&byte, 1});
      REQUIRE(utf8.pending().size() <= 3);
    }
    text += utf8.finish();
    REQUIRE(find_invalid_utf8(text) == valid);
    REQUIRE(text == stream(bytes, bytes.size() + 1));
    if (find_invalid_utf8(bytes) == valid) REQUIRE(text == bytes);
  }
}

TEST_CASE("text for messages is made valid and cut") {
  CHECK(infini::printable("abc") == "abc");
  CHECK(infini::printable("a\xff") == "a" + replacement);
  CHECK(infini::printable("aé", 2) == "a" + replacement + "...");
  CHECK(infini::printable(std::string(100, 'x')).size() == 67);
}

TEST_CASE("pieces of a text do not depend on how its bytes arrive") {
  std::mt19937 random(9);
  const std::vector<std::string> words = {"word", "letters", "x",      "é", "中文", "🦙", "12",      "\n\n",
                                          "  ",   ",",       "\u3000", "a", "b c",  "\t",   "нещо на", "\u00a0"};
  for (int round = 0; round < 30; ++round) {
    std::string text;
    const size_t rarely = round % 3 ? 2 : 100;  // every third text has long runs without a place to cut
    while (text.size() < 300000) {
      text += words[random() % words.size()];
      if (random() % rarely == 0) text += ' ';
      if (round % 3 == 0) text += "1234567890123456";
    }
    const std::vector<std::string> expected = pieces(text, nullptr, text.size());
    std::string joined;
    for (const std::string &piece : expected) joined += piece;
    REQUIRE(joined == text);
    CHECK(expected.size() > 4);
    for (const size_t chunk : {1, 3, 100, 5000, 70000}) REQUIRE(pieces(text, &random, chunk) == expected);
    if (round < 2) REQUIRE(pieces(text, nullptr, 1) == expected);
    for (size_t i = 0; i + 1 < expected.size(); ++i) {
      REQUIRE(expected[i].size() >= 4096);
      REQUIRE(expected[i].size() <= 65536);
      REQUIRE(find_invalid_utf8(expected[i]) == valid);
    }
  }
}

TEST_CASE("a piece ends between a letter and a single space before a letter, or at 64 KiB") {
  const std::string filler(4096, '.');
  const auto first = [&](const std::string &tail) { return pieces(filler + tail, nullptr, 100).front().substr(4096); };
  CHECK(first("a b") == "a");
  CHECK(first("a  b c") == "a  b");
  CHECK(first(". b c") == ". b");
  CHECK(first("a. b 1 c d") == "a. b 1 c");
  CHECK(first("é ü") == "é");
  CHECK(first("中 文") == "中");
  CHECK(first("\u3000 b\u00a0 c \u2003d e f") == "\u3000 b\u00a0 c \u2003d");
  CHECK(first("a\tb\nc d") == "a\tb\nc");
  CHECK(first("a ") == "a ");
  CHECK(pieces("short text of words", nullptr).size() == 1);
  CHECK(pieces("", nullptr).empty());

  const std::string blank(200000, ' ');
  const std::vector<std::string> cut = pieces(blank, nullptr, 1000);
  REQUIRE(cut.size() == 4);
  CHECK(cut[0].size() == 65536);
  std::string wide = "x";  // so that 64 KiB fall inside a character
  while (wide.size() < 70000) wide += "中";
  CHECK(pieces(wide, nullptr, 1000).front().size() == 65536);
  CHECK(pieces("x" + wide, nullptr, 1000).front().size() == 65534);
  // The last place that counts is just before 64 KiB; from there on the limit comes first.
  CHECK(pieces(std::string(65534, '.') + "a bcd", nullptr, 1000).front().size() == 65535);
  CHECK(pieces(std::string(65535, '.') + "a bcd", nullptr, 1000).front().size() == 65536);
  CHECK(is_ascii_letter(pieces(std::string(65534, '.') + "a bcd", nullptr, 1).front().back()));
}

TEST_CASE("invalid bytes are refused with their place in the stream, and change nothing") {
  TextStream stream;
  std::string filler;
  while (filler.size() < 10000) filler += "words ";
  stream.push(filler);
  std::string text;
  for (std::string piece; !(piece = stream.next()).empty();) text += piece;
  CHECK(!text.empty());
  stream.push("ab\xe4\xb8");
  const auto message = [&](auto action) -> std::string {
    try {
      action();
    } catch (const Error &error) {
      CHECK((error.status() == Status::INVALID_ARGUMENT || error.status() == Status::STATE));
      return error.what();
    }
    return "";
  };
  CHECK(message([&] { stream.push("z"); }).starts_with("invalid UTF-8 at byte 10004; `iconv"));
  CHECK(message([&] { stream.push("\xadq\xff"); }).starts_with("invalid UTF-8 at byte 10008;"));
  CHECK(message([&] { stream.finish(); }) == "the text ends inside a character, which begins at byte 10004");
  stream.push("\xad");
  stream.finish();
  for (std::string piece; !(piece = stream.next()).empty();) text += piece;
  CHECK(text == filler + "ab中");
  CHECK(message([&] { stream.push("more"); }) == "bytes after the end of a text");
}

namespace {

// The text that a stream makes of bytes in random cuts.
std::string decoded(const std::string &bytes, std::mt19937 &random) {
  std::string text;
  for (const std::string &piece : pieces(bytes, &random, 1 + random() % 9)) text += piece;
  return text;
}

std::string utf16(const std::u16string &text, bool big) {
  std::string bytes;
  for (const char16_t unit : u"\ufeff" + text) {
    const char high = static_cast<char>(unit >> 8), low = static_cast<char>(unit & 0xff);
    bytes += big ? high : low;
    bytes += big ? low : high;
  }
  return bytes;
}

}  // namespace

TEST_CASE("marks, line ends and UTF-16 read as text, in every cut") {
  std::mt19937 random(5);
  const std::string text = "\nOne é 中\n\n🦙\n end\n";
  const std::u16string wide = u"\rOne é 中\r\n\r🦙\n end\r\n";
  for (int round = 0; round < 300; ++round) {
    CHECK(decoded("\rOne é 中\r\n\r🦙\n end\r\n", random) == text);
    CHECK(decoded("\ufeff\r\nOne é 中\n\r\n🦙\r\n end\r", random) == text);
    CHECK(decoded(utf16(wide, false), random) == text);
    CHECK(decoded(utf16(wide, true), random) == text);
    CHECK(decoded("a\ufeffb", random) == "a\ufeffb");
    for (const char *whole : {"", "a", "\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"})
      CHECK(decoded(whole, random) == (std::string(whole) == "a" ? "a" : ""));
    for (const std::string &bad : {std::string("\xef\xbb"), std::string("\xff"), std::string("\xff\xfe\0\0a\0\0\0", 8),
                                   std::string("\xff\xfe\0\xdc", 4), std::string("\xff\xfe\0\xd8", 4),
                                   std::string("\xfe\xff\xd8\0\0a", 6), std::string("Lat\xedn")})
      CHECK_THROWS_AS(decoded(bad, random), Error);
  }
}

TEST_CASE("a stream tells how many bytes its pieces were made of, so that another goes on there") {
  std::mt19937 random(6);
  std::string bytes = "\ufeff";
  while (bytes.size() < 300000) bytes += random() % 9 == 0 ? "\r\n" : random() % 30 == 0 ? "\r" : " word";
  TextStream stream;
  stream.push(bytes);
  stream.finish();
  std::vector<std::string> all;
  std::vector<size_t> ends;
  for (std::string piece; !(piece = stream.next()).empty();) {
    all.push_back(piece);
    ends.push_back(stream.bytes_taken());
  }
  CHECK(ends.back() == bytes.size());
  for (size_t i = 0; i + 1 < all.size(); i += 7) {
    TextStream rest(false);
    rest.push(std::string_view(bytes).substr(ends[i]));
    rest.finish();
    CHECK(rest.next() == all[i + 1]);
  }
}
