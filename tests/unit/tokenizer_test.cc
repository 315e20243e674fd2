// What a tokenizer promises, shown on vocabularies of a few tokens.
#include "text/tokenizer.h"

#include <atomic>
#include <ctime>
#include <random>
#include <thread>

#include "base/log.h"
#include "hf_tokenizer.h"
#include "support.h"

using infini::Error;
using infini::Gguf;
using infini::Status;
using infini::Tokenizer;
using test::byte_tokens;
using test::small_bpe;
using test::small_spm;
using Ids = std::vector<int32_t>;

namespace {

constexpr Tokenizer::Encode whole{}, middle{.special = false, .start = false}, parsed{.special = true, .start = false};

// The status of the error that `action` ends in, and its message; OK where there is none.
template <class Action>
std::pair<Status, std::string> error_of(const Action &action) {
  try {
    action();
  } catch (const Error &error) { return {error.status(), error.what()}; }
  return {Status::OK, ""};
}

}  // namespace

TEST_CASE("BPE merges by rank, the leftmost of equals first") {
  const Tokenizer tokenizer(small_bpe());
  CHECK(tokenizer.encode("abcab", whole) == Ids{257, 256});
  CHECK(tokenizer.encode("aabb", whole) == Ids{'a', 256, 'b'});
  const Gguf runs = test::bpe_vocabulary("gpt-2", {"a", "aa", "aaa"}, {1, 1, 1}, {"a a", "aa a"});
  CHECK(Tokenizer(runs).encode("aaaaa", whole) == Ids{1, 2});
  CHECK(tokenizer.encode("", whole).empty());
}

TEST_CASE("long words are merged as short ones are, and not in quadratic time") {
  // Many runs of the heap's way against the scan's: a word of 4,000 letters, and its halves that cannot join.
  const Gguf gguf = test::bpe_vocabulary("gpt-2", {"a", "b", "aa", "ab", "aab", "aaaa", "x"}, {1, 1, 1, 1, 1, 1, 1},
                                         {"a a", "a b", "aa b", "aa aa"});
  const Tokenizer tokenizer(gguf);
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    std::string word;
    Ids expected;
    for (int part = 0; part < 200; ++part) {
      std::string small;
      for (uint32_t i = 0, n = random() % 20; i < n; ++i) small += random() % 3 ? 'a' : 'b';
      small += 'x';  // joins with nothing
      const Ids ids = tokenizer.encode(small, whole);
      expected.insert(expected.end(), ids.begin(), ids.end());
      word += small;
    }
    REQUIRE(tokenizer.encode(word, whole) == expected);
  }
  const std::clock_t start = std::clock();
  const Gguf spm = small_spm({{"a", -1}, {"aa", -2}, {"aaaa", -3}, {"aaaaaaaa", -4}});
  for (const char letter : {'a', ' ', '\n', '1', '!'}) {
    const std::string text(1 << 20, letter);
    for (const char *pre : {"gpt-2", "smollm", "llama3", "qwen2", "tekken", "gpt-4o", "default"}) {
      const Tokenizer bpe(small_bpe(pre));
      CHECK(bpe.decode(bpe.encode(text, whole)) == text);
    }
    const Tokenizer sentencepiece(spm);
    CHECK(sentencepiece.decode(sentencepiece.encode(text, whole)) == text);
  }
  CHECK((std::clock() - start) / CLOCKS_PER_SEC < 120);  // quadratic would be an hour
}

