#include "passkey_task.h"

#include <algorithm>
#include <bit>
#include <random>

#include "../../lib/adapt/passkey_words.h"
#include "common.h"
#include "input.h"

namespace cli {

// Mersenne's numbers are the same everywhere; the standard's distributions are not.
class PasskeyRandom {
 public:
  explicit PasskeyRandom(const std::vector<uint64_t> &seeds) {
    std::vector<uint32_t> words;
    for (const uint64_t seed : seeds)
      words.insert(words.end(), {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
    std::seed_seq sequence(words.begin(), words.end());
    random_.seed(sequence);
  }
  // One of 0, ..., count - 1.
  int64_t below(int64_t count) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(count)); }

 private:
  std::mt19937_64 random_;
};

namespace {

constexpr size_t kDigits = 5;
constexpr const char *kInstruction =
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you "
    "about the important information there.";

// Tokens of a file, as many as can be used.
Tokens read_filler(const infini_model *model, const std::string &path, int64_t longest) {
  Tokens tokens;
  UnknownText unknown;
  Input(path).read(false, false, [&](std::string_view piece) {
    const Tokens more = tokens_of(model, piece, false, unknown);
    tokens.insert(tokens.end(), more.begin(), more.end());
    return static_cast<int64_t>(tokens.size()) < longest;
  });
  tell_of_unknown_text(unknown.bytes);
  if (tokens.empty()) throw std::runtime_error(path + " is empty: it cannot be filler");
  return tokens;
}

}  // namespace

// --- prompts

void Prompt::add(std::shared_ptr<const Tokens> text, int64_t first, int64_t count) {
  if (count <= 0) return;
  stretches_.push_back({std::move(text), first, count});
  size_ += count;
}

void Prompt::add(Tokens text) {
  const auto count = static_cast<int64_t>(text.size());
  add(std::make_shared<const Tokens>(std::move(text)), 0, count);
}

Tokens Prompt::slice(int64_t begin, int64_t count) const {
  Tokens out;
  out.reserve(static_cast<size_t>(count));
  for (const Stretch &stretch : stretches_) {
    const int64_t end = std::min(begin + count, stretch.count);
    for (int64_t at = begin; at < end; ++at)
      out.push_back((*stretch.text)[static_cast<size_t>(stretch.first + at) % stretch.text->size()]);
    const int64_t taken = std::max<int64_t>(0, end - begin);
    begin = std::max<int64_t>(0, begin - stretch.count);
    count -= taken;
    if (count == 0) break;
  }
  return out;
}

// --- the task

PasskeyTask::PasskeyTask(const infini_model *model, const Settings &settings, int64_t longest)
    : model_(model), settings_(settings) {
  segment_ = model_info(model)["segment"];
  beginning_ = tokens_of(model, settings.instruction ? kInstruction : "", true);
  filler_ =
      std::make_shared<const Tokens>(settings.filler.empty() ? tokens(infini::kPasskeySentences)
                                                             : read_filler(model, settings.filler, longest + segment_));
  // Names of several tokens are used only where there are not enough others.
  for (const char *name : infini::kPasskeyNames)
    if (tokens(std::string(" ") + name).size() == 1) names_.push_back(name);
  const auto wanted = static_cast<size_t>(settings.names);
  if (names_.size() < wanted) names_.assign(std::begin(infini::kPasskeyNames), std::end(infini::kPasskeyNames));
  if (names_.size() < wanted)
    throw std::runtime_error(format("--names: there are %zu names, not %zu", names_.size(), wanted));
}

Tokens PasskeyTask::tokens(const std::string &text) const { return tokens_of(model_, text, 0); }

Tokens PasskeyTask::fact(const std::string &name, const std::string &key) const {
  return tokens(infini::passkey_fact(name) + key + infini::passkey_reminder(name, key));
}

PasskeyTask::Question PasskeyTask::question(const std::string &name, const std::string &key) const {
  const std::string text = infini::passkey_question(name) + infini::passkey_fact(name);
  const Tokens whole = tokens(text + key);
  // Whether the space before the key is a token of its own is the tokenizer's affair. So what is given is what any
  // key would begin with; the key's first digit is never in it.
  size_t common = whole.size();
  for (char digit = '0'; digit <= '9'; ++digit) {
    const Tokens other = tokens(text + std::string(kDigits, digit));
    const auto [end, unused] = std::mismatch(whole.begin(), whole.end(), other.begin(), other.end());
    common = std::min(common, static_cast<size_t>(end - whole.begin()));
  }
  return {{whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(common)}, whole.size() - common};
}

// The first one is asked for.
std::vector<std::string> PasskeyTask::choose_names(PasskeyRandom &random) const {
  if (settings_.names == 1) return {infini::kPasskeyNames[0]};
  std::vector<std::string> names = names_;
  for (size_t i = 0; i < names.size(); ++i)
    std::swap(names[i], names[i + static_cast<size_t>(random.below(static_cast<int64_t>(names.size() - i)))]);
  names.resize(static_cast<size_t>(settings_.names));
  return names;
}

PasskeyTrial PasskeyTask::trial(int64_t length, double depth, int64_t number) const {
  PasskeyRandom random(
      {settings_.seed, static_cast<uint64_t>(length), std::bit_cast<uint64_t>(depth), static_cast<uint64_t>(number)});
  PasskeyTrial trial;
  struct Fact {
    int64_t at;  // filler before it
    Tokens tokens;
  };
  std::vector<Fact> facts;
  Question asked;
  auto words = static_cast<int64_t>(beginning_.size());
  for (const std::string &name : choose_names(random)) {
    std::string key;
    for (size_t i = 0; i < kDigits; ++i) key += static_cast<char>('0' + random.below(10));
    facts.push_back({0, fact(name, key)});
    words += static_cast<int64_t>(facts.back().tokens.size());
    if (facts.size() > 1) continue;
    trial.key = key;
    asked = question(name, key);
    words += static_cast<int64_t>(asked.prompt.size());
  }
  if (words >= length)
    throw std::runtime_error(format("--length %lld is too short: keys and question alone are %lld tokens",
                                    static_cast<long long>(length), static_cast<long long>(words)));
  const int64_t filler = length + random.below(segment_) - words;
  const int64_t asked_at = static_cast<int64_t>(depth * static_cast<double>(filler)) + random.below(segment_);
  facts[0].at = std::min(asked_at, filler);
  for (size_t i = 1; i < facts.size(); ++i) facts[i].at = random.below(filler + 1);
  std::stable_sort(facts.begin(), facts.end(), [](const Fact &a, const Fact &b) { return a.at < b.at; });

  // Prose begins at any place, the same in all trials unless each shall have its own.
  PasskeyRandom place({settings_.seed});
  trial.filler_first = (settings_.own_filler ? random : place).below(static_cast<int64_t>(filler_->size()));
  trial.prefix = static_cast<int64_t>(beginning_.size()) + facts[0].at;
  trial.prompt.add(beginning_);
  int64_t at = 0;
  for (Fact &fact : facts) {
    trial.prompt.add(filler_, trial.filler_first + at, fact.at - at);
    at = fact.at;
    trial.prompt.add(std::move(fact.tokens));
  }
  trial.prompt.add(filler_, trial.filler_first + at, filler - at);
  trial.prompt.add(asked.prompt);
  trial.answer_tokens = asked.answer_tokens;
  return trial;
}

}  // namespace cli
