// Tasks that need a memory: what a sequence says is true, and is worth what it should be.
#include "adapt/recall_source.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>

#include "base/hash.h"
#include "temporary_folder.h"
#include "training.h"

using namespace infini;
using test::error_of, test::nearest_links, test::stories, test::words;

namespace {

RecallSource source(RecallTask settings = {}, std::shared_ptr<const Curriculum> curriculum = nullptr) {
  return RecallSource(words(), settings, std::move(curriculum));
}

RecallTask dense() {
  RecallTask settings;
  settings.difficulty.density_least = 12;
  settings.difficulty.density_greatest = 24;
  return settings;
}

void check_same(const Sequence &a, const Sequence &b) {
  CHECK(a.tokens == b.tokens);
  CHECK(a.weight == b.weight);
  CHECK(a.answer == b.answer);
  CHECK(nearest_links(a) == nearest_links(b));
  CHECK(a.links.size() == b.links.size());
  CHECK(a.local_target == b.local_target);
  CHECK(a.repeat_weight == b.repeat_weight);
  CHECK(a.document == b.document);
}

std::string text_of(const Sequence &sequence) { return words().decode(sequence.tokens); }

}  // namespace

TEST_CASE("the same seed and the same calls make the same sequences") {
  RecallTask settings = dense();
  settings.prose = {test::novel_path};
  settings.difficulty.log_repeat = 3;
  RecallSource a = source(settings), b = source(settings);
  for (const auto &[segment, segments] : {std::pair(32, 4), std::pair(64, 16), std::pair(32, 4)})
    check_same(a.next(segment, segments), b.next(segment, segments));
  settings.seed = 2;
  RecallSource other = source(settings);
  CHECK(other.next(64, 16).tokens != b.next(64, 16).tokens);
}

// Of all that a sequence says.
uint64_t checksum_of(RecallTask settings) {
  RecallSource tasks = source(std::move(settings));
  StreamChecksum sum;
  const auto add = [&](const auto &values) { sum.add(values.data(), values.size() * sizeof(values[0])); };
  for (const auto &[segment, segments] : {std::pair(32, 4), std::pair(64, 16), std::pair(20, 9), std::pair(128, 12)}) {
    const Sequence s = tasks.next(segment, segments);
    for (const auto &numbers : {s.tokens, s.local_target, s.document, test::offsets_of(s), test::labels_of(s)})
      add(numbers);
    add(s.weight);
    add(s.answer);
    add(s.links);
    add(s.repeat_weight);
  }
  return sum.value();
}

TEST_CASE("sequences are to the bit those that the shipped models were trained on") {
  RecallTask all = dense();
  all.prose = {test::novel_path};
  all.carry = 24;
  all.first = 2;
  all.numbers = 30;
  all.difficulty.log_repeat = 3;
  CHECK(checksum_of(all) == 5647223726602974565u);
  RecallTask first = all, value = all, far = all, passkey = all;
  first.lookups = RecallTask::Lookups::FIRST;
  CHECK(checksum_of(first) == 8949010524234681814u);
  value.lookups = RecallTask::Lookups::VALUE;
  CHECK(checksum_of(value) == 5396237101315124278u);
  far.far = 0.5;
  far.difficulty = {.distance = 100, .density_least = 0.7, .density_greatest = 2, .log_repeat = 0};
  CHECK(checksum_of(far) == 13273372758556483341u);
  passkey.kind = RecallTask::Kind::PASSKEY;
  passkey.keys = 2;
  passkey.questions = 1;
  passkey.depth_greatest = 0.5;
  CHECK(checksum_of(passkey) == 17915957789970805342u);
}

TEST_CASE("a saved position comes back") {
  RecallSource a = source(dense());
  a.next(64, 16);
  const std::string state = a.save();
  const Sequence expected = a.next(64, 16);
  RecallSource b = source(dense());
  b.restore(state);
  check_same(b.next(64, 16), expected);
}

