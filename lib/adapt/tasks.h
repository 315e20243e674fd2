// Tasks that need a memory: values that are told under a name, and asked for later.
//
// A sequence is filler into which facts and questions are dropped:
//
//   The river key is 71432.        or   The river key is 71432. Remember it. 71432 is the river key.
//   What is the river key? The river key is 71432.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "text/tokenizer.h"
#include "adapt/curriculum.h"
#include "train/sequence.h"

namespace infini {

struct TaskSettings {
  uint64_t seed = 1;
  // recall: as many names as the density says, each asked for about three times, at log-uniform distances.
  // passkey: `keys` facts within a stretch of the sequence, and questions at the end, for as many of them.
  enum class Kind { RECALL, PASSKEY } kind = Kind::RECALL;
  int64_t keys = 1, questions = 1;
  double depth_least = 0, depth_greatest = 1;  // the stretch, of the room before the questions
  double nearest = 12;                         // recall: the least distance, in tokens, at which a question follows
  double far = 0;     // recall: share of the questions that follow at any distance alike; half with one or two names
  int64_t carry = 0;  // tokens before a segment that are in view too: as if they stood in the same one
  std::vector<std::string> names;  // empty: some fifty common words, those that are one token
  std::vector<std::string> prose;  // files whose text is filler
  double prose_share = 0.5;  // of the sequences; in the others, and without files, filler is the paper's sentences
  double numbers = 0;        // of 1 to 6 digits, among 1,000 tokens of filler: what is no value, but looks like one
  Difficulty difficulty;     // unless a curriculum says otherwise
  // What predictions are worth: an answer's digits, where the value last stood in the same or in another segment than
  // the token before the digit; and a random share of all other tokens.
  // Given the digits before it, a digit is known by them too, whatever the name: the first one, which has none, counts
  // `first` times as much.
  double inside = 1, across = 3, first = 1, other = 0.15, other_share = 0.1;
  // Where attention supervision is told to look. ALL: where the same digit stood. FIRST: the same for first digits alone,
  // those that only the name finds. VALUE: wherever digits of the same name stood, so that the name alone finds them: a
  // feature that has learned places finds names no more, nor the other way round, because what ELU + 1 adds up are sums.
  enum class Lookups { ALL, FIRST, VALUE } lookups = Lookups::ALL;
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
