// Unicode's normal form C: known pairs, another implementation's answers, hostile text, and where changes came from.
#include "text/nfc.h"

#include <utf8proc.h>

#include <chrono>
#include <cstdlib>
#include <random>

#include "hf_tokenizer.h"
#include "support.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

using infini::Edits;
using infini::nfc;
using infini::Tokenizer;

namespace {

std::string normal(const std::string &text) {
  std::string room;
  Edits edits;
  return std::string(nfc(text, room, edits));
}

std::string by_utf8proc(const std::string &text) {
  utf8proc_uint8_t *out = nullptr;
  const auto size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t *>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &out, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  REQUIRE(size >= 0);
  const std::string made(reinterpret_cast<const char *>(out), static_cast<size_t>(size));
  std::free(out);
  return made;
}

// Letters, marks of several classes, jamo, and characters that change by themselves.
std::string marked_text(std::mt19937 &random, int characters) {
  static const std::vector<std::string> pieces = {
      "e",          "a",      " ",      "o",      "<",      "\u0301", "\u0301", "\u0323",     "\u0338",
      "\u0307",     "\u0345", "\u05b0", "\u1100", "\u1161", "\u11a8", "\uac00", "\u212b",     "\u0958",
      "\u0340",     "\u09c7", "\u09be", "\u0f71", "\u0f72", "\u00e9", "\u1e9b", "\U0001d15e", "\U000110a5",
      "\U000110ba", "\u4e2d", "\n",     "\u03b1", "\u0313", "\u1f82"};
  std::string text;
  for (int i = 0; i < characters; ++i) text += pieces[random() % pieces.size()];
  return text;
}

}  // namespace

TEST_CASE("form C: known pairs") {
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {"", ""},
      {"plain", "plain"},
      {"\u00e9", "\u00e9"},
      {"e\u0301", "\u00e9"},
      {"cafe\u0301s", "caf\u00e9s"},
      {"\u0301e", "\u0301e"},                                       // a mark without a letter
      {"\u212b", "\u00c5"},                                         // the sign of the angstrom
      {"q\u0307\u0323", "q\u0323\u0307"},                           // marks in their order
      {"s\u0307\u0323", "\u1e69"},                                  // and joined in it
      {"\u1100\u1161\u11a8", "\uac01"},                             // jamo
      {"\uac00\u11a8", "\uac01"},                                   //
      {"\u0958", "\u0915\u093c"},                                   // excluded from composition
      {"\u2126 \u03a9", "\u03a9 \u03a9"},                           // one of the letters that are the same
      {"\u0344", "\u0308\u0301"},                                   //
      {"a\u0315\u0300\u05ae\u0300b", "\u00e0\u05ae\u0300\u0315b"},  // from the standard's own test file
      {"\u09c7\u09be", "\u09cb"},                                   // joins with what is no mark by its class
      {"\ufb01", "\ufb01"},                                         // compatibility is not touched
  };
  for (const auto &[text, expected] : pairs) {
    CHECK_MESSAGE(normal(text) == expected, text);
    CHECK(normal(expected) == expected);
  }
}

TEST_CASE("form C: the same as another way to it, and once is enough") {
  std::mt19937 random(7);
  for (int round = 0; round < 20000; ++round) {
    const std::string text = round % 2 ? marked_text(random, static_cast<int>(random() % 12))
                                       : test::random_text(random, static_cast<int>(random() % 12));
    const std::string made = normal(text);
    REQUIRE(made == by_utf8proc(text));
    REQUIRE(normal(made) == made);
  }
}

TEST_CASE("form C of hostile text takes time in proportion to it") {
  const auto start = std::chrono::steady_clock::now();
  std::string marks = "a", jamo, mixed;
  for (int i = 0; i < 1000000; ++i) {
    marks += i % 2 ? "\u0301" : "\u0323";
    jamo += i % 3 ? "\u1161" : "\u1100";
    mixed += i % 2 ? "\U0001d15e" : "e";
  }
  CHECK(normal(marks).size() <= marks.size());
  CHECK(normal(jamo).size() < jamo.size());
  CHECK(normal(mixed).size() <= 3 * mixed.size());
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(60));  // quadratic would be hours
}

TEST_CASE("places in what was made are places in what was written") {
  std::mt19937 random(9);
  for (int round = 0; round < 2000; ++round) {
    const std::string text = marked_text(random, static_cast<int>(random() % 20));
    std::string room;
    Edits edits;
    const std::string made(nfc(text, room, edits));
    CHECK(edits.origin(0) == 0);
    REQUIRE(edits.origin(made.size()) == text.size());
    // What stands before a place that begins anew is made of what stands before its origin.
    for (size_t at = 0, last = 0; at < made.size(); at += infini::utf8_size(made[at])) {
      REQUIRE(edits.origin(at) >= last);
      last = edits.origin(at);
      if (static_cast<unsigned char>(made[at]) < 0x80) REQUIRE(normal(text.substr(0, last)) == made.substr(0, at));
    }
  }
}