TEST_CASE("a damaged state is refused and changes nothing") {
  RecallSource a = source(dense()), b = source(dense());
  for (const char *state : {"", "{", "[]", "{}", "{\"random\":3}", "{\"random\":[0,0,0,0]}", "{\"random\":[1,2,3]}",
                            "{\"random\":[1,2,3,-4]}", "{\"random\":[1,2,3,\"4\"]}", "\xff"}) {
    CAPTURE(state);
    CHECK(error_of([&] { a.restore(state); }).find("damaged") != std::string::npos);
  }
  check_same(a.next(32, 4), b.next(32, 4));
}

TEST_CASE("answers are true, marked by where they last stood, and weighed by it") {
  RecallTask settings = dense();
  settings.prose = {test::novel_path};
  settings.across = 5;
  settings.first = 2;
  RecallSource tasks = source(settings);
  size_t inside = 0, across = 0, others = 0, drawn = 0, questions = 0;
  for (int round = 0; round < 40; ++round) {
    const size_t segment = 32;
    const Sequence s = tasks.next(32, 16);
    REQUIRE(s.tokens.size() == 512);
    REQUIRE(s.weight.size() == 512);
    REQUIRE(s.answer.size() == 512);
    const std::vector<int32_t> source = nearest_links(s);
    CHECK(s.repeat_weight.empty());
    CHECK(s.document == std::vector<int32_t>{0});
    for (size_t t = 0; t < s.tokens.size(); ++t) {
      if (source[t] >= 0) {
        REQUIRE(source[t] < static_cast<int32_t>(t));
        CHECK(s.tokens[static_cast<size_t>(source[t])] == s.tokens[t]);
      }
      if (s.answer[t] == 0) {
        ++others;
        drawn += s.weight[t] != 0;
        CHECK((s.weight[t] == 0 || s.weight[t] == 0.15f));
        continue;
      }
      REQUIRE(source[t] >= 0);
      const bool other_segment = static_cast<size_t>(source[t]) / segment != (t - 1) / segment;
      CHECK(s.answer[t] == (other_segment ? 1 : 2));
      CHECK(s.weight[t] == (other_segment ? 5.0f : 1.0f) * (s.answer[t - 1] ? 1.0f : 2.0f));
      ++(other_segment ? across : inside);
    }
    // The text itself: whoever reads it from the start knows every answer.
    const std::string text = text_of(s);
    const std::regex fact("(What is the \\w+ key\\? )?The (\\w+) key is (\\d{5})\\.");
    std::map<std::string, std::string> stated;
    for (std::sregex_iterator match(text.begin(), text.end(), fact), end; match != end; ++match) {
      const std::string name = (*match)[2], value = (*match)[3];
      if ((*match)[1].matched) {
        ++questions;
        CHECK(stated.at(name) == value);
      } else {
        CHECK(stated.emplace(name, value).second);  // once
      }
    }
  }
  CHECK(questions > 200);
  CHECK(across > 1000);
  CHECK(inside > 200);
  CHECK(drawn > 0.08 * static_cast<double>(others));
  CHECK(drawn < 0.12 * static_cast<double>(others));
}

TEST_CASE("where first digits alone are looked up, no other has a source, and the text is the same") {
  RecallTask settings = dense();
  RecallSource every = source(settings);
  settings.lookups = RecallTask::Lookups::FIRST;
  RecallSource first = source(settings);
  size_t kept = 0;
  for (int round = 0; round < 10; ++round) {
    const Sequence a = every.next(32, 16), b = first.next(32, 16);
    CHECK(a.tokens == b.tokens);
    CHECK(a.answer == b.answer);
    CHECK(a.weight == b.weight);
    const std::vector<int32_t> all = nearest_links(a), some = nearest_links(b);
    for (size_t t = 0; t < a.tokens.size(); ++t) {
      const bool is_first = all[t] >= 0 && (t == 0 || all[t - 1] < 0);
      CHECK(some[t] == (is_first ? all[t] : -1));
      kept += is_first;
    }
  }
  CHECK(kept > 100);
}

