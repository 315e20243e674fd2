// Documents from files, as tokens: plain text, and lines of JSON that say what is worth how much and what is to be looked up
// where.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer.h"
#include "train/sequence.h"

namespace infini {

// A part of a document as tokens.
struct DocumentPart {
  std::vector<int32_t> tokens;
  std::vector<float> weight;
  std::vector<Link> links;            // between tokens of the part, as in Sequence
  std::vector<int32_t> offset;        // of tokens that are linked, as in Sequence; empty where there are no links
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
  UnknownText unknown = UnknownText::FAIL;
};

// Each file is a document. Ends with the model's end token, where it has one. Errors: as of TextFile; FORMAT if no file
// holds text.
std::unique_ptr<DocumentReader> read_texts(const Tokenizer &tokenizer, const TextSettings &settings);

// Each line is a document, {"text": "...", "spans": [[begin, end, weight], ...], "links": [[from_begin, from_end, to_begin,
// to_end, weight], ...]}, of which the text must be there. All places are bytes of its UTF-8.
//
//   spans  a token is worth what the last span that holds its last byte says
//   links  what is predicted in `from` is to be looked up in `to`, which lies before it. Either stands for all tokens that
//          hold a byte of it. Where both have equally many, the first is linked to the first, the second to the second,
//          ...; else each of `from` to the last of `to`, which has read all of it. Of links between the same two tokens the
//          greatest weight counts. The offset of a token is its index in `from` or `to`
//
// Other fields do not matter. FORMAT names the file and the line that is not so.
std::unique_ptr<DocumentReader> read_jsonl(const Tokenizer &tokenizer, const TextSettings &settings);

}  // namespace infini
