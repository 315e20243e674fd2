// The pass key task: filler, a key somewhere in it, and a question at the end.
//
// The library has such a task too, for training (lib/adapt/recall_source.h, a source of type "passkey"). It can't stand
// for this one, which measures: a sequence of training lies in memory, but a prompt here has any length, and trials
// share its beginning; training needs a token for each digit, but every tokenizer is measured; and training is told the
// right digits before the one that it predicts, but here the model writes all five. Its random numbers are its own,
// because others would put other keys at other places into the tables that were measured with them. The words are the
// same (lib/adapt/passkey_words.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "handles.h"

namespace cli {

using Tokens = std::vector<int32_t>;

// Tokens as stretches of texts that repeat for ever: a prompt of any length in little memory.
class Prompt {
 public:
  void add(std::shared_ptr<const Tokens> text, int64_t first, int64_t count);
  void add(Tokens text);
  int64_t size() const { return size_; }
  Tokens slice(int64_t begin, int64_t count) const;

 private:
  struct Stretch {
    std::shared_ptr<const Tokens> text;
    int64_t first, count;
  };
  std::vector<Stretch> stretches_;
  int64_t size_ = 0;
};

struct PasskeyTrial {
  Prompt prompt;             // everything up to the key that is to be answered
  int64_t filler_first = 0;  // where in its text the filler begins
  int64_t prefix = 0;        // tokens before the first fact: equal in all trials with the same filler_first
  std::string key;           // the digits
  size_t answer_tokens = 0;  // that the key takes
};

class PasskeyTask {
 public:
  struct Settings {
    std::string filler;  // a file; "": the paper's sentences
    int64_t names = 1;   // keys in a prompt; one of them is asked for
    bool instruction = false, own_filler = false;
    uint64_t seed = 1;
  };
  // Prompts will have at most `longest` tokens, and less than a segment more.
  PasskeyTask(const infini_model *model, const Settings &settings, int64_t longest);

  // The same arguments, the same trial. At least `length` tokens, and less than a segment more, so that key and
  // question fall anywhere in theirs. The key that is asked for stands behind that share of the filler; others stand
  // anywhere.
  PasskeyTrial trial(int64_t length, double depth, int64_t number) const;

 private:
  struct Question {
    Tokens prompt;  // what the tokens of every answer have in common
    size_t answer_tokens = 0;
  };
  Tokens tokens(const std::string &text) const;
  Tokens fact(const std::string &name, const std::string &key) const;
  Question question(const std::string &name, const std::string &key) const;
  std::vector<std::string> choose_names(class PasskeyRandom &random) const;

  const infini_model *model_;
  Settings settings_;
  int64_t segment_;
  Tokens beginning_;  // BOS, where the model wants it, and the instruction
  std::shared_ptr<const Tokens> filler_;
  std::vector<std::string> names_;
};

}  // namespace cli