TEST_CASE(
    "local attention at digits, and where the first one is predicted, is supervised to look at their name, where it "
    "last stood") {
  RecallSource tasks = source(dense());
  size_t supervised = 0;
  for (int round = 0; round < 10; ++round) {
    const Sequence s = tasks.next(32, 16);
    REQUIRE(s.local_target.size() == s.tokens.size());
    const auto text = [&](size_t t) { return words().decode(std::vector<int32_t>{s.tokens[t]}); };
    const auto digit = [&](size_t t) {
      return t < s.tokens.size() && text(t).size() == 1 && text(t)[0] >= '0' && text(t)[0] <= '9';
    };
    for (size_t t = 0; t + 1 < s.tokens.size(); ++t) {
      CHECK((s.local_target[t] >= 0) == (digit(t) || digit(t + 1)));
      if (s.local_target[t] < 0) continue;
      ++supervised;
      const auto name = static_cast<size_t>(s.local_target[t]);
      REQUIRE(name < t);
      CHECK(text(name + 1) == " key");
      for (size_t at = name + 2; at < t; ++at) CHECK(text(at) != " key");
    }
    // Digits have an offset each, and one number for one name.
    std::map<int32_t, int32_t> names;
    for (size_t t = 0; t < s.tokens.size(); ++t) {
      CHECK((s.tags[t].offset >= 0) == digit(t));
      CHECK((s.tags[t].label >= 0) == digit(t));
      if (!digit(t)) continue;
      CHECK(s.tags[t].offset == (t > 0 && digit(t - 1) && s.tags[t - 1].offset < 4 ? s.tags[t - 1].offset + 1 : 0));
      const int32_t name = s.tokens[static_cast<size_t>(s.local_target[t])];
      CHECK(names.try_emplace(s.tags[t].label, name).first->second == name);
    }
  }
  CHECK(supervised > 1000);
}

TEST_CASE("where values are looked up, every digit of a name leads to all before it, and the text is the same") {
  RecallTask settings = dense();
  RecallSource every = source(settings);
  settings.lookups = RecallTask::Lookups::VALUE;
  RecallSource value = source(settings);
  size_t chains = 0;
  for (int round = 0; round < 10; ++round) {
    const Sequence a = every.next(32, 16), b = value.next(32, 16);
    CHECK(a.tokens == b.tokens);
    CHECK(a.answer == b.answer);
    CHECK(a.weight == b.weight);
    // Digits with a local target, by the name that stands there.
    std::map<int32_t, std::vector<int32_t>> digits;
    for (size_t t = 0; t < b.tokens.size(); ++t) {
      const std::string text = words().decode(std::vector<int32_t>{b.tokens[t]});
      if (b.local_target[t] < 0 || text.size() != 1 || text[0] < '0' || text[0] > '9') continue;
      std::vector<int32_t> &before = digits[b.tokens[static_cast<size_t>(b.local_target[t])]];
      std::vector<int32_t> chain;
      for (const Link &link : b.links_of(static_cast<int32_t>(t))) chain.insert(chain.begin(), link.to);
      CHECK(chain == before);
      chains += chain.size() > 5;
      before.push_back(static_cast<int32_t>(t));
    }
  }
  CHECK(chains > 200);
}

// Between facts and their questions, in rising order, where near ones are up to 400 tokens away.
std::vector<double> distances(double far) {
  RecallTask settings;
  settings.difficulty = {.distance = 400, .density_least = 4, .density_greatest = 6, .log_repeat = 0};
  settings.far = far;
  RecallSource tasks = source(settings);
  std::vector<double> all;
  for (int round = 0; round < 60; ++round) {
    const Sequence s = tasks.next(64, 32);
    for (size_t t = 0; t < s.tokens.size(); ++t)
      if (s.answer[t] && (t == 0 || !s.answer[t - 1])) {
        all.push_back(static_cast<double>(static_cast<int32_t>(t) - s.links_of(static_cast<int32_t>(t)).back().to));
      }
  }
  std::sort(all.begin(), all.end());
  return all;
}

TEST_CASE("questions lie within the distance, and at all scales of it") {
  const std::vector<double> near = distances(0);
  REQUIRE(near.size() > 300);
  CHECK(near.front() > 12);
  CHECK(near.back() < 400 + 400);  // facts and questions that were in the way come first
  const double median = near[near.size() / 2];
  CHECK(median > 60);  // log-uniform from 12 to 400 has 69; the phrases' own length comes on top
  CHECK(median < 170);
}

