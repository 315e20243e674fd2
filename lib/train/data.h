// Sequences from texts: files that are read as a stream, for ever, and packed so that nothing is lost.
//
// A document that ends within a sequence is followed by the next one, with an empty memory; one that does not is gone
// on with in the next sequence, which begins with an empty memory too. Predicting a document's first token is worth 0.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "train/documents.h"

namespace infini {

// Documents packed into sequences. What links predict is an answer, and what they lead to is in view for so many tokens
// behind its segment as local attention carries. A link that a sequence's end cuts through is left out.
class PackedSource : public SequenceSource {
 public:
  explicit PackedSource(std::unique_ptr<DocumentReader> reader, int64_t carry = 0)
      : reader_(std::move(reader)), carry_(carry), before_(reader_->save()) {}
  Sequence next(int segment, int segments) override;
  std::string save() const override;
  void restore(const std::string &state) override;

 private:
  void mark_answers(Sequence &sequence, int segment) const;

  std::unique_ptr<DocumentReader> reader_;
  const int64_t carry_;
  std::string before_;  // the reader's place before part_
  DocumentPart part_;
  size_t at_ = 0;  // of part_, what is given next
};

// Excerpts of text files, each a document, from places drawn anew for every sequence; a longer file is drawn more often.
class ExcerptSource : public SequenceSource {
 public:
  ExcerptSource(const Tokenizer &tokenizer, const TextSettings &settings, uint64_t seed);
  Sequence next(int segment, int segments) override;
  std::string save() const override;
  void restore(const std::string &state) override;

 private:
  const Tokenizer &tokenizer_;
  TextSettings settings_;
  std::vector<double> ends_;  // of each file, when all lie end to end, in bytes
  Random random_;
};

// Every sequence is one of several sources', drawn by their ratios.
class Mixture : public SequenceSource {
 public:
  struct Part {
    double ratio;
    std::unique_ptr<SequenceSource> source;
  };
  Mixture(std::vector<Part> parts, uint64_t seed);
  Sequence next(int segment, int segments) override;
  std::string save() const override;
  void restore(const std::string &state) override;  // after a failure nothing can be relied on

 private:
  std::vector<Part> parts_;
  Random random_;
};

}  // namespace infini
