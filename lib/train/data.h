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
#include "text/tokenizer.h"
#include "train/sequence.h"

namespace infini {

// A part of a document as tokens.
struct DocumentPart {
  std::vector<int32_t> tokens;
  std::vector<float> weight;
  bool begins = false, ends = false;  // it is the document's first, last
};

// Documents one after the other, for ever.
class DocumentReader {
 public:
  virtual ~DocumentReader() = default;
  virtual DocumentPart next() = 0;
  virtual std::string save() const = 0;                // where next() goes on
  virtual void restore(const std::string &state) = 0;  // FORMAT
};

struct TextSettings {
  std::vector<std::string> files;
  double weight = 1;           // of each token; of those outside all spans
  std::string field = "text";  // of a line of JSONL, that holds the text
};

// Each file is a document. Ends with the model's end token, where it has one. Errors: as of TextFile; FORMAT if no file
// holds text.
std::unique_ptr<DocumentReader> read_texts(const Tokenizer &tokenizer, const TextSettings &settings);

// Each line is a document, {"text": "...", "spans": [[begin, end, weight], ...]}: spans, if there are any, are in bytes of
// the text's UTF-8, and a token is worth what the last span that holds its last byte says. Other fields do not matter.
// FORMAT names the file and the line that is not so.
std::unique_ptr<DocumentReader> read_jsonl(const Tokenizer &tokenizer, const TextSettings &settings);

// Documents packed into sequences.
class PackedSource : public SequenceSource {
 public:
  explicit PackedSource(std::unique_ptr<DocumentReader> reader)
      : reader_(std::move(reader)), before_(reader_->save()) {}
  Sequence next(int segment, int segments) override;
  std::string save() const override;
  void restore(const std::string &state) override;

 private:
  std::unique_ptr<DocumentReader> reader_;
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