TEST_CASE("far questions follow anywhere") {
  const std::vector<double> far = distances(1);
  REQUIRE(far.size() > 300);
  CHECK(far[far.size() / 2] > 400);
  CHECK(far.back() > 1500);
}

TEST_CASE("density is facts a thousand tokens") {
  for (const double density : {2.0, 20.0}) {
    RecallTask settings;
    settings.difficulty.density_least = settings.difficulty.density_greatest = density;
    RecallSource tasks = source(settings);
    size_t facts = 0;
    for (int round = 0; round < 50; ++round) {
      const std::string text = text_of(tasks.next(64, 16));
      const std::regex fact("key\\? The|The \\w+ key is");
      for (std::sregex_iterator match(text.begin(), text.end(), fact), end; match != end; ++match)
        facts += match->str().find('?') == std::string::npos;
    }
    const double expected = density * 1.024 * 50;
    CHECK(static_cast<double>(facts) > 0.8 * expected);
    CHECK(static_cast<double>(facts) < 1.1 * expected);
  }
}

TEST_CASE("filler is prose in the share of sequences that is asked for") {
  RecallTask settings;
  settings.prose = {test::novel_path};
  settings.prose_share = 0.25;
  RecallSource tasks = source(settings);
  int sentences = 0;
  for (int round = 0; round < 200; ++round)
    sentences += text_of(tasks.next(64, 4)).find("The grass is green. The sky is") != std::string::npos;
  CHECK(sentences > 130);
  CHECK(sentences < 170);
}

TEST_CASE("numbers stand among the filler, as many as asked for, and push no question out") {
  RecallTask settings;
  settings.kind = RecallTask::Kind::PASSKEY;
  settings.numbers = 20;
  RecallSource tasks = source(settings);
  const std::regex number(" (\\d{1,6}|\\d{1,3},\\d{3})(?![\\d,])"),
      question("What is the pass key\\? The pass key is (\\d{5})\\.$");
  std::map<size_t, int> sizes;
  int count = 0, commas = 0;
  for (int round = 0; round < 60; ++round) {
    const Sequence s = tasks.next(64, 16);
    const std::string text = text_of(s);
    std::smatch asked;
    REQUIRE(std::regex_search(text, asked, question));
    for (std::sregex_iterator match(text.begin(), text.end(), number), end; match != end; ++match)
      if ((*match)[1] != asked[1])
        ++count, ++sizes[static_cast<size_t>((*match)[1].length())],
            commas += (*match)[1].str().find(',') != std::string::npos;
    CHECK(std::ranges::count_if(s.tags, [](const Tag &tag) { return tag.offset >= 0; }) % 5 == 0);  // a number has none
  }
  const double expected = 20.0 / 1000 * (1024 - 45) / (1 + 20.0 / 1000 * 5) * 60;  // a number takes five tokens
  CHECK(count > 0.85 * expected);
  CHECK(count < 1.15 * expected);
  CHECK(sizes[1] > count / 12);
  CHECK(sizes[3] > count / 12);
  CHECK(commas > count / 6);
  CHECK(commas < count / 3);
}

TEST_CASE("virtual length: only segments without facts and questions count more than once") {
  RecallTask settings;
  settings.difficulty = {.distance = 0, .density_least = 1, .density_greatest = 1, .log_repeat = std::log(100)};
  RecallSource tasks = source(settings);
  double sum = 0;
  int long_ones = 0;
  for (int round = 0; round < 50; ++round) {
    const Sequence s = tasks.next(64, 16);
    REQUIRE(s.repeat_weight.size() == 16);
    for (size_t segment = 0; segment < 16; ++segment) {
      const auto from = s.tokens.begin() + static_cast<std::ptrdiff_t>(64 * segment);
      const std::string text = words().decode(std::vector<int32_t>(from, from + 64));
      const bool says = text.find(" key") != std::string::npos || text.find_first_of("0123456789") != std::string::npos;
      if (says) CHECK(s.repeat_weight[segment] == 1.0f);
      CHECK(s.repeat_weight[segment] >= 1.0f);
      CHECK(s.repeat_weight[segment] <= 100.1f);
      if (s.repeat_weight[segment] > 1) sum += std::log(s.repeat_weight[segment]), ++long_ones;
    }
  }
  REQUIRE(long_ones > 100);
  CHECK(std::abs(sum / long_ones - std::log(100) / 2) < 0.3);  // uniform in the logarithm
}

