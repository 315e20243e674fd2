#include "adapt/recall_source.h"

#include <algorithm>
#include <cmath>

#include "adapt/passkey_words.h"
#include "text/utf8.h"
#include "train/document.h"
#include "train/source_helpers.h"
#include "train/text_file.h"

namespace infini {
namespace {

const char *const kZeros = "00000";

std::vector<int32_t> encode(const Tokenizer &tokenizer, std::string_view text) {
  return tokenizer.encode(text, {.special = false, .start = false});
}

int32_t single_token(const Tokenizer &tokenizer, const std::string &text) {
  const std::vector<int32_t> ids = encode(tokenizer, text);
  return ids.size() == 1 ? ids[0] : -1;
}

}  // namespace

Phrase::Phrase(const Tokenizer &tokenizer, const std::string &text, int32_t zero) : parts_(1) {
  const std::vector<int32_t> ids = encode(tokenizer, text);
  size_ = ids.size();
  for (size_t i = 0; i < ids.size(); ++i) {
    size_t zeros = 0;
    while (zeros < size_t{kValueDigits} && i + zeros < ids.size() && ids[i + zeros] == zero) ++zeros;
    if (zeros < size_t{kValueDigits}) {
      parts_.back().push_back(ids[i]);
    } else {
      parts_.emplace_back();
      i += zeros - 1;
    }
  }
  size_t gaps = 0;
  for (size_t at = text.find(kZeros); at != text.npos; at = text.find(kZeros, at + kValueDigits)) ++gaps;
  if (parts_.size() != gaps + 1)
    fail(Status::INVALID_ARGUMENT, "the tokenizer does not make each digit of '", text,
         "' a token of its own, which the tasks need");
}

// --- writing a sequence

// Writes a document of filler, facts and questions, and makes the sequence of it.
class RecallSource::Writer {
 public:
  Writer(RecallSource &source, int segment, int segments)
      : source_(source), segment_(static_cast<size_t>(segment)), total_(segment_ * static_cast<size_t>(segments)),
        stood_(source.names_.size()), value_(source.names_.size()), marked_(static_cast<size_t>(segments)) {
    for (Value &value : value_)
      for (int32_t &digit : value) digit = source.digits_[draw_below(source.random_, 10)];
    const bool prose = !source.prose_->empty() && source.random_.uniform() < source.settings_.prose_share;
    filler_ = prose ? source.prose_.get() : &source.sentences_;
    filler_at_ = prose ? draw_below(source.random_, filler_->size()) : 0;
    document_.supervised = true;
  }

  void fill(size_t until) {
    until = std::min(until, total_);
    while (tokens_.size() < until) {
      tokens_.push_back((*filler_)[filler_at_]);
      if (++filler_at_ == filler_->size()) filler_at_ = 0;
      if (source_.settings_.numbers > 0 && 1000 * source_.random_.uniform() < source_.settings_.numbers)
        put_number(until - tokens_.size());
    }
  }

  // What does not fit into the sequence is cut off at its end.
  void put_phrase(const Phrase &phrase, size_t name, bool answers) {
    const size_t begin = tokens_.size();
    int32_t name_at = -1;  // where the name last stood in the phrase
    for (size_t part = 0; part < phrase.parts().size(); ++part) {
      if (part > 0) put_value(name, name_at, answers);
      for (const int32_t token : phrase.parts()[part]) {
        if (token == source_.names_[name].token) name_at = static_cast<int32_t>(tokens_.size());
        tokens_.push_back(token);
      }
    }
    for (size_t at = begin; at < std::min(tokens_.size(), total_); ++at) marked_[at / segment_] = true;
  }

  Sequence finish(double log_repeat) {
    fill(total_);
    document_.weight.resize(tokens_.size());
    const RecallTask &settings = source_.settings_;
    Sequence out;
    append(document_, 0, total_, static_cast<int64_t>(segment_), settings.carry, out);
    for (size_t t = 0; t < total_; ++t) {
      const bool drawn = source_.random_.uniform() < settings.other_share;
      const double digit = (out.answer[t] == kAnswerAcross ? settings.across : settings.inside) *
                           (t == 0 || !out.answer[t - 1] ? settings.first : 1);
      out.weight[t] = static_cast<float>(out.answer[t] ? digit : drawn ? settings.other : 0);
    }
    if (log_repeat > 0)
      for (const bool marked : marked_)
        out.repeat_weight.push_back(
            marked ? 1.0f : static_cast<float>(std::exp(draw_uniform(source_.random_, 0, log_repeat))));
    return out;
  }

 private:
  // One of 1 to 6 digits, long ones sometimes as 71,432; none where there is no room for it.
  void put_number(size_t room) {
    std::string text = " ";
    const uint64_t digits = 1 + draw_below(source_.random_, 6),
                   comma = digits > 3 && draw_below(source_.random_, 2) ? digits - 3 : 0;
    for (uint64_t digit = 0; digit < digits; ++digit) {
      if (digit > 0 && digit == comma) text += ',';
      text += static_cast<char>('0' + draw_below(source_.random_, 10));
    }
    const std::vector<int32_t> ids = encode(source_.tokenizer_, text);
    if (ids.size() <= room) tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  }

