// Texts as training sequences: nothing lost, borders kept, weights where they belong, enemies refused.
#include "train/text_file.h"
#include "train/text_sources.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>

#include "base/random.h"
#include "hf_tokenizer.h"
#include "temporary_folder.h"
#include "adapt/make_source.h"
#include "train/batch_layout.h"
#include "training.h"

using namespace infini;
using test::error_of, test::stories, test::words, test::words_model;

namespace {

const std::string &novel() {
  static const std::string text = test::read_text(test::novel_path);
  return text;
}

std::string write(const test::TemporaryFolder &folder, const std::string &name, const std::string &text) {
  std::ofstream(folder.file(name), std::ios::binary) << text;
  return folder.file(name);
}

std::vector<int32_t> document(const Tokenizer &tokenizer, const std::string &text) {
  std::vector<int32_t> ids = tokenizer.encode(text, {});
  ids.push_back(tokenizer.eos());
  return ids;
}

// Sequences laid end to end must be the documents laid end to end, over and over.
void check_packed(const Tokenizer &tokenizer, SequenceSource &source, const std::vector<std::string> &texts,
                  int segment, int segments) {
  std::vector<int32_t> expected;
  std::vector<size_t> starts;
  for (const std::string &text : texts) {
    starts.push_back(expected.size());
    const std::vector<int32_t> ids = document(tokenizer, text);
    expected.insert(expected.end(), ids.begin(), ids.end());
  }
  const auto total = static_cast<size_t>(segment * segments);
  for (size_t at = 0; at < 3 * expected.size();) {
    const Sequence s = source.next(segment, segments);
    REQUIRE(s.tokens.size() == total);
    REQUIRE(s.weight.size() == total);
    CHECK(s.answer == std::vector<uint8_t>(total));
    std::vector<int32_t> borders;
    for (size_t t = 0; t < total; ++t, ++at) {
      const size_t i = at % expected.size();
      REQUIRE(s.tokens[t] == expected[i]);
      const bool border = t == 0 || std::find(starts.begin(), starts.end(), i) != starts.end();
      if (border) borders.push_back(static_cast<int32_t>(t));
      REQUIRE(s.weight[t] == (border ? 0.0f : 1.0f));
    }
    CHECK(s.document == borders);
  }
}

}  // namespace