TEST_CASE("pass key: facts anywhere, one question at the very end") {
  RecallTask settings;
  settings.kind = RecallTask::Kind::PASSKEY;
  for (const int64_t keys : {1, 5}) {
    settings.keys = keys;
    RecallSource tasks = source(settings);
    int early = 0, late = 0;
    for (int round = 0; round < 60; ++round) {
      const Sequence s = tasks.next(64, 16);
      const std::string text = text_of(s);
      std::smatch question;
      REQUIRE(std::regex_search(text, question, std::regex("What is the (\\w+) key\\? The \\1 key is (\\d{5})\\.$")));
      if (keys == 1) CHECK(question[1] == "pass");
      const size_t fact_at = text.find("The " + question[1].str() + " key is " + question[2].str());
      REQUIRE(fact_at < static_cast<size_t>(question.position()));
      early += fact_at < text.size() / 3;
      late += fact_at > text.size() * 2 / 3;
      CHECK(std::count_if(s.answer.begin(), s.answer.end(), [](uint8_t mark) { return mark != 0; }) == 5);
      const std::regex fact("The \\w+ key is \\d{5}");
      CHECK(std::distance(std::sregex_iterator(text.begin(), text.end(), fact), {}) == keys + 1);
    }
    CHECK(early > 8);
    CHECK(late > 8);
  }
}

TEST_CASE("pass key: facts within a stretch, and as many questions as are asked for") {
  RecallTask settings;
  settings.kind = RecallTask::Kind::PASSKEY;
  settings.keys = 6;
  settings.questions = 4;
  settings.depth_least = settings.depth_greatest = 0;
  RecallSource tasks = source(settings);
  const Sequence s = tasks.next(64, 16);
  const std::vector<int32_t> source_of = nearest_links(s);
  CHECK(std::count(s.answer.begin(), s.answer.end(), 1) == 4 * 5);
  for (size_t t = 0; t < s.tokens.size(); ++t) {
    if (s.answer[t] == 0) continue;
    CHECK(t > 64 * 14);
    CHECK(source_of[t] < 6 * 32);
  }
  settings.questions = 7;
  CHECK(error_of([&] { source(settings); }).find("7 questions") != std::string::npos);
}

TEST_CASE("what is carried is in view, and questions keep their least distance") {
  RecallTask settings = dense();
  settings.carry = 96;
  settings.nearest = 40;
  RecallSource tasks = source(settings);
  int64_t seen = 0, carried = 0;
  for (int i = 0; i < 20; ++i) {
    const Sequence s = tasks.next(32, 16);
    const std::vector<int32_t> source_of = nearest_links(s);
    for (size_t t = 0; t < s.tokens.size(); ++t) {
      if (s.answer[t] == 0) continue;
      const auto begin = static_cast<int64_t>((t - 1) / 32 * 32);
      CHECK((s.answer[t] == 2) == (source_of[t] >= begin - 96));
      ++seen;
      carried += s.answer[t] == 2 && source_of[t] < begin;
    }
  }
  CHECK(seen > 100);
  CHECK(carried > 10);
  // The first question about a name follows its fact by that much; with 12 there are nearer ones.
  const auto nearest = [](RecallTask with) {
    RecallSource some = source(with);
    int64_t least = 1 << 20;
    for (int i = 0; i < 20; ++i) {
      const Sequence s = some.next(64, 16);
      const std::vector<int32_t> source_of = nearest_links(s);
      for (size_t t = 0; t < s.tokens.size(); ++t)
        if (s.answer[t] != 0 && s.answer[static_cast<size_t>(source_of[t])] == 0)
          least = std::min(least, static_cast<int64_t>(t) - source_of[t]);
    }
    return least;
  };
  RecallTask far = settings;
  far.nearest = 300;
  far.difficulty.density_least = far.difficulty.density_greatest = 1;
  RecallTask near = far;
  near.nearest = 12;
  CHECK(nearest(far) >= 300);
  CHECK(nearest(near) < 200);
}

