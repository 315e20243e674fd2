// Recall tasks, which need a memory: facts give a name a value of five digits, questions ask for it later.
//
// A sequence is filler with facts and questions in it:
//
//   The river key is 71432.        or   The river key is 71432. Remember it. 71432 is the river key.
//   What is the river key? The river key is 71432.
//
// It is made as a document, which links values to where they stood before and to their names.
#pragma once

#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/limits.h"
#include "base/random.h"
#include "base/task.h"
#include "text/tokenizer.h"
#include "adapt/curriculum.h"
#include "train/sequence.h"

namespace infini {

constexpr int kValueDigits = 5;
// A fact with its reminder has at most kFactTokens tokens, a question kQuestionTokens; kRoomTokens is what the task
// "recall" leaves for either, about the mean of a fact with its reminder.
constexpr int64_t kFactTokens = 32, kQuestionTokens = 20, kRoomTokens = 30;

struct RecallTask {
  // RECALL: as many facts as the density says, each asked for about three times, at log-uniform distances.
  // PASSKEY: `keys` facts within a stretch of the sequence, and `questions` at its end.
  enum class Kind { RECALL, PASSKEY } kind = Kind::RECALL;
  uint64_t seed = 1;
  std::vector<std::string> names, prose;
  double prose_share = 0.5, numbers = 0;
  Difficulty difficulty;  // unless a curriculum says otherwise
  double nearest = 12, far = 0;
  int64_t keys = 1, questions = 1;
  double depth_least = 0, depth_greatest = 1;
  int64_t carry = 0;
  // Loss weights. Later digits of an answer can be predicted from those before them, whatever the name; only the first
  // one needs the name, and its weight is `first` times that of the others.
  double inside = 1, across = 3, first = 1, other = 0.15, other_share = 0.1;
  // The targets of a supervised retrieval. ALL: the same digit of the value, wherever the value stood. FIRST: the same,
  // but first digits alone are supervised. VALUE: every digit of the value. Why VALUE: sigma(q) sigma(k) is a sum over
  // features, so that heads that are supervised to find the digit at one offset learn the offset, and never the name.
  enum class Lookups { ALL, FIRST, VALUE } lookups = Lookups::ALL;

  template <class Visitor>
  void fields(Visitor &v) {
    constexpr double kMost = 1e6;
    v.required("type", kind, "recall|passkey",
               "recall: facts, values of five digits under a name, stand in filler and are asked for later; passkey: "
               "all questions stand at the end");
    v("seed", seed, 0, 0x1p63, "of what is drawn");
    v("names", names, "", "of values; none: some fifty common words, of which those are used that are one token");
    v("prose", prose, "",
      "text files that are filler; a trainer holds their tokens once; characters that have none are left out");
    v("prose_share", prose_share, 0, 1,
      "share of the sequences whose filler is prose; in the others it is the sentences of the paper");
    v("numbers", numbers, 0, 1000, "numbers of 1 to 6 digits, which are no values, in 1,000 tokens of filler");
    double repeats = std::exp(difficulty.log_repeat);
    v("virtual_length", repeats, 1, 1e12, "a segment of filler counts in the memory as up to so many segments");
    difficulty.log_repeat = std::log(repeats);
    if (kind == Kind::RECALL) {
      v("nearest", nearest, 1, 1e9, "tokens from a value to its question, at least");
      v("far", far, 0, 1,
        "share of the questions whose distance is drawn uniformly; half where a sequence has one or two names");
      v("distance", difficulty.distance, 0, 1e9, "tokens from a value to its question, at most; 0: the sequence");
      v("density", std::tie(difficulty.density_least, difficulty.density_greatest), 1e-6, 1000,
        "values in 1,000 tokens, at least and at most, drawn log-uniformly for each sequence");
    } else {
      v("keys", keys, 1, 1000, "facts");
      v("questions", questions, 1, 1000, "questions at the end");
      v("depth", std::tie(depth_least, depth_greatest), 0, 1,
        "where facts stand, at least and at most, from the beginning, 0, to the questions, 1");
    }
    v("carry", carry, 0, kMostWindow,
      "tokens before a segment that local attention sees too: values there count as in the same segment");
    v("inside", inside, 0, kMost, "loss weight of the digits of an answer whose value stands in the same segment");
    v("across", across, 0, kMost, "the same where it stands in an earlier segment");
    v("lookups", lookups, "all|first|value",
      "targets of supervised retrievals; all: where the same digit stood; first: the same, for first digits alone; "
      "value: where any digit of the value stood");
    v("first", first, 0, kMost, "factor on the loss weight of the first digit of an answer");
    v("other", other, 0, kMost, "loss weight of a random share of all other tokens");
    v("other_share", other_share, 0, 1, "that share");
  }
  void complete(const Fields &given);
};

// Text files as tokens, read once and shared by all sources that name the same files.
class TokenCache {
 public:
  using Tokens = std::shared_ptr<const std::vector<int32_t>>;
  // Errors: as of TextFile; INVALID_ARGUMENT where there are files, but no text; CANCELLED by the task.
  Tokens of(const Tokenizer &tokenizer, const std::vector<std::string> &files, Task *task = nullptr);

 private:
  std::map<std::vector<std::string>, Tokens> read_;
};

// The tokens of a text with gaps where values stand.
class Phrase {
 public:
  // `text` holds a run of five zeros for each value. INVALID_ARGUMENT if the tokenizer does not keep digits apart.
  Phrase(const Tokenizer &tokenizer, const std::string &text, int32_t zero);
  size_t size() const { return size_; }
  const std::vector<std::vector<int32_t>> &parts() const { return parts_; }  // between two of them is a gap

 private:
  std::vector<std::vector<int32_t>> parts_;
  size_t size_ = 0;
};

class RecallSource : public SequenceSource {
 public:
  // INVALID_ARGUMENT: a digit, or a name in the settings, is not one token; there are too few names; ... IO,
  // INVALID_ARGUMENT: a prose file cannot be read, is empty, or is not UTF-8. The curriculum (may be null) is read by
  // next(), and must not change during it. The tokenizer must outlive the source. `cache`: of prose; null: the source
  // has its own.
  RecallSource(const Tokenizer &tokenizer, const RecallTask &settings, std::shared_ptr<const Curriculum> curriculum,
               TokenCache *cache = nullptr, Task *task = nullptr);

  Sequence next(int segment, int segments) override;
  std::string save() const override;
  void restore(const std::string &state) override;  // FORMAT

  size_t names() const { return names_.size(); }

 private:
  using Value = std::array<int32_t, kValueDigits>;
  struct Name {
    int32_t token;
    Phrase fact, reminder, question;
  };
  struct Event {
    double at;  // tokens before it, unless earlier events push it back
    bool asks;
    size_t name;
  };
  class Writer;

  std::vector<Event> plan_recall(double tokens, const Difficulty &difficulty, std::vector<size_t> &names);
  std::vector<Event> plan_passkey(double tokens, std::vector<size_t> &names);

  const Tokenizer &tokenizer_;
  RecallTask settings_;
  std::shared_ptr<const Curriculum> curriculum_;
  std::array<int32_t, 10> digits_;
  std::vector<Name> names_;  // first that of the paper, "pass", if it is among them
  bool has_passkey_name_ = false;
  std::vector<int32_t> sentences_;
  TokenCache::Tokens prose_;
  Random random_;
};

}  // namespace infini