TEST_CASE("files are packed whole, and memory begins anew at each") {
  const test::TemporaryFolder folder;
  // One of several pieces, a short one, one that is empty, one with letters of several bytes.
  const std::vector<std::string> texts = {novel().substr(0, 30'000), "Short.", "Gr\u00fc\u00dfe, \u4e16\u754c!\n"};
  const std::vector<std::string> files = {write(folder, "a", texts[0]), write(folder, "b", texts[1]),
                                          write(folder, "c", ""), write(folder, "d", texts[2])};
  for (const Tokenizer *tokenizer : {&words(), &stories()}) {
    PackedSource source(read_texts(*tokenizer, {.files = files}));
    check_packed(*tokenizer, source, texts, 64, 16);
  }
}

TEST_CASE("lines of JSONL are documents") {
  const test::TemporaryFolder folder;
  const std::vector<std::string> texts = {"One.", "The second, \"quoted\".\nTwo lines.", novel().substr(0, 9000)};
  std::string lines;
  for (const std::string &text : texts) lines += nlohmann::json{{"body", text}, {"other", {1, 2}}}.dump() + "\n\n";
  lines += R"({"body": ""})";  // an empty document, and no line end
  const TextSettings settings = {.files = {write(folder, "a.jsonl", lines)}, .field = "body"};
  for (const Tokenizer *tokenizer : {&words(), &stories()}) {
    PackedSource source(read_jsonl(*tokenizer, settings));
    check_packed(*tokenizer, source, texts, 32, 4);
  }
}

TEST_CASE("spans weigh the tokens that end in them") {
  const test::TemporaryFolder folder;
  const std::string text = "Question: what is it? Answer: \u00fcber 71432 miles.";
  const size_t answer = text.find("\u00fcber"), digits = text.find("71432");
  const nlohmann::json line = {{"text", text}, {"spans", {{answer, digits + 5, 2.5}, {digits, digits + 5, 7}}}};
  const std::string file = write(folder, "a.jsonl", line.dump());
  for (const Tokenizer *tokenizer : {&words(), &stories()}) {
    PackedSource source(read_jsonl(*tokenizer, {.files = {file}, .weight = 0.5}));
    const std::vector<int32_t> ids = document(*tokenizer, text);
    const Sequence s = source.next(static_cast<int>(ids.size()), 1);
    REQUIRE(s.tokens == ids);
    for (size_t t = 1; t < ids.size(); ++t) {
      // The bytes up to this token, as the tokenizer itself gives them back.
      const size_t end = tokenizer->decode(std::span(ids).first(t + 1)).size();
      const size_t last = end - 1;
      const bool is_end = t + 1 == ids.size();
      const double expected = is_end                                ? 0.5
                              : last >= digits && last < digits + 5 ? 7
                              : last >= answer && last < digits     ? 2.5
                                                                    : 0.5;
      CHECK_MESSAGE(s.weight[t] == static_cast<float>(expected), "token ", t, " of ", ids.size());
    }
  }
}

TEST_CASE("spans are found behind characters that the vocabulary does not know") {
  const test::TemporaryFolder folder;
  const Tokenizer tokenizer(test::small_spm({{"a", -1}, {"b", -1}, {"\u2581", -1}, {"\u2581b", -2}}, false));
  const std::string text = "a \u00e9\u00e9 b b\u00e9b";
  const std::string file =
      write(folder, "a.jsonl", nlohmann::json{{"text", text}, {"spans", {{8, 10, 3}, {12, 13, 5}}}}.dump());
  const std::vector<int32_t> ids = document(tokenizer, text);
  const Sequence s =
      PackedSource(read_jsonl(tokenizer, {.files = {file}, .weight = 0.5})).next(static_cast<int>(ids.size()), 1);
  REQUIRE(s.tokens == ids);
  std::vector<float> weights;  // of each b
  for (size_t t = 0; t < ids.size(); ++t)
    if (tokenizer.piece(ids[t]).ends_with('b')) weights.push_back(s.weight[t]);
  CHECK(weights == std::vector<float>{0.5f, 3, 5});
}

// What tokens say, of a sequence's.
std::string said(const Tokenizer &tokenizer, const Sequence &s, int32_t at) {
  return tokenizer.piece(s.tokens[static_cast<size_t>(at)]);
}

TEST_CASE("links join tokens of equally long ranges in order, and of others each to the last") {
  const test::TemporaryFolder folder;
  const std::string text =
      "The river key is 71432. Anna lives in a green house. The river key is 71432. Anna lives in a house";
  const size_t first = text.find("71432"), second = text.rfind("71432"), where = text.find("green house"),
               asked = text.rfind("house"), before = text.rfind(" house");
  REQUIRE(before + 1 == asked);
  const nlohmann::json line = {{"text", text},
                               {"links",
                                {{second, second + 5, first, first + 5, 2},
                                 {second, second + 5, first, first + 5, 3},
                                 {asked + 2, asked + 3, where, where + 11, 0.5}}}};  // bytes of one token stand for it
  PackedSource source(read_jsonl(words(), {.files = {write(folder, "a.jsonl", line.dump())}}));
  const auto size = static_cast<int>(document(words(), text).size());
  const Sequence s = source.next(size, 1);
  REQUIRE(s.links.size() == 6);
  for (size_t i = 0; i < 5; ++i) {
    CHECK(said(words(), s, s.links[i].from) == std::string(1, "71432"[i]));
    CHECK(said(words(), s, s.links[i].to) == std::string(1, "71432"[i]));
    CHECK(s.links[i].weight == 3);
    CHECK(s.tags[static_cast<size_t>(s.links[i].from)].offset == static_cast<int32_t>(i));
    CHECK(s.tags[static_cast<size_t>(s.links[i].to)].offset == static_cast<int32_t>(i));
    CHECK(s.links[i].from > s.links[4].to);
  }
  CHECK(said(words(), s, s.links[5].from) == " house");
  CHECK(said(words(), s, s.links[5].to) == " house");
  CHECK(said(words(), s, s.links[5].to - 1) == " green");
  CHECK(s.links[5].weight == 0.5f);
  CHECK(std::ranges::count_if(s.tags, [](const Tag &tag) { return tag.offset >= 0; }) == 5 + 5 + 1 + 2);
  CHECK(std::count(s.answer.begin(), s.answer.end(), 2) == 6);
}

TEST_CASE("what links predict is an answer across segments or inside one, and links that are cut are left out") {
  const test::TemporaryFolder folder;
  std::vector<std::string> list;  // a token each
  for (const char *word :
       {"red",   "blue", "green", "black", "white", "river", "house", "door", "garden", "church", "road",
        "water", "sea",  "city",  "room",  "table", "horse", "night", "king", "father", "mother"})
    if (words().encode(std::string(" ") + word, {}).size() == 1 && list.size() < 15) list.push_back(word);
  REQUIRE(list.size() == 15);
  std::string text;
  std::vector<size_t> begins;
  for (const std::string &word : list) {
    text += " " + word;
    begins.push_back(text.size() - word.size());
  }
  const auto link = [&](size_t from, size_t to) {  // tokens
    return nlohmann::json{begins[from], begins[from] + list[from].size(), begins[to], begins[to] + list[to].size(), 1};
  };
  const std::string file =
      write(folder, "a.jsonl",
            nlohmann::json{{"text", text}, {"links", {link(1, 0), link(6, 2), link(7, 5), link(13, 3), link(14, 12)}}}
                .dump());
  REQUIRE(document(words(), text).size() == 16);
  for (const int64_t carry : {0, 2}) {
    PackedSource source(read_jsonl(words(), {.files = {file}}), carry);
    const Sequence whole = source.next(4, 5);
    REQUIRE(whole.links.size() == 6);  // the last of the next document
    const std::vector<uint8_t> answers(whole.answer.begin(), whole.answer.begin() + 16);
    CHECK(answers ==
          std::vector<uint8_t>{0, 2, 0, 0, 0, 0, carry > 0 ? uint8_t{2} : uint8_t{1}, 2, 0, 0, 0, 0, 0, 1, 2, 0});
    CHECK(whole.links[5].from == 17);
    CHECK(whole.links[5].to == 16);
    const Sequence cut = source.next(5, 2);  // from the fifth token of the second document on
    REQUIRE(cut.links.size() == 1);
    CHECK(cut.links[0].from == 3);
    CHECK(cut.links[0].to == 1);
  }
  // The trainer finds what lies in the memory: in earlier segments of the document.
  BatchLayout layout;
  layout.add(PackedSource(read_jsonl(words(), {.files = {file}})).next(4, 5), 4, words().size());
  REQUIRE(layout.retrievals.size() == 2);
  CHECK(layout.retrievals[0].row == 5);
  CHECK(layout.source_rows == std::vector<int64_t>{2, 3});
}

TEST_CASE("a line of JSON says all that a task says: answers, repetitions, names, and whose value it is") {
  RecallTask settings;
  settings.kind = RecallTask::Kind::PASSKEY;
  settings.names = {"river", "house"};
  settings.keys = settings.questions = 2;
  RecallSource tasks(words(), settings, nullptr);
  bool repeated = false;
  for (int round = 0; round < 8; ++round) {
    const Sequence task = tasks.next(32, 8);
    const std::string text = words().decode(task.tokens);
    nlohmann::json links = nlohmann::json::array(), values = links;
    std::map<std::string, std::vector<size_t>> stood;  // by name
    const std::regex value("(The (\\w+) key is )(\\d{5})|(\\d{5}) is the (\\w+) key");
    for (std::sregex_iterator match(text.begin(), text.end(), value), end; match != end; ++match) {
      const std::smatch &m = *match;
      const bool repeats = m[4].matched;
      const std::string name = m[repeats ? 5 : 2];
      const auto at = static_cast<size_t>(m.position(repeats ? 4 : 3)), named = text.rfind(" " + name, at) + 1;
      const bool asked = text.rfind('?', at) != text.npos && text.rfind('?', at) > text.rfind('.', at);
      repeated |= repeats;
      for (const size_t before : stood[name])
        links.push_back({at, at + 5, before, before + 5, 1, asked ? "answer" : "retrieval"});
      links.push_back({at, at + 5, named, named + name.size(), 1, "local"});
      values.push_back({at, at + 5, name == "river" ? 0 : 1});
      stood[name].push_back(at);
    }
    const test::TemporaryFolder folder;
    const nlohmann::json line = {{"text", text}, {"links", links}, {"values", values}};
    const Sequence said =
        PackedSource(read_jsonl(words(), {.files = {write(folder, "a.jsonl", line.dump())}})).next(32, 8);
    REQUIRE(said.tokens == task.tokens);
    CHECK(said.answer == task.answer);
    CHECK(said.local_target == task.local_target);
    CHECK(test::offsets_of(said) == test::offsets_of(task));
    CHECK(test::labels_of(said) == test::labels_of(task));
    REQUIRE(said.links.size() == task.links.size());
    for (size_t i = 0; i < said.links.size(); ++i) {
      CHECK(said.links[i].from == task.links[i].from);
      CHECK(said.links[i].to == task.links[i].to);
      CHECK(said.links[i].weight == task.links[i].weight);
    }
  }
  CHECK(repeated);
}

TEST_CASE("the line of JSON in the guide says of each value where it stood, and whose it is") {
  const std::string guide = test::read_text(INFINI_SOURCE_DIR "/samples/train/README.md");
  const size_t begin = guide.find("    {\"text\": \" The river"), end = guide.find("]]}", begin) + 3;
  REQUIRE(end > begin);
  const nlohmann::json line = nlohmann::json::parse(guide.substr(begin, end - begin));
  const std::string text = line["text"];
  const auto at = [&](const nlohmann::json &range, size_t i) {
    return text.substr(range[i], range[i + 1].get<size_t>() - range[i].get<size_t>());
  };
  size_t local = 0;
  for (const nlohmann::json &link : line["links"]) {
    const bool is_local = link.size() == 6 && link[5] == "local";
    local += is_local;
    CHECK(at(link, 0) == "71432");
    CHECK(at(link, 2) == (is_local ? "river" : "71432"));
  }
  CHECK(local == 3);
  for (const nlohmann::json &value : line["values"]) CHECK(at(value, 0) == "71432");
  const test::TemporaryFolder folder;
  std::string one = line.dump();
  PackedSource source(read_jsonl(words(), {.files = {write(folder, "a.jsonl", one)}}));
  const Sequence s = source.next(static_cast<int>(document(words(), text).size()), 1);
  CHECK(s.links.size() == 3 * 5);
  CHECK(std::count(s.answer.begin(), s.answer.end(), 2) == 5);
  CHECK(std::ranges::count(s.tags, 0, &Tag::label) == 3 * 5);
}

TEST_CASE("of what a document says, the part that a sequence holds goes into it") {
  using Kind = DocumentLink::Kind;
  Document document;
  for (int32_t t = 0; t < 12; ++t) document.tokens.push_back(t), document.weight.push_back(1);
  document.links = {{Kind::LOCAL, 3, 1}, {Kind::RETRIEVAL, 6, 2, 0.5f}, {Kind::ANSWER, 6, 2}, {Kind::LOCAL, 7, 6}};
  Document plain = document;
  plain.links.clear();
  document.add_value(1, 3, 8), document.add_value(6, 4, 9);
  document.supervised = true;
  Sequence s;
  append(plain, 10, 2, 4, 0, s);  // the end of another
  CHECK(s.tags.empty());
  append(document, 0, 8, 4, 0, s);
  CHECK(s.document == std::vector<int32_t>{0, 2});
  CHECK(test::offsets_of(s) == std::vector<int32_t>{-1, -1, -1, 0, 1, 2, -1, -1, 0, 1});
  CHECK(test::labels_of(s) == std::vector<int32_t>{-1, -1, -1, 8, 8, 8, -1, -1, 9, 9});
  CHECK(s.local_target == std::vector<int32_t>{-1, -1, -1, -1, -1, 3, -1, -1, -1, 8});
  CHECK(s.answer == std::vector<uint8_t>{0, 0, 0, 0, 0, 0, 0, 0, 1, 0});
  REQUIRE(s.links.size() == 1);
  CHECK(s.links[0].from == 8);
  CHECK(s.links[0].to == 4);
  CHECK(s.links[0].weight == 0.5f);
  Sequence rest;
  append(document, 5, 7, 4, 0, rest);  // what is asked for stood before
  CHECK(rest.links.empty());
  CHECK(rest.answer == std::vector<uint8_t>(7));
  CHECK(test::offsets_of(rest) == std::vector<int32_t>{-1, 0, 1, 2, 3, -1, -1});
  CHECK(rest.local_target == std::vector<int32_t>{-1, -1, 1, -1, -1, -1, -1});
}

TEST_CASE("each link of a document is looked at once, in however many pieces it is read") {
  constexpr int32_t kTokens = 1 << 17, kLinks = 8, kPiece = 32;
  Document document;
  document.supervised = true;
  for (int32_t t = 0; t < kTokens; ++t) {
    document.tokens.push_back(t), document.weight.push_back(1);
    for (int32_t to = std::max(0, t - kLinks); to < t; ++to)
      document.links.push_back({DocumentLink::Kind::RETRIEVAL, t, to});
  }
  size_t seen = 0;
  bool right = true;
  for (int32_t first = 0; first < kTokens; first += kPiece) {
    seen += document.links_of(static_cast<size_t>(first), kPiece).size();
    Sequence piece;
    append(document, static_cast<size_t>(first), kPiece, 16, 0, piece);
    for (int32_t t = 0; t < kPiece; ++t) right &= piece.links_of(t).size() == static_cast<size_t>(std::min(t, kLinks));
  }
  CHECK(seen == document.links.size());
  CHECK(right);
}

TEST_CASE("characters without a token are an error with their position in the file, or are skipped or replaced") {
  const test::TemporaryFolder folder;
  std::vector<std::string> letters = test::byte_tokens();
  letters[0x16] = "?\u0144";  // no token for U+0016
  const auto model = Model::build(test::bpe_vocabulary("gpt-2", letters, std::vector<int32_t>(256, 1), {}), {});
  const Tokenizer &tokenizer = model->tokenizer();
  std::string text;
  while (text.size() < 20000) text += "some words ";
  const std::string file = write(folder, "log.txt", "\xef\xbb\xbf" + text + "\x16" + "ends."),
                    lines =
                        write(folder, "log.jsonl", nlohmann::json{{"text", "a\x16z"}, {"spans", {{2, 3, 7}}}}.dump());
  const auto source_of = [&](const std::string &type, const std::string &path, const std::string &unknown) {
    nlohmann::json description = {{"type", type}, {"files", {path}}};
    if (!unknown.empty()) description["unknown_text"] = unknown;
    return make_source(description.dump(), *model);
  };
  for (const std::string unknown : {"", "error"}) {
    std::string error = error_of([&] { source_of("text", file, unknown)->next(24000, 1); });
    CHECK_MESSAGE(
        error.find(cat("log.txt: the vocabulary has no token for U+0016, at byte ", text.size() + 3)) != error.npos,
        error);
    error = error_of([&] { source_of("jsonl", lines, unknown)->next(24, 1); });
    CHECK_MESSAGE(error.find("log.jsonl:1: the vocabulary has no token for U+0016, at byte 1") != error.npos, error);
  }
  const auto size = static_cast<int>(text.size());
  for (const std::string unknown : {"skip", "replace"}) {
    const std::string between = unknown == "skip" ? "" : "\ufffd", ending = between + "ends.";
    const Sequence s = source_of("text", file, unknown)->next(size + static_cast<int>(ending.size()), 1);
    CHECK(tokenizer.decode(s.tokens) == text + ending);
    CHECK(s.unknown_bytes == 1);
    const Sequence line = source_of("jsonl", lines, unknown)->next(static_cast<int>(between.size()) + 2, 1);
    CHECK(tokenizer.decode(line.tokens) == "a" + between + "z");
    CHECK(line.unknown_bytes == 1);
    CHECK(line.weight.back() == 7);  // the span is where it was written
    CHECK(line.weight[1] == (between.empty() ? 7 : 1));
  }
  CHECK(error_of([&] { source_of("text", file, "leave"); }).find("unknown_text") != std::string::npos);
}

// As Windows writes it, the mark first.
std::string utf16(const std::string &text) {
  std::string wide = "\xff\xfe";
  for (const char letter : text) wide += std::string{letter, '\0'};
  return wide;
}

TEST_CASE("UTF-16 is read as the same text in UTF-8 is, from anywhere") {
  const test::TemporaryFolder folder;
  std::string text;
  for (int i = 0; text.size() < 300'000; ++i) text += "Good. Bad " + std::to_string(i) + ".\n";
  std::string lines = text;  // ends of lines as Windows has them
  for (size_t at = 0; (at = lines.find('\n', at)) != lines.npos; at += 2) lines.insert(at, "\r");
  const std::string narrow = write(folder, "a.txt", text), wide = write(folder, "b.txt", utf16(lines));
  CHECK(ByteFile(wide, 0).size() == static_cast<int64_t>(text.size()));
  for (const int64_t offset : {0, 1, 65'535, 65'536, 200'001}) {
    std::string bytes;
    CHECK(ByteFile(wide, offset).read(bytes, 1000));
    CHECK(bytes == text.substr(static_cast<size_t>(offset), 1000));
  }
  const auto behind = static_cast<int64_t>(text.size()) + 1;
  CHECK(error_of([&] { ByteFile file(wide, behind); }).find(cat("has only ", text.size(), " now")) !=
        std::string::npos);
  ExcerptSource from_narrow(words(), {.files = {narrow}}, 3), from_wide(words(), {.files = {wide}}, 3);
  PackedSource packed(read_texts(words(), {.files = {narrow}})), packed_wide(read_texts(words(), {.files = {wide}}));
  for (int i = 0; i < 5; ++i) {
    CHECK(from_narrow.next(16, 4).tokens == from_wide.next(16, 4).tokens);
    CHECK(packed.next(16, 4).tokens == packed_wide.next(16, 4).tokens);
  }
  PackedSource again(read_texts(words(), {.files = {wide}}));
  again.restore(packed_wide.save());
  CHECK(again.next(16, 4).tokens == packed.next(16, 4).tokens);
}

TEST_CASE("UTF-16 that breaks off, and UTF-32, are told by the file's name") {
  const test::TemporaryFolder folder;
  const std::string odd = write(folder, "odd.txt", utf16("Good") + "x");
  const std::string four = write(folder, "four.txt", std::string("\xff\xfe\0\0G\0\0\0", 8));
  for (const auto &[written, words_of_it] : {std::pair{odd, "ends inside a character"}, std::pair{four, "is UTF-32"}}) {
    const std::string file = written;
    const std::string error = error_of([&] { read_texts(words(), {.files = {file}})->next(); });
    CHECK_MESSAGE(error.find(words_of_it) != std::string::npos, error);
    CHECK_MESSAGE(error.find(file) != std::string::npos, error);
  }
}

TEST_CASE("a mark at the beginning of JSONL is no part of it") {
  const test::TemporaryFolder folder;
  const std::string line = R"({"text": "Good."})";
  PackedSource source(read_jsonl(words(), {.files = {write(folder, "a.jsonl", "\xef\xbb\xbf" + line + "\n" + line)}}));
  check_packed(words(), source, {"Good.", "Good."}, 8, 1);
  const std::string wide = write(folder, "b.jsonl", utf16(line + "\r\n" + line));
  PackedSource from_wide(read_jsonl(words(), {.files = {wide}}));
  check_packed(words(), from_wide, {"Good.", "Good."}, 8, 1);
}

TEST_CASE("spans are found in text that the tokenizer normalises") {
  const test::TemporaryFolder folder;
  const Tokenizer tokenizer(test::small_bpe("qwen2"));
  const std::string text = "e\u0301e\u0301e\u0301 x";
  const std::string file = write(folder, "a.jsonl", nlohmann::json{{"text", text}, {"spans", {{10, 11, 3}}}}.dump());
  const Sequence s = PackedSource(read_jsonl(tokenizer, {.files = {file}})).next(8, 1);
  CHECK(s.weight == std::vector<float>{0, 1, 1, 1, 1, 1, 1, 3});
}

TEST_CASE("of spans that lie over each other the last counts, however many there are") {
  const test::TemporaryFolder folder;
  std::string text;
  while (text.size() < 60'000) text += "one two three ";
  Random random(5);
  nlohmann::json spans = nlohmann::json::array();
  std::vector<float> expected(text.size(), 1);  // of each byte
  for (int i = 0; i < 40; ++i) {
    const uint64_t a = random.next() % (text.size() + 1), b = random.next() % (text.size() + 1);
    spans.push_back({std::min(a, b), std::max(a, b), i});
    std::fill(expected.begin() + static_cast<std::ptrdiff_t>(std::min(a, b)),
              expected.begin() + static_cast<std::ptrdiff_t>(std::max(a, b)), static_cast<float>(i));
  }
  for (const bool many : {false, true}) {
    if (many) {  // written one by one they would be 6,000,000,000 bytes
      std::vector<nlohmann::json> all(100'000, {0, text.size(), 3});
      all.insert(all.end(), spans.begin(), spans.end());
      spans = all;
      std::fill(expected.begin(), expected.end(), 3.0f);
      for (size_t i = all.size() - 40; i < all.size(); ++i)
        std::fill(expected.begin() + all[i][0].get<std::ptrdiff_t>(),
                  expected.begin() + all[i][1].get<std::ptrdiff_t>(), all[i][2].get<float>());
    }
    const std::string file = write(folder, "a.jsonl", nlohmann::json{{"text", text}, {"spans", spans}}.dump());
    PackedSource source(read_jsonl(words(), {.files = {file}}));
    const std::vector<int32_t> ids = document(words(), text);
    const Sequence s = source.next(static_cast<int>(ids.size()), 1);
    REQUIRE(s.tokens == ids);
    size_t end = 0;
    for (size_t t = 1; t + 1 < ids.size(); ++t) {
      end += words().piece(ids[t - 1]).size();
      const size_t last = end + words().piece(ids[t]).size() - 1;
      REQUIRE(s.weight[t] == expected[last]);
    }
  }
}

TEST_CASE("after a file could not be read it goes on at the same position") {
  const test::TemporaryFolder folder;
  const std::string first = write(folder, "first", "Some text to read."),
                    second = write(folder, "second", "And more of it.");
  for (const bool lines : {false, true}) {
    write(folder, "first", lines ? R"({"text": "Some text to read."})" : "Some text to read.");
    const std::string more = lines ? R"({"text": "And more of it."})" : "And more of it.";
    write(folder, "second", more);
    const auto make = [&] {
      return PackedSource(lines ? read_jsonl(words(), {.files = {first, second}})
                                : read_texts(words(), {.files = {first, second}}));
    };
    PackedSource whole = make(), source = make();
    const std::string state = source.save();
    std::filesystem::remove(second);
    CHECK(error_of([&] { source.next(16, 2); }).find("second") != std::string::npos);
    CHECK(error_of([&] { source.next(16, 2); }) != "");
    write(folder, "second", more);
    source.restore(state);
    CHECK(source.next(16, 2).tokens == whole.next(16, 2).tokens);
  }
}

TEST_CASE("any position is saved and comes back") {
  const test::TemporaryFolder folder;
  const std::string a = write(folder, "a", novel().substr(0, 20'000)), b = write(folder, "b", "Short."),
                    c = write(folder, "c.jsonl",
                              R"({"text": "One two three."})"
                              "\n"
                              R"({"text": "Four five six seven eight."})"
                              "\n");
  const std::string descriptions[] = {
      nlohmann::json{{"type", "text"}, {"files", {a, b}}}.dump(),
      nlohmann::json{{"type", "text"}, {"files", {a, b}}, {"order", "excerpts"}}.dump(),
      nlohmann::json{{"type", "jsonl"}, {"files", {c}}}.dump(),
      nlohmann::json{{"type", "mixture"},
                     {"sources",
                      {{{"source", {{"type", "text"}, {"files", {a}}}}},
                       {{"ratio", 2}, {"source", {{"type", "jsonl"}, {"files", {c}}}}},
                       {{"source", {{"type", "recall"}, {"prose", {a}}, {"virtual_length", 9}}}}}}}
          .dump()};
  for (const std::string &description : descriptions) {
    CAPTURE(description);
    const auto source = make_source(description, words_model());
    for (int round = 0; round < 40; ++round) {
      const int segment = 1 + round % 33;
      const std::string state = source->save();
      const Sequence expected = source->next(segment, 3);
      const auto again = make_source(description, words_model());
      again->restore(state);
      const Sequence restored = again->next(segment, 3);
      REQUIRE(restored.tokens == expected.tokens);
      REQUIRE(restored.weight == expected.weight);
      REQUIRE(restored.document == expected.document);
      REQUIRE(restored.repeat_weight == expected.repeat_weight);
      REQUIRE(again->save() == source->save());
    }
  }
}

TEST_CASE("a damaged state is an error, whatever it is") {
  const test::TemporaryFolder folder;
  const std::string a = write(folder, "a", novel().substr(0, 5'000)),
                    c = write(folder, "c.jsonl", R"({"text": "One two three."})");
  const auto source =
      make_source(nlohmann::json{{"type", "mixture"},
                                 {"sources",
                                  {{{"source", {{"type", "text"}, {"files", {a}}}}},
                                   {{"source", {{"type", "text"}, {"files", {a}}, {"order", "excerpts"}}}},
                                   {{"source", {{"type", "jsonl"}, {"files", {c}}}}}}}}
                      .dump(),
                  words_model());
  for (int i = 0; i < 3; ++i) source->next(30, 3);
  const std::string good = source->save();
  Random random(1);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string state = good;
    const auto at = static_cast<size_t>(random.uniform() * static_cast<double>(state.size()));
    switch (round % 3) {
      case 0: state[at] = static_cast<char>(random.next()); break;
      case 1: state.resize(at); break;
      default: state.erase(at, 1 + static_cast<size_t>(random.uniform() * 9));
    }
    // Either it is refused, or it says another position, which must be one to go on from.
    const std::string error = error_of([&] {
      source->restore(state);
      if (source->next(7, 3).tokens.size() != 21) FAIL("a sequence of another size");
    });
    refused += !error.empty();
  }
  CHECK(refused > 1500);
  source->restore(good);
  CHECK(source->save() == good);
}

TEST_CASE("bad lines are named by file and line") {
  const test::TemporaryFolder folder;
  // Every token of the second half is linked a hundred times and more.
  const std::string half = novel().substr(0, 30'000);
  nlohmann::json crowded = {{"text", half + half}, {"links", nlohmann::json::array()}};
  for (int i = 0; i < 300; ++i) crowded["links"].push_back({half.size(), 2 * half.size(), 0, half.size(), 1});
  const std::string many_links = crowded.dump();
  const std::string good = R"({"text": "Good."})"
                           "\n";
  const std::pair<std::string, const char *> wrong[] = {
      {"{\"text\": ", "is not JSON"},
      {"[1]", "not a JSON object"},
      {R"({"body": "x"})", "has no text 'text'"},
      {R"({"text": 3})", "has no text 'text'"},
      {"{\"text\": \"\xff\"}", "is not JSON"},
      {R"({"text": "\ud800"})", "is not JSON"},
      {R"({"text": "abc", "spans": 3})", "'spans' is not a list"},
      {R"({"text": "abc", "spans": [[0, 4, 1]]})", "span 0 is not"},
      {R"({"text": "abc", "spans": [[0, 1, 1], [2, 1, 1]]})", "span 1 is not"},
      {R"({"text": "abc", "spans": [[-1, 1, 1]]})", "span 0 is not"},
      {R"({"text": "abc", "spans": [[0, 1]]})", "span 0 is not"},
      {R"({"text": "abc", "spans": [[0, 1, -1]]})", "span 0 is not"},
      {R"({"text": "abc", "spans": [[0, 1, 1e300]]})", "span 0 is not"},
      {R"({"text": "abc", "spans": [[0, 18446744073709551615, 1]]})", "span 0 is not"},
      {R"({"text": "abc", "links": {}})", "'links' is not a list"},
      {R"({"text": "abc", "links": [3]})", "link 0 is not"},
      {R"({"text": "abc", "links": [[2, 3, 0, 1]]})", "link 0 is not"},
      {R"({"text": "abc", "links": [[2, 3, 0, 1, 1], [2, 4, 0, 1, 1]]})", "link 1 is not"},
      {R"({"text": "abc", "links": [[0, 1, 2, 3, 1]]})", "link 0 is not"},
      {R"({"text": "abc", "links": [[1, 3, 0, 2, 1]]})", "link 0 is not"},
      {R"({"text": "abc", "links": [[2, 2, 0, 1, 1]]})", "link 0 is not"},
      {R"({"text": "abc", "links": [[2, 3, 1, 1, 1]]})", "link 0 is not"},
      {R"({"text": "abc", "links": [[2, 3, -1, 1, 1]]})", "link 0 is not"},
      {R"({"text": "abc", "links": [[2.5, 3, 0, 1, 1]]})", "link 0 is not"},
      {R"({"text": "abc", "links": [[2, 3, 0, 1, -1]]})", "link 0 is not"},
      {R"({"text": "abc", "links": [[2, 3, 0, 1, 1e300]]})", "link 0 is not"},
      {R"({"text": "abc", "links": [[2, 18446744073709551615, 0, 1, 1]]})", "link 0 is not"},
      {R"({"text": "abc", "links": [[2, 3, 0, 1, 1, "far"]]})", "link 0 is not answer, retrieval or local"},
      {R"({"text": "abc", "links": [[2, 3, 0, 1, 1, 3]]})", "the kind of link 0 is not"},
      {R"({"text": "abc", "links": [[2, 3, 0, 1, 2, "local"]]})", "link 0 is local, and its weight is not 1"},
      {R"({"text": "abc", "values": 3})", "'values' is not a list"},
      {R"({"text": "abc", "values": [[0, 1]]})", "value 0 is not"},
      {R"({"text": "abc", "values": [[0, 4, 1]]})", "value 0 is not"},
      {R"({"text": "abc", "values": [[1, 1, 1]]})", "value 0 is not"},
      {R"({"text": "abc", "values": [[0, 1, 1], [0, 1, -1]]})", "value 1 is not"},
      {R"({"text": "abc", "values": [[0, 1, 1.5]]})", "value 0 is not"},
      {R"({"text": "abc", "values": [[0, 1, 1e300]]})", "value 0 is not"},
      {many_links, "more than 1048576 pairs"},
      {std::string(100'000, '['), "nested deeper"},
      {std::string("\0", 1), "is not JSON"},
  };
  for (const auto &[given, says] : wrong) {
    const std::string line = given;
    const std::string file = write(folder, "wrong.jsonl", good + line + "\n" + good);
    PackedSource source(read_jsonl(words(), {.files = {file}}));
    const std::string error = error_of([&] { source.next(100, 1); });
    CAPTURE(line.substr(0, 80));
    CHECK_MESSAGE(error.find("wrong.jsonl:2: ") != std::string::npos, error);
    CHECK_MESSAGE(error.find(says) != std::string::npos, error);
    CHECK(error.size() < 400);
  }
}

TEST_CASE("files that cannot be read, or hold nothing, are named") {
  const test::TemporaryFolder folder;
  const auto text_error = [&](const std::string &file) {
    return error_of([&] { PackedSource(read_texts(words(), {.files = {file}})).next(8, 8); });
  };
  CHECK(text_error(folder.file("none")).find("none: No such file") != std::string::npos);
  CHECK(text_error(folder.path()).find("not a regular file") != std::string::npos);
  if (std::filesystem::exists("/dev/zero"))
    CHECK(text_error("/dev/zero").find("not a regular file") != std::string::npos);
  CHECK(text_error(write(folder, "empty", "")).find("empty holds no text") != std::string::npos);
  CHECK(text_error(write(folder, "latin", "gr\xfc\xdf")).find("latin: invalid UTF-8 at byte 2") != std::string::npos);
  CHECK(text_error(write(folder, "cut", "ab\xc3")).find("cut: ") != std::string::npos);
  CHECK(error_of([&] {
          PackedSource(read_jsonl(words(), {.files = {write(folder, "blank", "\n \n")}})).next(8, 8);
        }).find("holds no text") != std::string::npos);
  PackedSource good(read_texts(words(), {.files = {write(folder, "good", "Some text.")}}));
  CHECK(error_of([&] { good.next(0, 1); }).find("no sequence") != std::string::npos);
}

TEST_CASE("a text that got shorter since its position was saved is told") {
  const test::TemporaryFolder folder;
  const std::string file = write(folder, "a", novel().substr(0, 20'000));
  PackedSource source(read_texts(words(), {.files = {file}}));
  source.next(1024, 4);
  const std::string state = source.save();
  write(folder, "a", novel().substr(0, 1000));
  CHECK(error_of([&] { source.restore(state); }).find("has only 1000 now") != std::string::npos);
}

TEST_CASE("excerpts come from everywhere in all files") {
  const test::TemporaryFolder folder;
  const std::string a = write(folder, "a", novel().substr(0, 300'000)),
                    b = write(folder, "b", std::string(25'000, 'x') + std::string(75'000, 'y'));
  ExcerptSource source(words(), {.files = {a, b}, .weight = 0.5}, 3);
  int from_b = 0;
  for (int round = 0; round < 200; ++round) {
    const Sequence s = source.next(16, 4);
    REQUIRE(s.tokens.size() == 64);
    CHECK(s.document[0] == 0);
    CHECK(s.weight[0] == 0);
    const std::string text = words().decode(s.tokens);
    from_b += text.find("xxxx") != text.npos || text.find("yyyy") != text.npos;
    if (text.find("yyyy") == text.npos && text.find("xxxx") == text.npos) CHECK(novel().find(text) != text.npos);
  }
  CHECK(from_b > 25);
  CHECK(from_b < 80);
}

TEST_CASE("a mixture keeps its ratios") {
  const test::TemporaryFolder folder;
  const auto part = [&](double ratio, const char *text) {
    return MixedSource::Part{
        ratio, std::make_unique<PackedSource>(read_texts(words(), {.files = {write(folder, text, text)}}))};
  };
  std::vector<MixedSource::Part> parts;
  parts.push_back(part(6, "a"));
  parts.push_back(part(0, "b"));
  parts.push_back(part(2, "c"));
  MixedSource mixture(std::move(parts), 5);
  int a = 0, b = 0, c = 0;
  for (int round = 0; round < 1000; ++round) {
    const std::string text = words().decode(mixture.next(2, 1).tokens);
    a += text.find('a') != text.npos;
    b += text.find('b') != text.npos;
    c += text.find('c') != text.npos;
  }
  CHECK(a + c == 1000);
  CHECK(b == 0);
  CHECK(a > 700);
  CHECK(a < 800);
}

TEST_CASE("a description that is wrong is refused by the name of its field") {
  const test::TemporaryFolder folder;
  const std::string a = write(folder, "a", "Text.");
  std::string deep = R"({"type": "recall"})";
  for (int i = 0; i < 12; ++i) deep = R"({"type": "mixture", "sources": [{"source": )" + deep + "}]}";
  const std::pair<std::string, const char *> wrong[] = {
      {"", "the description of a source is not JSON"},
      {"3", "source is not a JSON object"},
      {"{}", "source has no type: recall, passkey, text, jsonl, mixture or random"},
      {R"({"type": "dance"})", "source.type is \"dance\""},
      {R"({"type": 3})", "source.type is 3, but must be a text"},
      {R"({"type": "recall", "keys": 3})", "which is none of: type, seed, names"},
      {R"({"type": "recall", "seed": -1})", "source.seed is -1"},
      {R"({"type": "recall", "seed": 1.5})", "source.seed is 1.5"},
      {R"({"type": "recall", "names": "pass"})", "source.names is \"pass\", but must be a list of texts"},
      {R"({"type": "recall", "names": [3]})", "source.names is [3]"},
      {R"({"type": "recall", "density": [3]})", "source.density is [3]"},
      {R"({"type": "recall", "density": [9, 3]})", "source.density is [9,3]"},
      {R"({"type": "recall", "lookups": "last"})", "source.lookups is \"last\""},
      {R"({"type": "recall", "other_share": 2})", "source.other_share is 2, but must be a number from 0 to 1"},
      {R"({"type": "recall", "virtual_length": 0})", "source.virtual_length is 0"},
      {R"({"type": "passkey", "keys": 0})", "source.keys is 0"},
      {R"({"type": "text"})", "source.files must be a list"},
      {R"({"type": "text", "files": []})", "source.files must be a list"},
      {R"({"type": "text", "files": ["x"], "order": "random"})",
       "source.order is \"random\", but must be stream or excerpts"},
      {R"({"type": "text", "files": ["x"], "field": "y"})", "field"},
      {R"({"type": "jsonl", "files": ["x"], "weight": -1})", "source.weight is -1"},
      {R"({"type": "mixture", "sources": []})", "source.sources must be a list"},
      {R"({"type": "mixture", "sources": [{"ratio": 1}]})", "source.sources[0].source is missing"},
      {R"({"type": "mixture", "sources": [{"ratio": -1, "source": {"type": "recall"}}]})",
       "source.sources[0].ratio is -1"},
      {R"({"type": "mixture", "sources": [{"ratio": 0, "source": {"type": "recall"}}]})", "whose ratio is not 0"},
      {R"({"type": "mixture", "sources": [{"source": {"type": "recall"}}, {"source": {"type": "x"}}]})",
       "source.sources[1].source.type is \"x\""},
      {deep, "nested deeper"},
  };
  for (const auto &[given, says] : wrong) {
    const std::string text = given;
    const std::string error = error_of([&] { make_source(text, words_model()); });
    CAPTURE(text.substr(0, 100));
    CHECK_MESSAGE(error.find(says) != std::string::npos, error);
  }
  CHECK(make_source(nlohmann::json{{"type", "text"}, {"files", {a}}}.dump(), words_model())->next(2, 2).tokens.size() ==
        4);
}

TEST_CASE("the recipe that ships makes sequences, from books that are not held out") {
  for (const std::string phase : {"names", "digits", "recall"}) {
    CAPTURE(phase);
    const nlohmann::json recipe =
        nlohmann::json::parse(test::read_text(INFINI_SOURCE_DIR "/samples/train/" + phase + ".json"));
    nlohmann::json source = recipe["data"];
    CHECK(source["prose"].size() == 4);
    for (nlohmann::json &path : source["prose"]) {
      CHECK(path.get<std::string>().find("lord_jim") == std::string::npos);
      CHECK(path.get<std::string>().find("pride_and_prejudice") == std::string::npos);
      path = INFINI_SOURCE_DIR "/samples/train/" + path.get<std::string>();
    }
    std::shared_ptr<Curriculum> curriculum;
    if (recipe.contains("curriculum"))
      curriculum =
          std::make_shared<Curriculum>(read_settings<Curriculum::Settings>(recipe["curriculum"], "curriculum"));
    CHECK((curriculum != nullptr) == (phase == "recall"));
    const auto made = make_source(source, words_model(), curriculum);
    const Sequence s = made->next(recipe["training"]["segment"], recipe["training"]["segments"]);
    CHECK(s.tokens.size() == (phase == "names" || phase == "digits" ? 512 : 1024));
    CHECK(std::any_of(s.answer.begin(), s.answer.end(), [](uint8_t mark) { return mark == 1; }));
    CHECK(!s.links.empty());
  }
}