TEST_CASE("what a tokenizer or a caller cannot give is refused by name") {
  RecallTask settings;
  settings.names = {"river", "perpendicular"};
  CHECK(error_of([&] { source(settings); }).find("'perpendicular' is not one token") != std::string::npos);
  settings.names = {"river", "river"};
  CHECK(error_of([&] { source(settings); }).find("'river' is given twice") != std::string::npos);
  settings = {};
  settings.kind = RecallTask::Kind::PASSKEY;
  settings.keys = 1000;
  CHECK(error_of([&] { source(settings); }).find("1000 keys") != std::string::npos);
  settings.keys = 5;
  RecallSource tasks = source(settings);
  CHECK(error_of([&] { tasks.next(8, 2); }).find("too short") != std::string::npos);
  CHECK(error_of([&] { tasks.next(0, 2); }).find("no sequence") != std::string::npos);
  CHECK(error_of([&] { tasks.next(1 << 20, 1 << 20); }).find("no sequence") != std::string::npos);

  // A tokenizer that joins digits.
  Gguf joined = Gguf::open(test::words_path);
  GgufArray tokens = std::get<GgufArray>(*joined.find("tokenizer.ggml.tokens")),
            merges = std::get<GgufArray>(*joined.find("tokenizer.ggml.merges"));
  tokens.strings.back() = "00";
  merges.strings.back() = "0 0";
  joined.set("tokenizer.ggml.tokens", tokens);
  joined.set("tokenizer.ggml.merges", merges);
  joined.set("tokenizer.ggml.pre", std::string("gpt-2"));
  const Tokenizer joining(joined);
  CHECK(error_of([&] { RecallSource(joining, {}, nullptr); }).find("token of its own") != std::string::npos);

  CHECK(RecallSource(stories(), {}, nullptr).names() < source().names());

  const test::TemporaryFolder folder;
  settings = {};
  settings.prose = {folder.file("none.txt")};
  CHECK(error_of([&] { source(settings); }).find("none.txt") != std::string::npos);
  std::ofstream(folder.file("bad.txt")) << "good \xff bad";
  settings.prose = {folder.file("bad.txt")};
  CHECK(error_of([&] { source(settings); }).find("bad.txt: invalid UTF-8 at byte 5") != std::string::npos);
  std::ofstream(folder.file("empty.txt"));
  settings.prose = {folder.file("empty.txt")};
  CHECK(error_of([&] { source(settings); }).find("no text") != std::string::npos);
}

TEST_CASE("a curriculum goes on by recall: distance, segments, virtual length") {
  Curriculum curriculum(Curriculum::Settings{});
  CHECK(curriculum.segment() == 32);
  CHECK(curriculum.segments() == 4);
  CHECK(curriculum.difficulty().distance == 48);
  CHECK(curriculum.difficulty().density_greatest == 24);
  for (int step = 0; step < 5000; ++step) curriculum.observe(0.79);
  CHECK(curriculum.difficulty().distance == 48);  // below the threshold nothing moves
  CHECK(curriculum.stage() == 0);

  double distance = 48, log_repeat = 0;
  size_t stage = 0;
  int steps = 0;
  for (; !curriculum.complete(); ++steps) {
    REQUIRE(steps < 5000);
    const Difficulty before = curriculum.difficulty();
    curriculum.observe(0.95);
    const Difficulty now = curriculum.difficulty();
    const double whole = curriculum.segment() * curriculum.segments();
    if (curriculum.stage() != stage) {
      CHECK(before.distance == distance);
      CHECK(now.log_repeat == 0);
      stage = curriculum.stage();
    } else if (now.distance != before.distance) {
      CHECK(now.distance == doctest::Approx(std::min(before.distance * 1.35, whole)));
      CHECK(now.log_repeat == 0);
    } else if (now.log_repeat != before.log_repeat) {
      CHECK(stage == 2);
      CHECK(now.distance == whole);
      CHECK(now.log_repeat == doctest::Approx(std::min(before.log_repeat + 0.5, std::log(3000.0))));
    }
    distance = now.distance;
    log_repeat = now.log_repeat;
  }
  CHECK(log_repeat == doctest::Approx(std::log(3000.0)));
  CHECK(curriculum.segments() == 16);
  CHECK(curriculum.difficulty().density_least == 0.7);
  CHECK(steps > 100);  // each step waits for its proof
}

