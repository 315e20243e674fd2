// What tests of training data share.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "adapt/recall_config.h"
#include "base/schema.h"
#include "base/status.h"
#include "model/model.h"
#include "support.h"
#include "text/tokenizer.h"
#include "train/sequence.h"
#include "train/supervisor.h"

namespace test {

inline const std::string words_path = INFINI_SOURCE_DIR "/samples/models/words2048.gguf";
inline const std::string stories_path = INFINI_SOURCE_DIR "/samples/models/stories260K.gguf";
inline const std::string novel_path = INFINI_SOURCE_DIR "/samples/texts/wuthering_heights.txt";

// Byte-level BPE with a token for each of many common words.
inline const infini::Model &words_model() {
  static const auto model = infini::Model::open(words_path, {});
  return *model;
}
inline const infini::Tokenizer &words() { return words_model().tokenizer(); }

// SentencePiece, with BOS and the space before a text.
inline const infini::Tokenizer &stories() {
  static const infini::Tokenizer tokenizer(infini::Gguf::open(stories_path));
  return tokenizer;
}

// The same sequence again and again.
class OneSequence : public infini::SequenceSource {
 public:
  explicit OneSequence(infini::Sequence sequence) : sequence_(std::move(sequence)) {}
  infini::Sequence next(int, int) override { return sequence_; }
  std::string save() const override { return ""; }
  void restore(const std::string &) override {}

 private:
  const infini::Sequence sequence_;
};

// Supervision of retrievals that weighs a head's queries alike: `weights` [layers][heads], which must outlive it.
class RetrievalWeights : public infini::SupervisionWeights {
 public:
  RetrievalWeights(const std::vector<float> &weights, int heads) : weights_(weights), heads_(heads) {}
  bool supervises(int layer, int head) const override { return of(layer, head) != 0; }
  bool supervises_locally(int, int) const override { return false; }
  float retrieval(const infini::BatchLayout &, const infini::Retrieval &query, int layer, int head) const override {
    return of(layer, head) * query.weight;
  }
  float silence(const infini::BatchLayout &, int64_t, int, int) const override { return 0; }
  float local(const infini::BatchLayout &, int64_t, int, int) const override { return 0; }

 private:
  float of(int layer, int head) const { return weights_[static_cast<size_t>(layer * heads_ + head)]; }
  const std::vector<float> &weights_;
  const int heads_;
};

// What an action says when it fails; "" if it does not.
template <class Action>
std::string error_of(const Action &action) {
  try {
    action();
  } catch (const infini::Error &error) { return error.what(); }
  return "";
}

inline infini::RecallConfig train_config(std::string_view json) {
  return infini::read_settings<infini::RecallConfig>(
      *infini::parse_json(json, infini::Status::INVALID_ARGUMENT, "the training configuration"), "train");
}

// Links a token to an earlier one, and to all that this one is linked to; in ascending order of `from`.
inline void link(infini::Sequence &sequence, int32_t from, int32_t to) {
  const std::span<const infini::Link> links = sequence.links_of(to);
  const std::vector<infini::Link> farther(links.begin(), links.end());
  sequence.links.push_back({from, to});
  for (const infini::Link &link : farther) sequence.links.push_back({from, link.to});
}

// The labels, or the offsets, of a sequence's tags.
inline std::vector<int32_t> tag_numbers(const infini::Sequence &sequence, int32_t infini::Tag::*number) {
  std::vector<int32_t> numbers;
  for (const infini::Tag &tag : sequence.tags) numbers.push_back(tag.*number);
  return numbers;
}
inline std::vector<int32_t> labels_of(const infini::Sequence &s) { return tag_numbers(s, &infini::Tag::label); }
inline std::vector<int32_t> offsets_of(const infini::Sequence &s) { return tag_numbers(s, &infini::Tag::offset); }

// Of each token the nearest one that it is linked to; -1: none.
inline std::vector<int32_t> nearest_links(const infini::Sequence &sequence) {
  std::vector<int32_t> nearest(sequence.tokens.size(), -1);
  for (const infini::Link &link : sequence.links) {
    int32_t &to = nearest[static_cast<size_t>(link.from)];
    to = std::max(to, link.to);
  }
  return nearest;
}

}  // namespace test