TEST_CASE("each pre-tokenizer splits as its expression says") {
  // Tokens are bytes, but for the two-letter merges: a merge shows where a word goes on.
  const auto splits = [](const std::string &pre, const std::string &text) {
    std::vector<std::string> tokens = byte_tokens(), merges;
    const std::vector<std::string> bytes = byte_tokens();
    std::string result;  // the text with | between words
    for (size_t i = 0; i < text.size(); ++i) {
      result += text[i];
      if (i + 1 == text.size()) break;
      const auto name = [&](size_t at) { return bytes[static_cast<unsigned char>(text[at])]; };
      // The border between i and i + 1 is within a word if these two bytes, and they alone, are merged there.
      std::vector<std::string> with = tokens;
      with.push_back(name(i) + name(i + 1));
      const Tokenizer tokenizer(
          test::bpe_vocabulary(pre, with, std::vector<int32_t>(with.size(), 1), {name(i) + " " + name(i + 1)}));
      size_t at = 0;
      bool joined = false;
      for (const int32_t id : tokenizer.encode(text, middle)) {
        if (at == i && id == 256) joined = true;
        at += id == 256 ? 2 : 1;
      }
      if (!joined) result += '|';
    }
    return result;
  };
  CHECK(splits("gpt-2", "Hi you've  12 3!\n x") == "Hi| you|'ve| | 12| 3|!|\n| x");
  CHECK(splits("gpt-2", "YOU'VE") == "YOU|'|VE");
  CHECK(splits("smollm", "a 12 b") == "a| |1|2| b");
  CHECK(splits("llama3", "YOU'VE 12345 (x)!?\n\n y") == "YOU|'VE| |123|45| (|x|)!?\n\n| y");
  CHECK(splits("qwen2", "a 12-b") == "a| |1|2|-b");
  CHECK(splits("tekken", "camelCase'sHTML x1/") == "camel|Case|'s|HTML| x|1|/");
  CHECK(splits("gpt-4o", "camelCase's 1234") == "camel|Case's| |123|4");
  CHECK(splits("default", "a+b 12345") == "a|+|b| |123|45");
}

TEST_CASE("special tokens: control only when asked, user-defined always, the longest first") {
  const Tokenizer tokenizer(small_bpe());
  CHECK(tokenizer.encode("a<|im_end|>", parsed) == Ids{'a', 258});
  const Ids plain = tokenizer.encode("a<|im_end|>", middle);
  CHECK(std::count(plain.begin(), plain.end(), 258) == 0);
  CHECK(tokenizer.decode(plain) == "a<|im_end|>");
  CHECK(tokenizer.encode("<u><u> x<u> y", middle) == Ids{259, 260, 259, ' ', 'y'});
  CHECK(tokenizer.encode("<u", middle) == Ids{'<', 'u'});
  CHECK(tokenizer.encode("<<|im_end|><|im_end|", parsed).size() == 2 + 9);
  CHECK(tokenizer.piece(258) == "");
  CHECK(tokenizer.piece(258, true) == "<|im_end|>");
  CHECK(tokenizer.piece(259) == "<u>");
  CHECK(tokenizer.is_control(258));
  CHECK_FALSE(tokenizer.is_control(259));
  CHECK(tokenizer.is_end(258));
  CHECK(tokenizer.bos() == -1);
}

TEST_CASE("no merge makes a control token of plain text") {
  std::vector<std::string> tokens = byte_tokens();
  tokens.push_back("<s");
  tokens.push_back("<s>");
  std::vector<int32_t> types(tokens.size(), 1);
  types.back() = 3;
  while (infini::next_log_record()) {}
  const Tokenizer bpe(test::bpe_vocabulary("llama3", tokens, types, {"< s", "<s >"}));
  CHECK(bpe.encode("<s>", middle) == Ids{256, '>'});
  CHECK(bpe.encode("<s>", parsed) == Ids{257});
  const auto record = infini::next_log_record();
  REQUIRE(record);
  CHECK(record->message.find("1 of 2 merges") != std::string::npos);
  const Tokenizer spm(small_spm({{"<", -1}, {"s", -2}, {">", -3}, {"<s", -4}}));
  CHECK(spm.encode("<s>", middle) == Ids{262, 261});
}

