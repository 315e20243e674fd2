// Sources of sequences that read texts over and over, and one that draws from several others.
//
// Where a document ends within a sequence, the next one follows, with an empty memory. A document that is longer than
// the sequence goes on in the next one, which begins with an empty memory too.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "train/document_files.h"

namespace infini {

// Documents packed into sequences, one after the other. `carry`: as of append().
class PackedSource : public SequenceSource {
 public:
  explicit PackedSource(std::unique_ptr<DocumentReader> reader, int64_t carry = 0)
      : reader_(std::move(reader)), carry_(carry), before_(reader_->save()) {}
  Sequence next(int segment, int segments) override;
  std::string save() const override;
  void restore(const std::string &state) override;

 private:
  std::unique_ptr<DocumentReader> reader_;
  const int64_t carry_;
  std::string before_;  // state of the reader before it gave piece_
  Document piece_;
  size_t at_ = 0;  // token of piece_ that comes next
};

// Excerpts of text files, each a document, which begin near a byte that is drawn uniformly over all files.
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

// Every sequence comes from one of several sources, which is drawn with a probability proportional to its ratio.
class MixedSource : public SequenceSource {
 public:
  struct Part {
    double ratio;
    std::unique_ptr<SequenceSource> source;
  };
  MixedSource(std::vector<Part> parts, uint64_t seed);
  Sequence next(int segment, int segments) override;
  std::string save() const override;
  void restore(const std::string &state) override;  // after a failure nothing can be relied on

 private:
  std::vector<Part> parts_;
  Random random_;
};

}  // namespace infini
