// Tasks that need a memory: facts give a name a value, questions ask for it later.
//
// A sequence is filler into which facts and questions are dropped:
//
//   The river key is 71432.        or   The river key is 71432. Remember it. 71432 is the river key.
//   What is the river key? The river key is 71432.
#pragma once

#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/random.h"
#include "text/tokenizer.h"
#include "adapt/curriculum.h"
#include "train/sequence.h"

namespace infini {

struct TaskSettings {
  // recall: as many names as the density says, each asked for about three times, at log-uniform distances.
  // passkey: `keys` facts within a stretch of the sequence, and questions at the end, for as many of them.
  enum class Kind { RECALL, PASSKEY } kind = Kind::RECALL;
  uint64_t seed = 1;
  std::vector<std::string> names, prose;
  double prose_share = 0.5, numbers = 0;
  Difficulty difficulty;  // unless a curriculum says otherwise
  double nearest = 12, far = 0;
  int64_t keys = 1, questions = 1;
  double depth_least = 0, depth_greatest = 1;
  int64_t carry = 0;
  // What predictions are worth. Given the digits before it, a digit is known by them too, whatever the name: the first one,
  // which has none, counts `first` times as much.
  double inside = 1, across = 3, first = 1, other = 0.15, other_share = 0.1;
  // Where attention supervision says to look. ALL: where the same digit stood. FIRST: the same for first digits alone,
  // those that only the name finds. VALUE: wherever digits of the same name stood, so that the name alone finds them: a
  // feature that has learned digit indices finds names no more, nor the other way round, because what ELU + 1 adds up are
  // sums.
  enum class Lookups { ALL, FIRST, VALUE } lookups = Lookups::ALL;

  template <class Visitor>
  void fields(Visitor &v) {
    constexpr double kMost = 1e6;
    v("type", kind, "recall|passkey",
      "recall: values of five digits are told under a name, in filler, and asked for later; passkey: questions at the "
      "end");
    v("seed", seed, 0, 0x1p63, "of what is drawn");
    v("names", names, "", "under which values are told; none: some fifty common words, those that are one token");
    v("prose", prose, "",
      "text files that are filler, held as tokens, once a trainer, without characters that have none");
    v("prose_share", prose_share, 0, 1, "of the sequences; in the others filler is the paper's sentences");
    v("numbers", numbers, 0, 1000, "of 1 to 6 digits, which are no values, among 1,000 tokens of filler");
    double repeats = std::exp(difficulty.fold);
    v("fold", repeats, 1, 1e12, "virtual length: a segment of filler counts up to so many times");
    difficulty.fold = std::log(repeats);
    if (kind == Kind::RECALL) {
      v("nearest", nearest, 1, 1e9, "tokens from a value to its question, at least");
      v("far", far, 0, 1,
        "share of the questions that follow at any distance alike; half where a sequence has one or two names");
      v("distance", difficulty.distance, 0, 1e9, "tokens from a value to its question, at most; 0: the sequence");
      v("density", std::tie(difficulty.density_least, difficulty.density_greatest), 1e-6, 1000,
        "values in 1,000 tokens, at least and at most, drawn log-uniformly for each sequence");
    } else {
      v("keys", keys, 1, 1000, "values that are told");
      v("questions", questions, 1, 1000, "at the end");
      v("depth", std::tie(depth_least, depth_greatest), 0, 1,
        "where values stand, from the beginning, 0, to the questions, 1");
    }
    v("carry", carry, 0, 1 << 24, "tokens before a segment that are in view too: as if they stood in the same one");
    v("inside", inside, 0, kMost, "loss weight of an answer's digits, the value told in the same segment");
    v("across", across, 0, kMost, "the same, told in another segment");
    v("lookups", lookups, "all|first|value",
      "where supervision says to look: where the same digit stood; first: for first digits alone; value: wherever the "
      "value's digits stood");
    v("first", first, 0, kMost, "times as much: an answer's first digit");
    v("other", other, 0, kMost, "loss weight of a random share of the other tokens");
    v("other_share", other_share, 0, 1, "that share");
  }
  void complete(const Fields &given);
};

// Prose as tokens, read once and shared by all sources that have the same files.
class ProseShelf {
 public:
  using Tokens = std::shared_ptr<const std::vector<int32_t>>;
  // Errors: as of TextFile; INVALID_ARGUMENT where there are files, but no text.
  Tokens of(const Tokenizer &tokenizer, const std::vector<std::string> &files);

 private:
  std::map<std::vector<std::string>, Tokens> read_;
};

// Text in which values have places, as tokens.
class Phrase {
 public:
  // `text` holds a run of five zeros for each value. INVALID_ARGUMENT if the tokenizer does not keep digits apart.
  Phrase(const Tokenizer &tokenizer, const std::string &text, int32_t zero);
  size_t size() const { return size_; }
  const std::vector<std::vector<int32_t>> &parts() const { return parts_; }  // a value stands between two of them

 private:
  std::vector<std::vector<int32_t>> parts_;
  size_t size_ = 0;
};

class TaskSource : public SequenceSource {
 public:
  static constexpr size_t kDigits = 5;

  // INVALID_ARGUMENT: a digit, or a name that was asked for, is not one token; there are too few names; ...
  // IO, INVALID_ARGUMENT: a prose file cannot be read, is empty, or is not UTF-8.
  // The curriculum (may be NULL) is looked at whenever a sequence is made; it must not change meanwhile. The tokenizer must
  // outlive the source. `shelf`: where the prose is; NULL: the source has its own.
  TaskSource(const Tokenizer &tokenizer, const TaskSettings &settings, std::shared_ptr<const Curriculum> curriculum,
             ProseShelf *shelf = nullptr);

  Sequence next(int segment, int segments) override;
  std::string save() const override;
  void restore(const std::string &state) override;  // FORMAT

  size_t names() const { return names_.size(); }

 private:
  using Value = std::array<int32_t, kDigits>;
  struct Name {
    int32_t token;
    Phrase fact, reminder, question;
  };
  struct Event {
    double at;  // tokens before it, if nothing else is in the way
    bool asks;
    size_t name;
  };
  class Writer;

  std::vector<Event> plan_recall(double tokens, const Difficulty &difficulty, std::vector<size_t> &names);
  std::vector<Event> plan_passkey(double tokens, std::vector<size_t> &names);

  const Tokenizer &tokenizer_;
  TaskSettings settings_;
  std::shared_ptr<const Curriculum> curriculum_;
  std::array<int32_t, 10> digits_;
  std::vector<Name> names_;  // "pass" first, if it is one of them
  bool has_pass_ = false;
  std::vector<int32_t> sentences_;
  ProseShelf::Tokens prose_;
  Random random_;
};

}  // namespace infini