TEST_CASE("BOS and the space prefix come at the start of the stream, as the file asks") {
  Gguf gguf = small_spm({{"\u2581", -1}, {"a", -2}, {"\u2581a", -3}});
  const int32_t space = 259, a = 260, space_a = 261;
  CHECK(Tokenizer(gguf).encode("a", whole) == Ids{1, space_a});
  CHECK(Tokenizer(gguf).encode("a", middle) == Ids{a});
  CHECK(Tokenizer(gguf).encode(" a", whole) == Ids{1, space, space_a});
  CHECK(Tokenizer(gguf).encode("", whole) == Ids{1});
  CHECK(Tokenizer(gguf).encode("a</s>a", {.special = true, .start = true}) == Ids{1, space_a, 2, space_a});
  CHECK(Tokenizer(gguf).decode(Ids{1, space_a, 2, space_a}, true) == "a</s>a");
  CHECK(Tokenizer(gguf).decode(Ids{1, space_a, 2, space_a}, true, false) == "<s>a</s>a");
  CHECK(Tokenizer(gguf).decode(Ids{1, space, space_a}) == " a");
  CHECK(Tokenizer(gguf).piece(space_a) == " a");
  CHECK(Tokenizer(gguf).piece(space_a, false, true) == "a");
  gguf.set("tokenizer.ggml.add_bos_token", false);
  gguf.set("tokenizer.ggml.add_space_prefix", false);
  CHECK(Tokenizer(gguf).encode("a", whole) == Ids{a});
  CHECK(Tokenizer(gguf).decode(Ids{space_a}) == " a");

  Gguf bpe = small_bpe();
  bpe.set("tokenizer.ggml.bos_token_id", uint32_t{258});
  CHECK(Tokenizer(bpe).encode("a", whole) == Ids{'a'});
  bpe.set("tokenizer.ggml.pre", std::string("llama-bpe"));  // Llama 3's files leave it out, and want it
  CHECK(Tokenizer(bpe).encode("a", whole) == Ids{258, 'a'});
  bpe.set("tokenizer.ggml.add_bos_token", false);
  CHECK(Tokenizer(bpe).encode("a", whole) == Ids{'a'});
}

TEST_CASE("SentencePiece: highest score first, bytes for what is no token, else one unknown for a run") {
  const std::vector<std::pair<std::string, float>> pieces = {{"a", -1}, {"b", -1}, {"c", -1}, {"ab", -5}, {"bc", -4}};
  Gguf gguf = small_spm(pieces);
  CHECK(Tokenizer(gguf).encode("abc", middle) == Ids{259, 263});
  CHECK(Tokenizer(gguf).encode("é", middle) == Ids{3 + 0xc3, 3 + 0xa9});
  CHECK(Tokenizer(gguf).encode("\n", middle) == Ids{3 + '\n'});
  CHECK(Tokenizer(small_spm(pieces, false)).encode("aéé b", middle) == Ids{3, 0, 4});
  gguf.set("tokenizer.ggml.scores", test::array(std::vector<float>(264, 0.f)));  // ties: from the left
  CHECK(Tokenizer(gguf).encode("abc", middle) == Ids{262, 261});
  // A token of two words is found although words are otherwise merged one by one.
  const Tokenizer reaching(small_spm({{"a", -1}, {"\u2581", -1}, {"b", -1}, {"a\u2581", -2}, {"a\u2581b", -3}}));
  CHECK(reaching.encode("aa b", middle) == Ids{259, 263});
}

TEST_CASE("a text that cannot be tokenized is an error") {
  const Tokenizer tokenizer(small_bpe());
  const auto [status, message] = error_of([&] { tokenizer.encode("abc\xff", whole); });
  CHECK(status == Status::INVALID_ARGUMENT);
  CHECK(message.find("byte 3") != std::string::npos);
  CHECK(error_of([&] { tokenizer.piece(-1); }).first == Status::INVALID_ARGUMENT);
  CHECK(error_of([&] { tokenizer.piece(261); }).first == Status::INVALID_ARGUMENT);
  CHECK(error_of([&] { tokenizer.decode(Ids{0, 1 << 30}); }).first == Status::INVALID_ARGUMENT);
  const Tokenizer few(test::bpe_vocabulary("gpt-2", {"a"}, {1}, {}));
  CHECK(few.encode("a", whole) == Ids{0});
  CHECK(error_of([&] {
          few.encode("aéb", whole);
        }).second.starts_with("the vocabulary has no token for U+00E9, at byte 1 of the text"));
}