TEST_CASE("tokenizers that normalise read either way of writing a letter alike; others do not") {
  for (const char *pre :
       {"qwen2", "gpt-neox", "mpt", "olmo", "command-r", "stablelm2", "hunyuan", "deepseek-r1-qwen"}) {
    const Tokenizer tokenizer(test::small_bpe(pre));
    CHECK(tokenizer.normalises());
    CHECK(tokenizer.encode("cafe\u0301 ab", {}) == tokenizer.encode("caf\u00e9 ab", {}));
    CHECK(tokenizer.decode(tokenizer.encode("e\u0301<u>\u1100\u1161", {})) == "\u00e9<u>\uac00");
    CHECK(tokenizer.encode("<u>\u0338", {}).front() == 259);  // special tokens are found in what was written
  }
  for (const char *pre : {"gpt-2", "smollm", "llama-bpe", "tekken", "gpt-4o", "default"}) {
    const Tokenizer tokenizer(test::small_bpe(pre));
    CHECK_FALSE(tokenizer.normalises());
    CHECK(tokenizer.decode(tokenizer.encode("e\u0301", {})) == "e\u0301");
  }
  CHECK_FALSE(Tokenizer(test::small_spm({{"a", -1}})).normalises());
}

TEST_CASE("Qwen's own vocabulary: a letter and its mark are one token, as its tokenizer.json has it" *
          test::needs_data()) {
  const std::string path = test::data("tokenizers/hf/qwen3/tokenizer.json");
  const Tokenizer tokenizer(test::load_tokenizer_json(path, "qwen2"));
  CHECK(tokenizer.encode("e\u0301", {}).size() == 1);
  CHECK(tokenizer.encode("Cafe\u0301 Mu\u0308ller \u1112\u1161\u11ab", {}) ==
        tokenizer.encode("Caf\u00e9 M\u00fcller \ud55c", {}));
}

TEST_CASE("a text in pieces is normalised as the whole is, however it comes") {
  std::string text;
  std::mt19937 random(3);
  while (text.size() < 300000) {  // without a space between letters a piece has 64 KiB
    text += random() % 100 == 0 ? " " : "";
    text += random() % 2 ? "e\u0301\u0323" : "\u1100\u1161\u11a8";
  }
  const Tokenizer tokenizer(test::small_bpe("qwen2"));
  const std::vector<int32_t> whole = tokenizer.encode(text, {});
  for (const size_t chunk : {size_t{1}, size_t{4099}, text.size()}) {
    infini::TextStream stream;
    std::vector<int32_t> ids;
    const auto drain = [&] {
      for (std::string piece; !(piece = stream.next()).empty();) {
        const std::vector<int32_t> more = tokenizer.encode(piece, {.start = ids.empty()});
        ids.insert(ids.end(), more.begin(), more.end());
      }
    };
    for (size_t at = 0; at < text.size(); at += chunk) {
      stream.push(std::string_view(text).substr(at, chunk));
      drain();
    }
    stream.finish();
    drain();
    CHECK(ids == whole);
  }
}

TEST_CASE("a token ends where its bytes end in what was written") {
  const Tokenizer bpe(test::small_bpe("qwen2"));
  std::vector<size_t> ends;
  bpe.encode("abe\u0301c<u>b", {.ends = &ends});  // ab, é (two bytes), c, <u>, b
  CHECK(ends == std::vector<size_t>{2, 5, 5, 6, 9, 10});
  // A vocabulary that lacks most bytes.
  const Tokenizer poor(test::bpe_vocabulary("gpt-2", {"a", "b", "?"}, {1, 1, 1}, {}));
  poor.encode("a\u00e9bx", {.unknown = infini::UnknownText::SKIP, .ends = &ends});
  CHECK(ends == std::vector<size_t>{1, 4});
  poor.encode("a\u00e9bx", {.unknown = infini::UnknownText::REPLACE, .ends = &ends});
  CHECK(ends == std::vector<size_t>{1, 3, 4, 5});
  const Tokenizer sentences(test::small_spm({{"\u2581a", -1}, {"b", -2}}));
  sentences.encode("ab c", {.ends = &ends});  // BOS, " a", b, a space, c
  CHECK(ends == std::vector<size_t>{0, 1, 2, 3, 4});
}