  void put_value(size_t name, int32_t name_at, bool answers) {
    using Kind = DocumentLink::Kind;
    const auto link = [&](Kind kind, int32_t from, int32_t to) { document_.links.push_back({kind, from, to}); };
    const auto begin = static_cast<int32_t>(tokens_.size());
    link(Kind::LOCAL, begin - 1, name_at);  // where the first digit is predicted
    for (int32_t digit = 0; digit < kValueDigits; ++digit) {
      link_back(begin, digit, stood_[name]);
      if (answers) link(Kind::ANSWER, begin + digit, stood_[name].back() + digit);
      link(Kind::LOCAL, begin + digit, name_at);
      tokens_.push_back(value_[name][digit]);
    }
    document_.add_value(begin, kValueDigits, static_cast<int32_t>(name));
    stood_[name].push_back(begin);
  }

  // Links of a digit's retrieval, the nearest target first, as settings.lookups says; the value stood at `before`.
  void link_back(int32_t begin, int32_t digit, const std::vector<int32_t> &before) {
    const RecallTask::Lookups lookups = source_.settings_.lookups;
    const auto link = [&](int32_t to) {
      document_.links.push_back({DocumentLink::Kind::RETRIEVAL, begin + digit, to});
    };
    const auto link_first = [&](int32_t value, int32_t digits) {  // to so many digits of a value
      while (digits > 0) link(value + --digits);
    };
    if (lookups == RecallTask::Lookups::FIRST && digit > 0) return;
    if (lookups == RecallTask::Lookups::VALUE) link_first(begin, digit);
    for (auto value = before.rbegin(); value != before.rend(); ++value)
      if (lookups == RecallTask::Lookups::VALUE) link_first(*value, kValueDigits);
      else link(*value + digit);
  }