TEST_CASE("characters without a token are an error with their place, left out, or replaced, and counted") {
  std::vector<std::string> tokens = byte_tokens(), bytes = tokens;
  std::vector<int32_t> types(256, 1);
  for (const int byte : {0x16, 0xf1, int{'?'}}) types[static_cast<size_t>(byte)] = 5;  // as SmolLM2: in no text
  tokens.push_back(bytes[' '] + "a");
  tokens.push_back("<u>");
  types.insert(types.end(), {1, 4});
  const std::string merge = bytes[' '] + " a", odd = "a \x16\U00040000\x16 a\x16<u>\U00040001 a";
  const Gguf gguf = test::bpe_vocabulary("gpt-2", tokens, types, {merge});
  const Tokenizer tokenizer(gguf);
  CHECK(error_of([&] { tokenizer.encode(odd, whole); }).second.find("U+0016, at byte 2 of") != std::string::npos);
  CHECK(error_of([&] { tokenizer.encode("<u>\U00040000", whole); }).second.find("U+40000, at byte 3 ") !=
        std::string::npos);
  int64_t unknown = 0;
  CHECK(tokenizer.encode(odd, {.unknown = infini::UnknownText::SKIP}, &unknown) ==
        tokenizer.encode("a  a<u> a", whole));
  CHECK(unknown == 1 + 4 + 1 + 1 + 4);
  CHECK(tokenizer.encode("\x16", {.unknown = infini::UnknownText::SKIP}, &unknown).empty());
  CHECK(unknown == 12);
  CHECK(tokenizer.encode(odd, {.unknown = infini::UnknownText::REPLACE}, &unknown) ==
        tokenizer.encode("a \ufffd\ufffd\ufffd a\ufffd<u>\ufffd a", whole));
  CHECK(unknown == 12 + 11);
  // Where U+FFFD has no token either: a question mark, and where there is none of that, nothing.
  Gguf poor = gguf;
  types[0xef] = 5, types['?'] = 1;
  poor.set("tokenizer.ggml.token_type", test::array(types));
  CHECK(Tokenizer(poor).encode("a\x16", {.unknown = infini::UnknownText::REPLACE}) == Ids{'a', '?'});
  types['?'] = 5;
  poor.set("tokenizer.ggml.token_type", test::array(types));
  CHECK(Tokenizer(poor).encode("a\x16", {.unknown = infini::UnknownText::REPLACE}) == Ids{'a'});
  // SentencePiece: bytes or an unknown token stand for everything; without them as above.
  Gguf bare = small_spm({{"a", -1}, {"\u2581", -1}}, false);
  CHECK(Tokenizer(bare).encode("aé", {.start = false, .unknown = infini::UnknownText::SKIP}) == Ids{3, 0});
  bare.set("tokenizer.ggml.token_type", test::array(std::vector<int32_t>{5, 3, 3, 1, 1}));
  CHECK(error_of([&] { Tokenizer(bare).encode("aé", middle); }).second.find("U+00E9, at byte 1") != std::string::npos);
  CHECK(Tokenizer(bare).encode("aéa", {.start = false, .unknown = infini::UnknownText::SKIP}) == Ids{3, 3});
}