TEST_CASE("a curriculum is saved and restored, and refuses what it did not save") {
  Curriculum a(Curriculum::Settings{});
  for (int step = 0; step < 137; ++step) a.observe(0.9);
  Curriculum b(Curriculum::Settings{});
  b.restore(a.save());
  for (int step = 0; step < 300; ++step) {
    a.observe(0.9);
    b.observe(0.9);
    REQUIRE(a.save() == b.save());
  }
  const std::string before = b.save();
  for (const char *state : {"", "{}", "{\"stage\":3,\"distance\":48,\"fold\":0,\"recall\":0,\"observed\":1}",
                            "{\"stage\":0,\"distance\":48,\"fold\":99,\"recall\":0,\"observed\":1}",
                            "{\"stage\":0,\"distance\":48,\"fold\":0,\"recall\":0,\"observed\":1,\"more\":1}"}) {
    CAPTURE(state);
    CHECK(error_of([&] { b.restore(state); }) != "");
    CHECK(b.save() == before);
  }
  CHECK(error_of([&] { b.observe(std::nan("")); }) != "");
  CHECK(error_of([&] { b.observe(1.5); }) != "");
}

TEST_CASE("a curriculum is described in JSON") {
  const auto parse = [](const char *text) {
    return Curriculum(parse_settings<Curriculum::Settings>(text, "curriculum"));
  };
  const Curriculum given = parse(R"({"distance": 20, "stages": [{"segment": 16, "segments": 8, "density": [3, 4]}]})");
  CHECK(given.segment() == 16);
  CHECK(given.segments() == 8);
  CHECK(given.difficulty().distance == 20);
  CHECK(given.difficulty().density_least == 3);
  CHECK(!given.whole_answers());
  CHECK(parse(R"({"recall": "answers"})").whole_answers());
  CHECK(parse("{}").save() == Curriculum(Curriculum::Settings{}).save());
  const std::pair<const char *, const char *> wrong[] = {
      {"[]", "curriculum is not a JSON object"},
      {R"({"treshold": 0.5})", "'\"treshold\"', which is none of: threshold"},
      {R"({"recall": "names"})", "curriculum.recall"},
      {R"({"threshold": 2})", "curriculum.threshold is 2, but must be a number from 0 to 1"},
      {R"({"stages": []})", "curriculum.stages is []"},
      {R"({"stages": [{"segment": 0}]})", "curriculum.stages[0].segment is 0"},
      {R"({"stages": [{}, {"density": [4, 3]}]})", "curriculum.stages[1].density is [4,3]"},
      {R"({"stages": [{"density": [4, "x"]}]})", "curriculum.stages[0].density"},
  };
  for (const auto &[description, says] : wrong) {
    const auto &text = description;
    CAPTURE(text);
    CHECK_MESSAGE(error_of([&] { parse(text); }).find(says) != std::string::npos, error_of([&] { parse(text); }));
  }
}

TEST_CASE("tasks are as hard as the curriculum says") {
  const auto curriculum = std::make_shared<Curriculum>(Curriculum::Settings{
      .stages = {{32, 4, 24, 24}, {32, 8, 24, 24}}, .distance = 1000, .virtual_length = 10, .virtual_length_step = 5});
  RecallSource tasks = source({}, curriculum);
  CHECK(tasks.next(curriculum->segment(), curriculum->segments()).repeat_weight.empty());
  while (!curriculum->complete()) curriculum->observe(1);
  const Sequence s = tasks.next(curriculum->segment(), curriculum->segments());
  CHECK(s.tokens.size() == 256);
  CHECK(s.repeat_weight.size() == 8);
}