  RecallSource &source_;
  size_t segment_, total_;
  std::vector<std::vector<int32_t>> stood_;  // where the value of each name has begun so far
  std::vector<Value> value_;
  std::vector<bool> marked_;  // segments that hold a part of a fact or a question
  const std::vector<int32_t> *filler_;
  size_t filler_at_;
  Document document_;
  std::vector<int32_t> &tokens_ = document_.tokens;
};

// --- the source

TokenCache::Tokens TokenCache::of(const Tokenizer &tokenizer, const std::vector<std::string> &files, Task *task) {
  Tokens &there = read_[files];
  if (there) return there;
  const auto tokens = std::make_shared<std::vector<int32_t>>();
  for (const std::string &path : files) {
    TextFile file(path);
    while (file.next(tokenizer, {.start = false, .unknown = UnknownText::SKIP}, *tokens))
      check_cancel(task, "reading the prose was cancelled");
  }
  if (!files.empty() && tokens->empty()) fail(Status::INVALID_ARGUMENT, "the prose files hold no text");
  return there = tokens;
}

RecallSource::RecallSource(const Tokenizer &tokenizer, const RecallTask &settings,
                           std::shared_ptr<const Curriculum> curriculum, TokenCache *cache, Task *task)
    : tokenizer_(tokenizer), settings_(settings), curriculum_(std::move(curriculum)), random_(settings.seed) {
  for (size_t digit = 0; digit < digits_.size(); ++digit)
    if ((digits_[digit] = single_token(tokenizer, std::to_string(digit))) < 0)
      fail(Status::INVALID_ARGUMENT, "the tokenizer makes more than one token of the digit ", digit,
           ", which the tasks cannot use");
  std::vector<std::string> names = settings.names;
  if (names.empty()) names.assign(std::begin(kPasskeyNames), std::end(kPasskeyNames));
  for (const std::string &name : names) {
    if (single_token(tokenizer, " " + name) < 0) {
      if (settings.names.empty()) continue;
      fail(Status::INVALID_ARGUMENT, "the name '", printable(name), "' is not one token of the model's vocabulary");
    }
    if (std::any_of(names_.begin(), names_.end(),
                    [&](const Name &other) { return other.token == single_token(tokenizer, " " + name); }))
      fail(Status::INVALID_ARGUMENT, "the name '", printable(name), "' is given twice");
    const std::string fact = passkey_fact(name) + kZeros;
    has_passkey_name_ |= names_.empty() && name == kPasskeyNames[0];
    names_.push_back({single_token(tokenizer, " " + name), Phrase(tokenizer, fact + ".", digits_[0]),
                      Phrase(tokenizer, fact + passkey_reminder(name, kZeros), digits_[0]),
                      Phrase(tokenizer, passkey_question(name) + fact + ".", digits_[0])});
  }
  if (names_.empty())
    fail(Status::INVALID_ARGUMENT, "no common word is one token of the model's vocabulary; give names that are");
  if (settings.keys < 1 || static_cast<size_t>(settings.keys) > names_.size())
    fail(Status::INVALID_ARGUMENT, settings.keys, " keys need as many names, but there are ", names_.size());
  if (settings.questions < 1 || settings.questions > settings.keys)
    fail(Status::INVALID_ARGUMENT, settings.questions, " questions cannot be asked about ", settings.keys, " keys");
  sentences_ = encode(tokenizer, kPasskeySentences);
  TokenCache own;
  prose_ = (cache ? *cache : own).of(tokenizer, settings.prose, task);
}

std::vector<RecallSource::Event> RecallSource::plan_recall(double tokens, const Difficulty &difficulty,
                                                           std::vector<size_t> &names) {
  constexpr double kRoom = kRoomTokens;
  const double nearest = settings_.nearest;
  const double density = draw_log_uniform(random_, difficulty.density_least, difficulty.density_greatest);
  const double expected = density * tokens / 1000 + random_.uniform();
  const auto count = static_cast<size_t>(std::clamp(expected, 1.0, static_cast<double>(names.size())));
  draw_to_front(random_, names, count);
  // With few names, the paper's more often than by chance, and more questions.
  if (count <= 2 && has_passkey_name_ && random_.uniform() < 0.7)
    std::iter_swap(names.begin(), std::find(names.begin(), names.end(), size_t{0}));
  const bool few = count <= 2;
  const double farthest = std::max(nearest, difficulty.distance > 0 ? std::min(difficulty.distance, tokens) : tokens);
  std::vector<Event> events;
  for (size_t i = 0; i < count; ++i) {
    const double at = std::floor(random_.uniform() * tokens * 0.85);
    events.push_back({at, false, names[i]});
    for (size_t question = 0; question < (few ? 8 / count : 3); ++question) {
      const double far = few ? 0.5 : settings_.far;
      const bool near = far == 0 || random_.uniform() < 1 - far;
      const double distance = near ? draw_log_uniform(random_, nearest, farthest)
                                   : draw_uniform(random_, nearest, std::max(nearest, tokens - at));
      if (at + kRoom + distance < tokens - kRoom) events.push_back({std::floor(at + kRoom + distance), true, names[i]});
    }
  }
  return events;
}

std::vector<RecallSource::Event> RecallSource::plan_passkey(double tokens, std::vector<size_t> &names) {
  if (settings_.keys > 1 || !has_passkey_name_) draw_to_front(random_, names, static_cast<size_t>(settings_.keys));
  const auto size_of = [&](const Phrase Name::*phrase, int64_t count) {
    double total = 0;
    for (int64_t i = 0; i < count; ++i) total += static_cast<double>((names_[names[i]].*phrase).size());
    return total;
  };
  const double end = tokens - size_of(&Name::question, settings_.questions);
  // Facts that are pushed back by others must not push the questions.
  const double room = end - size_of(&Name::reminder, settings_.keys);
  if (room < 0)
    fail(Status::INVALID_ARGUMENT, "a sequence of ", tokens, " tokens is too short for ", settings_.keys, " keys and ",
         settings_.questions, " questions");
  std::vector<Event> events;
  for (int64_t i = 0; i < settings_.keys; ++i)
    events.push_back({std::floor(draw_uniform(random_, settings_.depth_least, settings_.depth_greatest) * (room + 1)),
                      false, names[i]});
  for (int64_t i = 0; i < settings_.questions; ++i) events.push_back({end, true, names[i]});
  return events;
}

Sequence RecallSource::next(int segment, int segments) {
  const double tokens = sequence_size(segment, segments);
  const Difficulty difficulty = curriculum_ ? curriculum_->difficulty() : settings_.difficulty;
  std::vector<size_t> names(names_.size());
  for (size_t i = 0; i < names.size(); ++i) names[i] = i;
  std::vector<Event> events =
      settings_.kind == RecallTask::Kind::RECALL ? plan_recall(tokens, difficulty, names) : plan_passkey(tokens, names);
  // A question never comes before its fact: at the same place, facts first.
  std::stable_sort(events.begin(), events.end(),
                   [](const Event &a, const Event &b) { return std::pair(a.at, a.asks) < std::pair(b.at, b.asks); });
  Writer writer(*this, segment, segments);
  for (const Event &event : events) {
    writer.fill(static_cast<size_t>(event.at));
    const Name &name = names_[event.name];
    writer.put_phrase(event.asks                ? name.question
                      : random_.uniform() < 0.5 ? name.reminder
                                                : name.fact,
                      event.name, event.asks);
  }
  return writer.finish(difficulty.log_repeat);
}

std::string RecallSource::save() const { return save_random(random_); }

void RecallSource::restore(const std::string &state) { restore_random(*parse_state(state), random_); }

}  // namespace infini