TEST_CASE("a damaged vocabulary is an error, never a crash") {
  const auto status_with = [](Gguf gguf, const std::string &key, const infini::GgufValue &value) {
    gguf.set(key, value);
    return error_of([&] { Tokenizer tokenizer(gguf); }).first;
  };
  const std::string prefix = "tokenizer.ggml.";
  const std::vector<std::string> none;
  for (const Gguf &good : {small_bpe(), small_spm({{"a", -1}})}) {
    CHECK(error_of([&] { Tokenizer tokenizer(good); }).first == Status::OK);
    CHECK(status_with(good, prefix + "tokens", test::array(none)) == Status::FORMAT);
    CHECK(status_with(good, prefix + "tokens", std::string("a")) == Status::FORMAT);
    CHECK(status_with(good, prefix + "tokens", test::array(std::vector<std::string>{"a"})) == Status::FORMAT);
    CHECK(status_with(good, prefix + "token_type", test::array(std::vector<int32_t>{1})) == Status::FORMAT);
    std::vector<int32_t> types(261, 1);
    types[260] = 7;
    CHECK(status_with(good, prefix + "token_type", test::array(types)) == Status::FORMAT);
    CHECK(status_with(good, prefix + "bos_token_id", uint32_t{300}) == Status::FORMAT);
    CHECK(status_with(good, prefix + "eos_token_id", int32_t{-2}) == Status::FORMAT);
    CHECK(status_with(good, prefix + "eot_token_id", uint32_t{0xfffffffe}) == Status::FORMAT);
    for (const infini::GgufValue &absent : {infini::GgufValue(int32_t{-1}), infini::GgufValue(uint32_t{0xffffffff})}) {
      Gguf without = good;
      without.set(prefix + "bos_token_id", absent);
      CHECK(Tokenizer(without).bos() == -1);
    }
    types[260] = 0;
    CHECK(status_with(good, prefix + "token_type", test::array(types)) ==
          (good.get_string(prefix + "model") == "llama" ? Status::FORMAT : Status::OK));
    CHECK(status_with(good, prefix + "model", std::string("bert")) == Status::UNSUPPORTED);
    CHECK(status_with(good, prefix + "model", uint32_t{1}) == Status::FORMAT);
  }
  for (const std::string merge : {"ab", " ab", "a ", "a b c", "", " ", "a  b", "a \u4e2d", "\xc4 b", "a\t b"})
    CHECK_MESSAGE(
        status_with(small_bpe(), prefix + "merges", test::array(std::vector<std::string>{merge})) == Status::FORMAT,
        "merge '" << merge << "'");
  CHECK(status_with(small_spm({}), prefix + "scores", test::array(std::vector<float>{0})) == Status::FORMAT);
  std::vector<float> scores(259, 0);
  scores[5] = std::numeric_limits<float>::quiet_NaN();
  CHECK(status_with(small_spm({}), prefix + "scores", test::array(scores)) == Status::FORMAT);
  CHECK(status_with(small_spm({}), prefix + "token_type", test::array(std::vector<int32_t>(259, 6))) == Status::FORMAT);
  Gguf scoreless = small_spm({{"a", -1}, {"aa", -2}});
  scoreless.erase(prefix + "scores");
  CHECK(Tokenizer(scoreless).encode("aaa", middle) == Ids{260, 259});
  Gguf missing = small_bpe();
  missing.erase("tokenizer.ggml.merges");
  CHECK(error_of([&] { Tokenizer tokenizer(missing); }).first == Status::FORMAT);
}

TEST_CASE("the first of equal tokens counts, and empty ones do no harm") {
  std::vector<std::string> tokens = byte_tokens();
  for (const char *token : {"a", "ab", "ab", "", "", "<u>", "<u>"}) tokens.push_back(token);
  std::vector<int32_t> types(tokens.size(), 1);
  types[260] = types[261] = types[262] = 4;
  const Tokenizer tokenizer(test::bpe_vocabulary("gpt-2", tokens, types, {"a b", "a b"}));
  CHECK(tokenizer.encode("a ab<u>", middle) == Ids{'a', ' ', 257, 261});
}

TEST_CASE("an unknown pre-tokenizer names the known ones; an absent one is a warning") {
  const auto [status, message] = error_of([] { Tokenizer tokenizer(small_bpe("no\xffsuch")); });
  CHECK(status == Status::UNSUPPORTED);
  CHECK(message.find("no\uFFFDsuch") != std::string::npos);
  CHECK(message.find("smollm") != std::string::npos);
  CHECK(message.find("qwen2") != std::string::npos);
  Gguf gguf = small_bpe();
  gguf.erase("tokenizer.ggml.pre");
  while (infini::next_log_record()) {}
  CHECK(Tokenizer(gguf).encode("abc ab", whole) == Ids{257, ' ', 256});
  const auto record = infini::next_log_record();
  REQUIRE(record);
  CHECK(record->level == infini::LogLevel::WARNING);
}

TEST_CASE("many threads may use one tokenizer") {
  const Tokenizer tokenizer(small_bpe("llama3"));
  std::mt19937 random(11);
  const std::string text = test::random_text(random, 5000);
  const Ids expected = tokenizer.encode(text, whole);
  std::atomic<int> equal = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 5; ++round) equal += tokenizer.encode(text, whole) == expected;
    });
  for (std::thread &thread : threads) thread.join();
  CHECK(equal == 20);
}
